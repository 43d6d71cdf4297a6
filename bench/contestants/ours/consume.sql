SELECT coalesce(array_agg(position), '{}') AS positions, sum(length(data::text)) AS bytes
FROM es_fetch('bench', 'consumer-' || :client_id::text, 100) \gset
SELECT es_ack('bench', 'consumer-' || :client_id::text, :positions::bigint[]);
