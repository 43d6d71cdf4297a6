/* Looking into histories. */

CREATE FUNCTION @extschema@.es_bisect(stream text, condition text) RETURNS bigint
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    result bigint;
    last bigint := @extschema@.es_stream_version(stream);
    -- Window by window, each as long as all before it: what became true early is
    -- found early, and folding up to the windows costs no more than they do.
    first bigint := 1;
    size bigint := 1000;
BEGIN
    -- NULL would look like a condition that never holds
    IF stream IS NULL OR condition IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', CASE WHEN stream IS NULL THEN 'stream' ELSE 'condition' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    LOOP
        -- the condition is the caller's own SQL: his rights, his search_path
        EXECUTE pg_catalog.format(
            'SELECT r.version FROM (SELECT version, state_after AS state FROM %s.es_replay($1, $2, $3)) r
              WHERE (%s
                    ) ORDER BY r.version LIMIT 1', '@extschema@', condition)
           INTO result USING stream, first, first OPERATOR(pg_catalog.+) size OPERATOR(pg_catalog.-) 1::bigint;
        first := first OPERATOR(pg_catalog.+) size;
        EXIT WHEN result IS NOT NULL OR first OPERATOR(pg_catalog.>) last;
        size := first OPERATOR(pg_catalog.-) 1::bigint;
    END LOOP;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_bisect(text, text) IS
    'The first version of a stream after which a condition over state holds, such as ''(state->>''''balance'''')::numeric < 0''; NULL where it never does. The condition is SQL, run with the caller''s rights: never build it from what others typed in';

CREATE FUNCTION @extschema@.es_diff(before jsonb, after jsonb)
    RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE pair (path, place, old, new, open) AS (
        -- place: the path as it is sorted, elements of arrays by their number
        SELECT NULL::text, '{}'::text[] COLLATE "C", before, after,
               coalesce(before IS DISTINCT FROM after
                        AND jsonb_typeof(before) = jsonb_typeof(after)
                        AND jsonb_typeof(before) IN ('object', 'array'), false)
        UNION ALL
        SELECT concat_ws('.', p.path, k.key), p.place || coalesce(lpad(k.element::text, 10, '0'), k.key), v.old, v.new,
               coalesce(jsonb_typeof(v.old) = jsonb_typeof(v.new)
                        AND jsonb_typeof(v.old) IN ('object', 'array'), false)
          FROM pair p
         CROSS JOIN LATERAL (
               SELECT o.key, NULL::int AS element
                 FROM jsonb_object_keys(CASE jsonb_typeof(p.old) WHEN 'object' THEN p.old END) o (key)
                UNION
               SELECT n.key, NULL
                 FROM jsonb_object_keys(CASE jsonb_typeof(p.new) WHEN 'object' THEN p.new END) n (key)
                UNION
               SELECT i::text, i
                 FROM generate_series(0, CASE jsonb_typeof(p.old) WHEN 'array'
                                         THEN greatest(jsonb_array_length(p.old), jsonb_array_length(p.new)) - 1
                                         END) i) k
         CROSS JOIN LATERAL (
               SELECT CASE WHEN k.element IS NULL THEN p.old -> k.key ELSE p.old -> k.element END AS old,
                      CASE WHEN k.element IS NULL THEN p.new -> k.key ELSE p.new -> k.element END AS new) v
         WHERE p.open AND v.old IS DISTINCT FROM v.new
    )
    SELECT coalesce(p.path, '$'),
           CASE WHEN p.old IS NULL THEN 'added' WHEN p.new IS NULL THEN 'removed' ELSE 'changed' END,
           p.old, p.new
      FROM pair p
     WHERE NOT p.open AND p.old IS DISTINCT FROM p.new
     ORDER BY p.place
$$;

COMMENT ON FUNCTION @extschema@.es_diff(jsonb, jsonb) IS
    'What differs between two states: a row for each path that was added, removed or changed. Elements of arrays are compared by their place; "$" is the whole value';
