SELECT count(*), max(position) FROM es.events;
