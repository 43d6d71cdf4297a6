INSERT INTO events (stream, version, type, data)
SELECT 'Order-' || :stream::text, :version + e.n, e.type, e.data
FROM unnest(:types::text[], :datas::jsonb[]) WITH ORDINALITY AS e(type, data, n)
WHERE :version = (SELECT coalesce(max(version), 0) FROM events WHERE stream = 'Order-' || :stream::text);
