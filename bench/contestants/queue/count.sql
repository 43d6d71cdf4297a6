SELECT count(*), max(position) FROM queue;
