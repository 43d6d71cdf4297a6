/* Snapshots. */

CREATE FUNCTION @extschema@.es_snapshot(stream text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_snapshot(text) IS
    'Takes a snapshot of a stream as it is now and returns its version, 0 for a stream without events. For whoever may append. 42704 where the category has no aggregate';

CREATE FUNCTION @extschema@.es_drop_snapshots(category text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_snapshots(text) IS
    'Drops the snapshots of a category, or all of the store, and returns how many there were. Nothing is lost: a snapshot is a cache. For the store''s owner';
