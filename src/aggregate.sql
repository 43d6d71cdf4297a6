/* Aggregates. */

CREATE FUNCTION @extschema@.es_create_aggregate(
    category text,
    apply regprocedure DEFAULT NULL,
    rules jsonb DEFAULT NULL,
    initial jsonb DEFAULT '{}',
    snapshot_every int DEFAULT 100,
    code_version int DEFAULT 1
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_aggregate(text, regprocedure, jsonb, jsonb, int, int) IS
    'Defines, or defines anew, how the events of a category fold into state: by an apply function (state jsonb, event es_event) RETURNS jsonb, or by rules. Only the store''s owner may, and the function runs with the owner''s rights';
