SELECT count(*), max(position) FROM events WHERE position > :after;
