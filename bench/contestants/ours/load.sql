SELECT state FROM es_load('Order-' || :stream::text);
