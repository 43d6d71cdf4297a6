/* Projections. */

CREATE FUNCTION @extschema@.es_project() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_project() IS
    'Trigger: has the inline projections take in what was appended';

CREATE FUNCTION @extschema@.es_create_projection(
    name text,
    script text,
    tables regclass[],
    types text[] DEFAULT NULL,
    mode text DEFAULT 'inline',
    granularity text DEFAULT 'event',
    replay boolean DEFAULT true
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_projection(text, text, regclass[], text[], text, text, boolean) IS
    'Creates a projection: SQL statements over new_events that maintain tables, in the appending transaction (mode inline) or after it (async). granularity: new_events holds one event (event), at most one of each stream (stream), or all there are (batch). replay: takes in the history first. Only the store''s owner may, and the script runs with the owner''s rights. 42710 where there is one of that name, 22023 for an empty list of types';

CREATE FUNCTION @extschema@.es_alter_projection(
    name text,
    script text DEFAULT NULL,
    types text[] DEFAULT NULL,
    granularity text DEFAULT NULL,
    rebuild boolean DEFAULT false
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_alter_projection(text, text, text[], text, boolean) IS
    'Changes a projection from the next event on; what is not given stays, and only here types ''{}'' means all of them again. rebuild: the change takes effect with the next es_rebuild(), for the whole history at once, and until then the projection goes on as it is';

CREATE FUNCTION @extschema@.es_pause_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_pause_projection(text) IS
    'Pauses a projection: its tables stay as they are, and appends do without it. It misses nothing, see es_resume_projection()';

CREATE FUNCTION @extschema@.es_resume_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_resume_projection(text) IS
    'Resumes a projection that was paused: an inline one takes in what was appended since, and runs inline again; an async one is due at once, also if it had failed';

CREATE FUNCTION @extschema@.es_drop_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_projection(text) IS
    'Drops a projection. Its tables stay as they are';

CREATE FUNCTION @extschema@.es_install_projections(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    events regclass := format('%I.events', name);
    wanted boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.projection_definitions WHERE mode = ''inline'')', name)
       INTO wanted;
    IF wanted = EXISTS (SELECT FROM pg_trigger WHERE tgrelid = events AND tgname = 'es_project' AND tgenabled IN ('O', 'A')) THEN
        RETURN;
    ELSIF wanted THEN
        -- anew where it is disabled
        EXECUTE format($ddl$
            CREATE OR REPLACE TRIGGER es_project
                AFTER INSERT ON %1$s REFERENCING NEW TABLE AS new_events
                FOR EACH STATEMENT EXECUTE FUNCTION %2$s.es_project()
        $ddl$, events, '@extschema@');
    ELSE
        EXECUTE format('DROP TRIGGER es_project ON %s', events);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_projections(name) IS
    'Internal: puts the trigger of a store''s inline projections in place while there are any; called when that changes, and by es_install_store()';

/*
 * They read the bookkeeping, on which nobody has rights, as their owner.
 */
CREATE FUNCTION @extschema@.es_install_projection_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.projections AS
            SELECT d.name,
                   d.mode,
                   d.granularity,
                   CASE WHEN d.state <> 'paused' AND c.failures > 0 THEN 'failed' ELSE d.state END AS state,
                   p.position,
                   greatest(h.head - p.position, 0) AS lag,
                   CASE WHEN NOT row_security_active(%2$L::regclass) THEN c.last_error END AS last_error,
                   (SELECT greatest(now() - e.recorded_at, '0')
                      FROM %1$I.events e
                     WHERE e.position > p.position
                     ORDER BY e.position
                     LIMIT 1) AS lag_time,
                   CASE WHEN d.mode = 'async' THEN c.events END AS events,
                   c.failures,
                   CASE WHEN d.state <> 'paused' THEN c.retry_at END AS retry_at,
                   d.next_script IS NOT NULL AS altered,
                   d.tables,
                   d.types,
                   d.created_at
              FROM %1$I.projection_definitions d
              JOIN %1$I.projection_cursors c USING (name)
             CROSS JOIN (SELECT coalesce(max(e.position), 0) AS head
                           FROM %1$I.events e) h
             CROSS JOIN LATERAL (SELECT CASE WHEN d.mode = 'inline' AND d.state = 'running'
                                             THEN h.head ELSE c.position END) p (position);
        COMMENT ON VIEW %1$I.projections IS
            'Every projection: its tables have taken in all events up to position; lag is how far behind the log''s head that is, lag_time how old the first event is that is missing. last_error is for those to whom no row security applies, as it may tell of any event. events: taken in so far, counted for async ones only. altered: es_alter_projection() has a change waiting for es_rebuild()';

        CREATE OR REPLACE VIEW %1$I.progress AS
            SELECT r.projection AS name,
                   'rebuild'::text AS kind,
                   CASE WHEN EXISTS (
                       SELECT FROM pg_locks l
                         JOIN pg_class c ON c.oid = l.classid
                        WHERE l.locktype = 'advisory' AND l.objsubid = 8192
                          AND c.relname = 'events' AND c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %1$L)
                          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                          AND l.objid::bigint = hashtext(r.projection)::bigint & 4294967295)
                        THEN r.phase ELSE 'interrupted' END AS phase,
                   r.done,
                   r.total,
                   r.started_at,
                   s.rate,
                   CASE WHEN s.rate > 0
                        THEN r.updated_at + greatest(r.total - r.done, 0) / s.rate * interval '1 second'
                    END AS estimated_end
              FROM %1$I.rebuilds r
             CROSS JOIN LATERAL (SELECT r.done / nullif(extract(epoch FROM r.updated_at - r.started_at), 0)) s (rate);
        COMMENT ON VIEW %1$I.progress IS
            'Long work under way, such as rebuilds: its phase (interrupted: its session has gone, and the next es_rebuild() starts anew), events done and in total, events a second'
    $ddl$, name, format('%I.events', name));
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_projection_views(name) IS
    'Internal: puts the views of a store''s projections in place; called by es_install_store()';
