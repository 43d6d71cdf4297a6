SET search_path = message_store, public;
SELECT format($$
  INSERT INTO messages (stream_name, position, type, data)
  WITH e AS MATERIALIZED (SELECT * FROM bench.events(%L, %s, %s))
  SELECT 'Order-' || s, e.version - 1, e.type, e.data
  FROM generate_series(%s::bigint, %s) s CROSS JOIN e $$,
  :'shape', from_version, to_version, :first, :first + :streams - 1)
FROM bench.steps(:events) \gexec
