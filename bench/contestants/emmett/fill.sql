INSERT INTO emt_streams (stream_id, stream_position, partition, stream_type, stream_metadata, is_archived)
SELECT 'Order-' || s, :events, 'emt:default', 'Order', '{}', false
FROM generate_series(:first, :first + :streams - 1) s;
SELECT format($$
  INSERT INTO emt_messages (stream_id, stream_position, partition, message_data, message_metadata,
    message_schema_version, message_type, message_kind, message_id, transaction_id)
  WITH e AS MATERIALIZED (SELECT * FROM bench.events(%L, %s, %s))
  SELECT 'Order-' || s, e.version, 'emt:default', e.data, '{"messageId": "a1b2c3d4-e5f6-4a7b-8c9d-123456789012"}',
    '1', e.type, 'E', gen_random_uuid(), pg_current_xact_id()
  FROM generate_series(%s::bigint, %s) s CROSS JOIN e $$,
  :'shape', from_version, to_version, :first, :first + :streams - 1)
FROM bench.steps(:events) \gexec
