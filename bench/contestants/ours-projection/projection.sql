\ir ../floor/projection.sql

SELECT es_create_projection('totals', granularity => :'granularity', tables => '{totals}', script => $$
  INSERT INTO totals AS t SELECT stream, count(*), sum((data ->> 'amount')::bigint) FROM new_events GROUP BY stream
  ON CONFLICT (stream) DO UPDATE SET events = t.events + EXCLUDED.events, amount = t.amount + EXCLUDED.amount
$$);
