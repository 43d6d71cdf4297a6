-- By hand, in a loop over the events.
DO $$
DECLARE
  e record;
BEGIN
  TRUNCATE totals;
  FOR e IN SELECT stream, data FROM events ORDER BY position LOOP
    INSERT INTO totals AS t VALUES (e.stream, 1, (e.data ->> 'amount')::bigint)
    ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount;
  END LOOP;
END $$;
