SELECT load('Order-' || :stream::text);
