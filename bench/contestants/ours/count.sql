SELECT count(*), max(position) FROM es.events WHERE position > :after;
