SELECT es_append('Order-' || :stream::text, 'ItemAdded', :data);
