/* Appending. */

CREATE FUNCTION @extschema@.es_append(
    stream text,
    type text,
    data jsonb DEFAULT '{}',
    expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_append(text, text, jsonb, bigint, jsonb, uuid, text[]) IS
    'Appends an event and returns the stream''s new version. expected_version: NULL any, 0 a new stream, n exactly n, -1 one that exists; else ZE001. The same event_id again, with the same type and data, changes nothing; with others ZE003. Not an event: ZE006';

CREATE FUNCTION @extschema@.es_append_events(
    stream text,
    events jsonb,
    expected_version bigint DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_append_events(text, jsonb, bigint) IS
    'Appends an array of objects with the keys type (required), data, metadata, event_id, tags as events, all or none, and returns the stream''s new version. Errors as for es_append()';
