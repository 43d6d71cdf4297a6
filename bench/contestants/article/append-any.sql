-- A client would get 23505 and try again.  pgbench would give up, so here the
-- loser inserts nothing, and its next transaction is the next try.
BEGIN;
SELECT coalesce(max(version), 0) AS current FROM events WHERE stream = 'Order-' || :stream::text \gset
INSERT INTO events (stream, version, type, data)
VALUES ('Order-' || :stream::text, :current + 1, 'ItemAdded', :data)
ON CONFLICT DO NOTHING;
COMMIT;
