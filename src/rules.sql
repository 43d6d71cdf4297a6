
/* Rules: how events change a state, said in JSON. */

CREATE FUNCTION @extschema@.es_apply_rules(rules jsonb, state jsonb, event @extschema@.es_event)
    RETURNS jsonb
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'es_apply_rules';

COMMENT ON FUNCTION @extschema@.es_apply_rules(jsonb, jsonb, @extschema@.es_event) IS
    'The state after an event by these rules: tries rules without a store. An event type that the rules don''t name leaves the state alone. Errors: 22023 for rules that cannot be, 22033, 22036, 22039, 2203C and 22003 for an event that they cannot be applied to';
