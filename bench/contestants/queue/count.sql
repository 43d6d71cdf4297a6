SELECT count(*), max(position) FROM queue WHERE position > :after;
