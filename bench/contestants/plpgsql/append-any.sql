SELECT append('Order-' || :stream::text, 'ItemAdded', :data::jsonb, NULL);
