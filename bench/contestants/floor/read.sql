SELECT * FROM events WHERE stream = 'Order-' || :stream::text ORDER BY version;
