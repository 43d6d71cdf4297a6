INSERT INTO events (stream, version, type, data)
SELECT 'Order-' || :stream::text, :version + 1, 'ItemAdded', :data
WHERE :version = (SELECT coalesce(max(version), 0) FROM events WHERE stream = 'Order-' || :stream::text);
