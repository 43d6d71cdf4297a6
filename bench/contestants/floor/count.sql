SELECT count(*), max(position) FROM events;
