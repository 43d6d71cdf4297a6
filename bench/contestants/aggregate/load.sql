SELECT fold(type, data ORDER BY version) FROM events WHERE stream = 'Order-' || :stream::text;
