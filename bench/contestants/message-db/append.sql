SELECT write_message('a1b2c3d4-e5f6-4a7b-8c9d-' || :digits12::text, 'Order-' || :stream::text,
                     'ItemAdded', :data, NULL, :version - 1);
