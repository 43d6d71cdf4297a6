SELECT format($$
  INSERT INTO queue (stream, version, type, data)
  WITH e AS MATERIALIZED (SELECT * FROM bench.events(%L, %s, %s))
  SELECT 'Order-' || s, e.version, e.type, e.data
  FROM generate_series(%s::bigint, %s) s CROSS JOIN e $$,
  :'shape', from_version, to_version, :first, :first + :streams - 1)
FROM bench.steps(:events) \gexec
