SELECT format($$
  SELECT count(es_append_events('Order-' || s, (
    SELECT jsonb_agg(jsonb_build_object('type', type, 'data', data) ORDER BY version)
    FROM bench.events(%L, %s, %s))))
  FROM generate_series(%s::bigint, %s) s $$,
  :'shape', from_version, to_version, :first, :first + :streams - 1)
FROM bench.steps(:events) \gexec
