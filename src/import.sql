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
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_import_events(jsonb) IS
    'es_import_event() for an array of objects, such as SELECT jsonb_agg(e ORDER BY position) FROM es.events e of another store makes it; returns how many there were. ZE006 for what is no event; CONTEXT names the element';
