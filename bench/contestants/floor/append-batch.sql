INSERT INTO events (stream, version, type, data)
SELECT 'Order-' || :stream::text, :version + e.n, e.type, e.data
FROM unnest(:types::text[], :datas::jsonb[]) WITH ORDINALITY AS e(type, data, n);
