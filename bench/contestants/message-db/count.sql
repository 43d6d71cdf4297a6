SELECT count(*), max(global_position) FROM message_store.messages WHERE global_position > :after;
