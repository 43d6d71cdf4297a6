SELECT append('Order-' || :stream::text, :types::text[], :datas::jsonb[], :version);
