-- The exporter's role: sees how far everything is, and no event.
-- Run as a superuser in the database of the store es.
CREATE ROLE es_monitor LOGIN;
GRANT pg_monitor TO es_monitor;
GRANT USAGE ON SCHEMA es TO es_monitor;
GRANT SELECT ON es.open_appends, es.projections, es.subscriptions, es.parked, es.progress TO es_monitor;
GRANT SELECT (at, due, attempts) ON es.timers TO es_monitor;
GRANT SELECT ON SEQUENCE es.events_position_seq TO es_monitor;
