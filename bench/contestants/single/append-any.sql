-- The loser of a race inserts nothing, and its next transaction is the next try.
INSERT INTO events (stream, version, type, data)
SELECT 'Order-' || :stream::text, coalesce(max(version), 0) + 1, 'ItemAdded', :data
FROM events WHERE stream = 'Order-' || :stream::text
ON CONFLICT DO NOTHING;
