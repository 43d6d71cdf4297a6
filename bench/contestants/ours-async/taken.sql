-- How many events the projection had taken in when the last one was appended.
SELECT coalesce(sum(events), 0), 0 FROM slices WHERE at <= (SELECT max(recorded_at) FROM es.events);
