CREATE EXTENSION eventsourcing;
SELECT es_create_store();
