/* Handlers. */

CREATE FUNCTION @extschema@.es_create_handler(
    name text,
    script text,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL,
    after bigint DEFAULT 0,
    max_attempts int DEFAULT 10,
    backoff interval DEFAULT '1 second',
    max_backoff interval DEFAULT '10 minutes'
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_handler(text, text, text, text[], text[], bigint, int, interval, interval) IS
    'Creates a handler: SQL statements over new_events, which holds one event, that react to it after its commit, exactly once for what they write to this database. They may append events and schedule timers; what they append names the event as its cause. It is a subscription that the worker or es_run() consumes, with the options of one: after => es_safe_position() starts with what comes next instead of the history. Only the store''s owner may, and the script runs with the owner''s rights. 42710 where there is a subscription of that name; es_drop_subscription() drops it';
