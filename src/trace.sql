/* Causes and effects. */

CREATE FUNCTION @extschema@.es_trace(correlation_id text)
    RETURNS TABLE (depth int, label text, "position" bigint, stream text, version bigint, type text,
                   recorded_at timestamptz, event_id uuid, causation_id text)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    ROWS 20
AS $$
DECLARE
    store name := @extschema@.es_current_store();
BEGIN
    PERFORM @extschema@.es_check_store(store);
    -- An event is known by its event_id or its position.  Whatever caused it
    -- came before it; where several could have, the last of them did.
    RETURN QUERY EXECUTE format($query$
        WITH RECURSIVE member AS MATERIALIZED (
            SELECT e.position, e.stream, e.version, e.type, e.recorded_at, e.event_id,
                   e.metadata ->> 'causation_id' AS causation_id
              FROM %1$I.events e
             WHERE e.metadata ->> 'correlation_id' = $1
             UNION
            SELECT e.position, e.stream, e.version, e.type, e.recorded_at, e.event_id,
                   e.metadata ->> 'causation_id'
              FROM %1$I.events e
             WHERE e.position = CASE WHEN $1 ~ '^[0-9]{1,18}$' THEN $1::bigint END
        ), id AS (
            SELECT m.position::text AS id, m.position FROM member m
             UNION
            SELECT m.event_id::text, m.position FROM member m WHERE m.event_id IS NOT NULL
        ), parent AS (
            SELECT m.position, max(id.position) AS parent
              FROM member m
              LEFT JOIN id ON id.id = m.causation_id AND id.position < m.position
             GROUP BY m.position
        ), tree AS (
            SELECT p.position, 0 AS depth, ARRAY[p.position] AS path
              FROM parent p
             WHERE p.parent IS NULL
             UNION ALL
            SELECT p.position, t.depth + 1, t.path || p.position
              FROM tree t JOIN parent p ON p.parent = t.position
        )
        SELECT t.depth, repeat('  ', t.depth) || m.type, m.position, m.stream, m.version, m.type,
               m.recorded_at, m.event_id, m.causation_id
          FROM tree t JOIN member m USING (position)
         ORDER BY t.path
    $query$, store) USING correlation_id;
END
$$;

COMMENT ON FUNCTION @extschema@.es_trace(text) IS
    'The tree of causes of what happened under a correlation id: every event of it behind the one that caused it (metadata causation_id: an event_id or a position), label indented. With a position: the tree that began with that event. es_create_index(''correlation'') makes it fast';
