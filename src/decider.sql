/* The command side. */

CREATE FUNCTION @extschema@.es_create_decider(category text, decide regprocedure) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_decider(text, regprocedure) IS
    'Defines, or defines anew, the function that decides on the commands of a category: (state jsonb, command text, payload jsonb) RETURNS jsonb, an array of events, empty for nothing to do; it raises what it refuses. Only the store''s owner may, and the function runs with the owner''s rights';

CREATE FUNCTION @extschema@.es_execute(
    stream text,
    command text,
    payload jsonb DEFAULT '{}',
    expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_execute(text, text, jsonb, bigint, jsonb) IS
    'Loads a stream, lets its category''s decider decide on a command, appends the events and returns the stream''s version. Commands on one stream never conflict: they wait for each other, and decide on what they find then. metadata goes into every event. Errors of the decider pass through; ZE001 only for a given expected_version. For whoever may append';
