BEGIN;
SELECT coalesce(max(version), 0) AS current FROM events WHERE stream = 'Order-' || :stream::text \gset
INSERT INTO events (stream, version, type, data)
VALUES ('Order-' || :stream::text, :current + 1, 'ItemAdded', :data);
COMMIT;
