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

CREATE FUNCTION @extschema@.es_alter_aggregate(
    category text,
    snapshot_every int DEFAULT NULL,
    snapshots_kept int DEFAULT NULL,
    code_version int DEFAULT NULL
) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    nrows int;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF category IS NULL THEN
        RAISE EXCEPTION 'category must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF snapshot_every < 0 OR snapshots_kept < 1 THEN
        RAISE EXCEPTION 'snapshot_every must not be negative, and snapshots_kept must be positive'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('snapshot_every: %s, snapshots_kept: %s.',
                                  coalesce(snapshot_every::text, 'as it is'), coalesce(snapshots_kept::text, 'as it is')),
                  HINT = 'Pass snapshot_every => 0 for no snapshots.';
    END IF;
    EXECUTE format('UPDATE %I.aggregates
                       SET snapshot_every = coalesce($2, snapshot_every),
                           snapshots_kept = coalesce($3, snapshots_kept),
                           code_version = coalesce($4, code_version)
                     WHERE category = $1', store)
      USING category, snapshot_every, snapshots_kept, code_version;
    GET DIAGNOSTICS nrows = ROW_COUNT;
    IF nrows = 0 THEN
        RAISE EXCEPTION 'no aggregate is defined for category "%"', category
            USING ERRCODE = 'undefined_object',
                  HINT = format('Define it with es_create_aggregate(%L, ...).', category);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_alter_aggregate(text, int, int, int) IS
    'Changes how often snapshots of a category are taken (0: never), how many of a stream are kept, or the code_version, which makes every older snapshot void; NULL leaves a value as it is. For apply, rules and initial call es_create_aggregate() again. For the store''s owner';

CREATE FUNCTION @extschema@.es_drop_aggregate(category text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    nrows int;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF category IS NULL THEN
        RAISE EXCEPTION 'category must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    EXECUTE format('DELETE FROM %I.aggregates WHERE category = $1', store) USING category;
    GET DIAGNOSTICS nrows = ROW_COUNT;
    IF nrows = 0 THEN
        RAISE EXCEPTION 'no aggregate is defined for category "%"', category
            USING ERRCODE = 'undefined_object',
                  HINT = format('The table %I.aggregates lists those that there are.', store);
    END IF;
    EXECUTE format('DELETE FROM %I.deciders WHERE category = $1', store) USING category;
    PERFORM @extschema@.es_drop_snapshots(category);
END
$$;

COMMENT ON FUNCTION @extschema@.es_drop_aggregate(text) IS
    'Drops the definition of a category''s aggregate, with its decider and snapshots; the events stay. For the store''s owner';
