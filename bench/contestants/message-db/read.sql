SELECT * FROM get_stream_messages('Order-' || :stream::text, 0, -1);
