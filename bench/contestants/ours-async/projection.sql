\ir ../floor/projection.sql

-- When each slice was taken in.
CREATE TABLE slices (events bigint, at timestamptz);

SELECT es_create_projection('totals', mode => 'async', granularity => 'batch', tables => '{totals,slices}', script => $$
  INSERT INTO totals AS t SELECT stream, count(*), sum((data ->> 'amount')::bigint) FROM new_events GROUP BY stream
  ON CONFLICT (stream) DO UPDATE SET events = t.events + EXCLUDED.events, amount = t.amount + EXCLUDED.amount;
  INSERT INTO slices SELECT count(*), clock_timestamp() FROM new_events
$$);
