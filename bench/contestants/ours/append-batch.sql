SELECT es_append_events('Order-' || :stream::text, :batch, :version);
