SELECT count(*), max(global_position) FROM emt_messages WHERE global_position > :after;
