/* Testing event-sourced code in pgTAP: given events, when a command, then events. */

CREATE FUNCTION @extschema@.es_given(stream text, events jsonb) RETURNS SETOF text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF events IS NULL THEN
        RAISE EXCEPTION 'events must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'Pass [] for none.';
    END IF;
    -- what the test set up is told from what happened then by its metadata
    PERFORM @extschema@.es_append_events(stream, (
        SELECT coalesce(jsonb_agg(e.value || jsonb_build_object('metadata',
                            coalesce(nullif(e.value -> 'metadata', 'null'), '{}') || '{"given": true}') ORDER BY e.ordinality), '[]')
          FROM jsonb_array_elements(events) WITH ORDINALITY e));
END
$$;

COMMENT ON FUNCTION @extschema@.es_given(text, jsonb) IS
    'For tests in pgTAP: appends the events that a stream has before the command under test, with "given" in their metadata. Returns no rows';

-- No search_path of its own: pgTAP's functions need the one that they were found in.
CREATE FUNCTION @extschema@.es_then(stream text, events jsonb, description text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE plpgsql
AS $$
DECLARE
    happened jsonb;
    expected jsonb;
BEGIN
    IF events IS NULL THEN
        RAISE EXCEPTION 'events must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'Pass [] for none.';
    END IF;
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('type', e.type, 'data', e.data) ORDER BY e.version), '[]')
      INTO happened
      FROM @extschema@.es_read(es_then.stream) e
     WHERE (e.metadata OPERATOR(pg_catalog.->) 'given'::text) IS NULL;
    SELECT coalesce(pg_catalog.jsonb_agg('{"data": {}}'::jsonb OPERATOR(pg_catalog.||) e.value ORDER BY e.ordinality), '[]')
      INTO expected
      FROM pg_catalog.jsonb_array_elements(events) WITH ORDINALITY e;
    RETURN QUERY EXECUTE 'SELECT is($1, $2, $3)'
        USING happened, expected, coalesce(description, pg_catalog.format('events of %s', es_then.stream));
END
$$;

COMMENT ON FUNCTION @extschema@.es_then(text, jsonb, text) IS
    'For tests in pgTAP: checks which events (type and data) a stream got besides those of es_given(), [] for none. Needs pgTAP in the search_path';
