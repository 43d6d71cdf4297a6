/* Bringing in events that another store recorded. */

CREATE FUNCTION @extschema@.es_import_event(
    stream text,
    version bigint,
    type text,
    data jsonb,
    recorded_at timestamptz,
    metadata jsonb DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_import_event(text, bigint, text, jsonb, timestamptz, jsonb, uuid, text[]) IS
    'Appends an event that another store recorded, with its version, time and metadata as they were, and returns the stream''s new version. ZE001 unless version is the stream''s next, 22023 for a time before that of the version before. Bulk: COPY into a table of your own, then SELECT es_import_event(...) FROM it ORDER BY stream, version. For the store''s owner';

CREATE FUNCTION @extschema@.es_import_events(events jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
    result bigint;
BEGIN
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'events must be a JSON array of objects'
            USING ERRCODE = 'ZE006',
                  HINT = 'Each with the keys stream, version, type, data, recorded_at, and optionally metadata, event_id, tags.';
    END IF;
    SELECT k.key INTO unknown
      FROM jsonb_array_elements(events) e
     CROSS JOIN LATERAL jsonb_object_keys(e.value) k (key)
     WHERE k.key NOT IN ('stream', 'version', 'type', 'data', 'recorded_at', 'metadata', 'event_id', 'tags', 'position')
     LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown key "%" of an event', unknown
            USING ERRCODE = 'ZE006',
                  HINT = 'The keys are stream, version, type, data, recorded_at, metadata, event_id, tags; position is ignored.';
    END IF;
    -- jsonb_to_record() makes NULL of JSON's null, which is data like any other.
    SELECT count(@extschema@.es_import_event(e.stream, e.version, e.type, e.data, e.recorded_at,
                                             e.metadata, e.event_id, e.tags))
      INTO result
      FROM (SELECT r.*, j.event -> 'data' AS data
              FROM jsonb_array_elements(events) WITH ORDINALITY j (event, ordinal)
             CROSS JOIN LATERAL jsonb_to_record(j.event)
                   r (stream text, version bigint, type text, recorded_at timestamptz,
                      metadata jsonb, event_id uuid, tags text[])
             ORDER BY j.ordinal) e;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_import_events(jsonb) IS
    'es_import_event() for an array of objects, such as SELECT jsonb_agg(e ORDER BY position) FROM es.events e of another store makes it; returns how many there were';
