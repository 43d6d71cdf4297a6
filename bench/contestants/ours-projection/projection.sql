\ir ../floor/projection.sql

-- Each as one writes it: one event of a stream at a time, or many at once.
SELECT :'granularity' = 'batch' AS in_bulk \gset
\if :in_bulk
SELECT es_create_projection('totals', granularity => :'granularity', tables => '{totals}', script => $$
  INSERT INTO totals AS t SELECT stream, count(*), sum((data ->> 'amount')::bigint) FROM new_events GROUP BY stream
  ON CONFLICT (stream) DO UPDATE SET events = t.events + EXCLUDED.events, amount = t.amount + EXCLUDED.amount
$$);
\else
SELECT es_create_projection('totals', granularity => :'granularity', tables => '{totals}', script => $$
  INSERT INTO totals AS t SELECT stream, 1, (data ->> 'amount')::bigint FROM new_events
  ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount
$$);
\endif
