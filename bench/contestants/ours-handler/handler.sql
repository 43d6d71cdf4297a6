CREATE TABLE handled (position bigint, latency interval);

SELECT es_create_handler('bench', $$
  INSERT INTO handled SELECT position, clock_timestamp() - recorded_at FROM new_events
$$);
