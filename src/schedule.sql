/* Timers. */

CREATE FUNCTION @extschema@.es_schedule(
    at timestamptz,
    stream text,
    type text,
    data jsonb DEFAULT '{}',
    key text DEFAULT NULL
) RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_schedule(timestamptz, text, text, jsonb, text) IS
    'Has an event appended at a time, exactly once, with the caller''s rights and the context of now; at once where the time has passed. Returns the key, a new one where none is given. A key has 1 to 1024 bytes; one that is scheduled already is scheduled anew. es_run() or the worker appends it';

CREATE FUNCTION @extschema@.es_cancel(key text) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_cancel(text) IS
    'Cancels what es_schedule() scheduled under the key; false where there is nothing, any more or ever. Waits for one that is being appended just now';

CREATE FUNCTION @extschema@.es_install_timer_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.scheduled WITH (security_barrier) AS
            SELECT t.key, t.at, t.stream, t.type, t.data, t.metadata, t.role, t.attempts, t.error, t.due
              FROM %1$I.timers t
             WHERE pg_has_role(to_regrole(quote_ident(t.role)), 'USAGE')
                OR pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = %2$L::regclass), 'USAGE');
        COMMENT ON VIEW %1$I.scheduled IS
            'Events that es_schedule() is going to append: the caller''s own, all of them for the store''s owner'
    $ddl$, name, format('%I.events', name));
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_timer_views(name) IS
    'Internal: puts the view of a store''s timers in place; called by es_install_store()';
