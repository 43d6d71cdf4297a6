BEGIN;
SELECT coalesce(max(version), 0) AS current FROM events WHERE stream = 'Order-' || :stream::text \gset
INSERT INTO events (stream, version, type, data)
SELECT 'Order-' || :stream::text, :current + e.n, e.type, e.data
FROM unnest(:types::text[], :datas::jsonb[]) WITH ORDINALITY AS e(type, data, n);
COMMIT;
