-- No fold: a scan that touches the data.
SELECT count(data->>'amount') FROM events WHERE stream = 'Order-' || :stream::text;
