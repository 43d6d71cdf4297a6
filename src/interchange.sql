/* Events in formats of others. */

CREATE FUNCTION @extschema@.es_cloudevent(event @extschema@.es_event, source text DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
               'specversion', '1.0',
               'id', event.stream || '@' || event.version,
               'source', coalesce(source, format('/%s/%s', current_database(), @extschema@.es_current_store())),
               'type', event.type,
               'subject', event.stream,
               'time', to_char(event.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               'datacontenttype', 'application/json',
               -- an integer of CloudEvents has 32 bits
               'position', event.position::text,
               'version', event.version::text,
               'eventid', event.event_id,
               'actor', event.metadata ->> 'actor',
               'correlationid', event.metadata ->> 'correlation_id',
               'causationid', event.metadata ->> 'causation_id',
               'traceparent', event.metadata ->> 'traceparent'))
           || jsonb_build_object('data', event.data)
     WHERE event IS DISTINCT FROM NULL
$$;

COMMENT ON FUNCTION @extschema@.es_cloudevent(@extschema@.es_event, text) IS
    'An event as a CloudEvents 1.0 object in JSON. source defaults to /database/store; id is stream@version, unique within it; position, version and what metadata says of cause and trace are extension attributes';

CREATE FUNCTION @extschema@.es_cloudevents(
    after bigint DEFAULT 0,
    max_count bigint DEFAULT 1000,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL,
    source text DEFAULT NULL
) RETURNS TABLE ("position" bigint, event jsonb)
    LANGUAGE sql VOLATILE ROWS 1000
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.position, @extschema@.es_cloudevent(e, source)
      FROM @extschema@.es_read_all(after, max_count, category, types, tags) e
$$;

COMMENT ON FUNCTION @extschema@.es_cloudevents(bigint, bigint, text, text[], text[], text) IS
    'es_read_all() as CloudEvents 1.0, for a relay to a broker or a webhook: go on after the last position';

/* What a connector that reads an outbox expects, with Debezium's names. */
CREATE FUNCTION @extschema@.es_install_interchange_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.outbox WITH (security_invoker) AS
            SELECT coalesce(e.event_id, md5(e.stream || '@' || e.version)::uuid) AS id,
                   split_part(e.stream, '-', 1) AS aggregatetype,
                   CASE WHEN strpos(e.stream, '-') = 0 THEN e.stream
                        ELSE substr(e.stream, strpos(e.stream, '-') + 1) END AS aggregateid,
                   e.type,
                   e.data AS payload,
                   e.recorded_at AS "timestamp",
                   'traceparent=' || (e.metadata ->> 'traceparent') AS tracingspancontext,
                   e.position,
                   e.version
              FROM %1$I.events e;
        COMMENT ON VIEW %1$I.outbox IS
            'The log in the shape of an outbox, with the column names that Debezium''s event router expects. Read it up to es_safe_position()'
    $ddl$, name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_interchange_views(name) IS
    'Internal: puts the views of a store for other systems in place; called by es_install_store()';
