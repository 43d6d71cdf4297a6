SELECT * FROM es_read('Order-' || :stream::text);
