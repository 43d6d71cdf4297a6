WITH new_events AS (
  INSERT INTO events (stream, version, type, data)
  VALUES ('Order-' || :stream::text, :version + 1, 'ItemAdded', :data)
  RETURNING stream, data)
INSERT INTO totals AS t SELECT stream, 1, (data ->> 'amount')::bigint FROM new_events
ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount;
