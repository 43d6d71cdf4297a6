SELECT * FROM emt_append_to_stream(
  ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, :events)), :datas::jsonb[],
  array_fill(:metadata::jsonb, ARRAY[:events::int]), array_fill('1'::text, ARRAY[:events::int]),
  :types::text[], array_fill('E'::text, ARRAY[:events::int]),
  'Order-' || :stream::text, 'Order', :version, :partition);
