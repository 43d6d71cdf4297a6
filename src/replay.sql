/* The state of a stream. */

CREATE FUNCTION @extschema@.es_load(
    stream text,
    to_version bigint DEFAULT NULL,
    as_of timestamptz DEFAULT NULL,
    OUT version bigint,
    OUT state jsonb
) RETURNS record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_load(text, bigint, timestamptz) IS
    'The state of a stream and the version of the last event in it: now, up to to_version, or as it was at as_of. Version 0 and the initial state where there is no event. 42704 where the category has no aggregate';

CREATE FUNCTION @extschema@.es_replay(
    stream text,
    from_version bigint DEFAULT 1,
    to_version bigint DEFAULT NULL
) RETURNS TABLE (
    version bigint,
    type text,
    data jsonb,
    metadata jsonb,
    recorded_at timestamptz,
    state_before jsonb,
    state_after jsonb
)
    LANGUAGE c STABLE ROWS 100
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_replay(text, bigint, bigint) IS
    'The events of a stream with the state before and after each of them. 42704 where the category has no aggregate';
