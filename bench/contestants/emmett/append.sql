-- Its client sends this as text between BEGIN and COMMIT; prepared and alone is
-- kinder to it.
SELECT * FROM emt_append_to_stream(
  ARRAY['a1b2c3d4-e5f6-4a7b-8c9d-' || :digits12::text], ARRAY[:data::jsonb],
  ARRAY[:metadata::jsonb], ARRAY['1'], ARRAY['ItemAdded'], ARRAY['E'],
  'Order-' || :stream::text, 'Order', :version, :partition);
