/* Reading. */

CREATE FUNCTION @extschema@.es_read_support(internal) RETURNS internal
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read_support(internal) IS
    'Internal: planner support, how many rows to expect of es_read() and es_read_all()';

CREATE FUNCTION @extschema@.es_read(
    stream text,
    from_version bigint DEFAULT 1,
    to_version bigint DEFAULT NULL,
    max_count bigint DEFAULT NULL,
    backward boolean DEFAULT false
) RETURNS SETOF @extschema@.es_event
    LANGUAGE c STABLE ROWS 100
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read(text, bigint, bigint, bigint, boolean) IS
    'The events of a stream in the order of versions, from from_version to to_version, at most max_count of them; backward: newest first. No rows for a stream without events';

CREATE FUNCTION @extschema@.es_read_all(
    after bigint DEFAULT 0,
    max_count bigint DEFAULT 1000,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS SETOF @extschema@.es_event
    LANGUAGE c VOLATILE ROWS 1000
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read_all(bigint, bigint, text, text[], text[]) IS
    'Events of the store in the order of positions, those after "after", at most max_count: of one category, of any of the types (none of them for ''{}''), with all of the tags. Never past the safe position: who goes on from the last position it got misses nothing';

CREATE FUNCTION @extschema@.es_stream_version(stream text) RETURNS bigint
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_stream_version(text) IS
    'The version of a stream: the number of its events, 0 for none';

CREATE FUNCTION @extschema@.es_head_position() RETURNS bigint
    LANGUAGE c STABLE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_head_position() IS
    'The highest position of an event in the store, 0 for an empty one';

CREATE FUNCTION @extschema@.es_safe_position() RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_safe_position() IS
    'The highest position at or below which nothing can still commit. The view open_appends of the store names who holds it back. For readers of the store. In a copy of it, a standby or a logical subscriber, the watermark, see es_advance_watermark(); 0A000 and 55000 where there is none';
