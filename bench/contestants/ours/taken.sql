-- Nobody takes anything in: all that was appended.
SELECT count(*), 0 FROM es.events;
