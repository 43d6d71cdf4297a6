-- The operators of rules once more, in PL/pgSQL over immutable jsonb, and what it
-- takes to compare them on random rules, states and events.  For
-- sql/rules_reference.sql and test/t/rules_fuzz.pl.

CREATE SCHEMA reference;
SET search_path = reference, public;

--
-- The reference
--
CREATE FUNCTION ref_index(step text) RETURNS int LANGUAGE sql IMMUTABLE AS $_$
    SELECT CASE WHEN step ~ '^(0|[1-9][0-9]{0,8})$' THEN step::int END
$_$;

-- What is missing is NULL; JSON's null is not.
CREATE FUNCTION ref_get(node jsonb, path text[]) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $_$
DECLARE
    step text;
BEGIN
    FOREACH step IN ARRAY path LOOP
        node := CASE jsonb_typeof(node)
            WHEN 'object' THEN node -> step
            WHEN 'array' THEN node -> ref_index(step)
        END;
    END LOOP;
    RETURN node;
END $_$;

CREATE FUNCTION ref_value(expr jsonb, event es_event, strict boolean DEFAULT false) RETURNS jsonb LANGUAGE plpgsql STABLE AS $_$
DECLARE
    reference text := expr #>> '{}';
    result jsonb;
    value jsonb;
    k text;
    v jsonb;
BEGIN
    CASE jsonb_typeof(expr)
        WHEN 'string' THEN
            IF reference NOT LIKE '$%' THEN
                RETURN expr;
            ELSIF reference LIKE '$$metadata%' THEN
                RETURN ref_get(event.metadata, (string_to_array(reference, '.'))[2:]);
            ELSIF reference LIKE '$$%' THEN
                RETURN nullif(to_jsonb(event) -> substr(reference, 3), 'null');
            END IF;
            RETURN ref_get(event.data, (string_to_array(reference, '.'))[2:]);
        WHEN 'array' THEN
            result := '[]';
            FOR v IN SELECT e FROM jsonb_array_elements(expr) WITH ORDINALITY a(e, n) ORDER BY n LOOP
                value := ref_value(v, event, strict);
                IF value IS NULL AND strict THEN
                    RETURN NULL;
                END IF;
                result := result || jsonb_build_array(coalesce(value, 'null'));
            END LOOP;
            RETURN result;
        WHEN 'object' THEN
            IF expr ? '$literal' THEN
                RETURN expr -> '$literal';
            ELSIF expr ? '$ifNull' THEN
                FOR v IN SELECT e FROM jsonb_array_elements(expr -> '$ifNull') WITH ORDINALITY a(e, n) ORDER BY n LOOP
                    value := ref_value(v, event, strict);
                    EXIT WHEN value <> 'null';
                END LOOP;
                RETURN value;
            END IF;
            result := '{}';
            FOR k, v IN SELECT * FROM jsonb_each(expr) LOOP
                value := ref_value(v, event, strict);
                IF value IS NOT NULL THEN
                    result := result || jsonb_build_object(k, value);
                ELSIF strict THEN
                    RETURN NULL;
                END IF;
            END LOOP;
            RETURN result;
        ELSE
            RETURN expr;
    END CASE;
END $_$;

CREATE FUNCTION ref_set(node jsonb, path text[], value jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $_$
DECLARE
    i int;
BEGIN
    IF cardinality(path) = 0 THEN
        RETURN value;
    END IF;
    CASE jsonb_typeof(node)
        WHEN 'object' THEN
            RETURN node || jsonb_build_object(path[1],
                ref_set(coalesce(node -> path[1], '{}'), path[2:], value));
        WHEN 'array' THEN
            i := ref_index(path[1]);
            IF i IS NULL OR i - jsonb_array_length(node) > 1500000 THEN
                RAISE SQLSTATE '22033';
            END IF;
            value := ref_set(coalesce(node -> i, '{}'), path[2:], value);
            WHILE jsonb_array_length(node) <= i LOOP
                node := node || '[null]'::jsonb;
            END LOOP;
            RETURN (SELECT jsonb_agg(CASE WHEN n = i + 1 THEN value ELSE e END ORDER BY n)
                    FROM jsonb_array_elements(node) WITH ORDINALITY a(e, n));
        ELSE
            RAISE SQLSTATE '2203C';
    END CASE;
END $_$;

CREATE FUNCTION ref_unset(state jsonb, path text[]) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $_$
DECLARE
    above text[] := path[:cardinality(path) - 1];
    last text := path[cardinality(path)];
    node jsonb := ref_get(state, above);
BEGIN
    IF ref_get(state, path) IS NULL THEN
        RETURN state;
    ELSIF jsonb_typeof(node) = 'array' THEN
        RETURN ref_set(state, path, 'null');
    END IF;
    RETURN ref_set(state, above, node - last);
END $_$;

CREATE FUNCTION ref_rank(v jsonb) RETURNS int LANGUAGE sql IMMUTABLE AS $_$
    SELECT array_position(ARRAY['null', 'number', 'string', 'object', 'array', 'boolean'], jsonb_typeof(v))
$_$;

CREATE FUNCTION ref_compare(a jsonb, b jsonb) RETURNS int LANGUAGE plpgsql IMMUTABLE STRICT AS $_$
DECLARE
    p record;
    result int := sign(ref_rank(a) - ref_rank(b));
BEGIN
    IF result <> 0 THEN
        RETURN result;
    END IF;
    CASE jsonb_typeof(a)
        WHEN 'null' THEN RETURN 0;
        WHEN 'number' THEN RETURN sign((a #>> '{}')::numeric - (b #>> '{}')::numeric);
        WHEN 'boolean' THEN RETURN (a = 'true')::int - (b = 'true')::int;
        WHEN 'string' THEN
            RETURN CASE WHEN (a #>> '{}') COLLATE "C" < (b #>> '{}') THEN -1
                        WHEN (a #>> '{}') COLLATE "C" > (b #>> '{}') THEN 1 ELSE 0 END;
        WHEN 'array' THEN
            FOR p IN SELECT x.e AS x, y.e AS y
                     FROM jsonb_array_elements(a) WITH ORDINALITY x(e, n)
                     JOIN jsonb_array_elements(b) WITH ORDINALITY y(e, n) USING (n) ORDER BY n LOOP
                result := ref_compare(p.x, p.y);
                IF result <> 0 THEN RETURN result; END IF;
            END LOOP;
            RETURN sign(jsonb_array_length(a) - jsonb_array_length(b));
        WHEN 'object' THEN
            FOR p IN SELECT x.k AS xk, x.v AS x, y.k AS yk, y.v AS y
                     FROM (SELECT k, v, row_number() OVER (ORDER BY octet_length(k), k COLLATE "C") FROM jsonb_each(a) e(k, v)) x(k, v, n)
                     JOIN (SELECT k, v, row_number() OVER (ORDER BY octet_length(k), k COLLATE "C") FROM jsonb_each(b) e(k, v)) y(k, v, n)
                     USING (n) ORDER BY n LOOP
                result := sign(ref_rank(p.x) - ref_rank(p.y));
                IF result = 0 AND p.xk <> p.yk THEN
                    result := CASE WHEN (octet_length(p.xk), p.xk COLLATE "C") < (octet_length(p.yk), p.yk COLLATE "C") THEN -1 ELSE 1 END;
                END IF;
                IF result = 0 THEN
                    result := ref_compare(p.x, p.y);
                END IF;
                IF result <> 0 THEN RETURN result; END IF;
            END LOOP;
            RETURN sign((SELECT count(*) FROM jsonb_object_keys(a)) - (SELECT count(*) FROM jsonb_object_keys(b)));
    END CASE;
END $_$;

-- Does an element, or what it has at the path, meet {"$gt": value}?
CREATE FUNCTION ref_test(node jsonb, test text, value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $_$
    SELECT coalesce(CASE test
        WHEN '$eq' THEN node = value
        WHEN '$ne' THEN node IS DISTINCT FROM value
        WHEN '$in' THEN EXISTS (SELECT FROM jsonb_array_elements(value) v WHERE v = node)
        WHEN '$nin' THEN NOT EXISTS (SELECT FROM jsonb_array_elements(value) v WHERE v = node)
        WHEN '$gt' THEN jsonb_typeof(node) = jsonb_typeof(value) AND ref_compare(node, value) > 0
        WHEN '$gte' THEN jsonb_typeof(node) = jsonb_typeof(value) AND ref_compare(node, value) >= 0
        WHEN '$lt' THEN jsonb_typeof(node) = jsonb_typeof(value) AND ref_compare(node, value) < 0
        WHEN '$lte' THEN jsonb_typeof(node) = jsonb_typeof(value) AND ref_compare(node, value) <= 0
    END, false)
$_$;

-- The conditions of $pull as rows: a path within the element, test, value.
CREATE FUNCTION ref_conditions(expr jsonb) RETURNS TABLE (path text[], test text, value jsonb) LANGUAGE sql IMMUTABLE AS $_$
    SELECT '{}'::text[], k, v FROM jsonb_each(expr) e(k, v) WHERE k LIKE '$%'
    UNION ALL
    SELECT string_to_array(k, '.'), tk, tv
    FROM jsonb_each(expr) e(k, v), LATERAL (
        SELECT tk, tv FROM jsonb_each(CASE WHEN jsonb_typeof(v) = 'object' THEN v ELSE '{}' END) t(tk, tv) WHERE tk LIKE '$%' AND tk NOT IN ('$literal', '$ifNull')
        UNION ALL
        SELECT '$eq', v WHERE NOT (jsonb_typeof(v) = 'object' AND EXISTS (SELECT FROM jsonb_object_keys(v) k2 WHERE k2 LIKE '$%' AND k2 NOT IN ('$literal', '$ifNull')))
    ) t
    WHERE k NOT LIKE '$%'
$_$;

CREATE FUNCTION ref_pull(elements jsonb, expr jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql STABLE AS $_$
DECLARE
    by_value boolean := jsonb_typeof(expr) <> 'object' OR expr ? '$literal' OR expr ? '$ifNull';
    value jsonb;
    c record;
    tests jsonb := '[]';
BEGIN
    IF by_value THEN
        value := ref_value(expr, event, true);
        IF value IS NULL THEN
            RETURN elements;
        ELSIF jsonb_typeof(elements) <> 'array' THEN
            RAISE SQLSTATE '22039';
        END IF;
        RETURN (SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') FROM jsonb_array_elements(elements) WITH ORDINALITY a(e, n)
                WHERE NOT CASE WHEN jsonb_typeof(value) = 'object' AND value <> '{}'
                    THEN jsonb_typeof(e) = 'object' AND NOT EXISTS (SELECT FROM jsonb_each(value) m WHERE (e -> m.key) IS DISTINCT FROM m.value)
                    ELSE e = value END);
    END IF;
    FOR c IN SELECT * FROM ref_conditions(expr) LOOP
        value := ref_value(c.value, event, true);
        IF value IS NULL THEN
            RETURN elements;
        END IF;
        tests := tests || jsonb_build_array(jsonb_build_object('path', c.path, 'test', c.test, 'value', value));
    END LOOP;
    IF EXISTS (SELECT FROM jsonb_array_elements(tests) t WHERE t ->> 'test' IN ('$in', '$nin') AND jsonb_typeof(t -> 'value') <> 'array')
        OR jsonb_typeof(elements) <> 'array' THEN
        RAISE SQLSTATE '22039';
    END IF;
    RETURN (SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') FROM jsonb_array_elements(elements) WITH ORDINALITY a(e, n)
            WHERE EXISTS (SELECT FROM jsonb_array_elements(tests) t
                          WHERE (t -> 'path' <> '[]' AND jsonb_typeof(e) <> 'object')
                             OR NOT ref_test(ref_get(e, ARRAY(SELECT jsonb_array_elements_text(t -> 'path'))), t ->> 'test', t -> 'value')));
END $_$;

CREATE FUNCTION ref_op(op text, path text[], expr jsonb, state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql STABLE AS $_$
DECLARE
    target jsonb := ref_get(state, path);
    value jsonb;
    list jsonb;
    e jsonb;
    n int;
    at int;
BEGIN
    IF op = '$unset' THEN
        RETURN ref_unset(state, path);
    ELSIF op = '$pull' THEN
        IF target IS NULL THEN
            -- conditions that cannot be are errors even so
            PERFORM ref_pull('[]', expr, event);
            RETURN state;
        END IF;
        value := ref_pull(target, expr, event);
        RETURN CASE WHEN value = target THEN state ELSE ref_set(state, path, value) END;
    ELSIF op IN ('$push', '$addToSet') THEN
        IF expr ? '$each' AND jsonb_typeof(expr) = 'object' THEN
            IF jsonb_typeof(expr -> '$each') = 'array' THEN
                SELECT coalesce(jsonb_agg(v ORDER BY i), '[]') INTO list
                FROM jsonb_array_elements(expr -> '$each') WITH ORDINALITY a(x, i), LATERAL ref_value(x, event) v WHERE v IS NOT NULL;
            ELSE
                list := ref_value(expr -> '$each', event);
            END IF;
        ELSE
            list := jsonb_build_array(ref_value(expr, event));
            IF ref_value(expr, event) IS NULL THEN
                RETURN state;
            END IF;
        END IF;
        IF list IS NULL THEN
            RETURN state;
        ELSIF jsonb_typeof(list) <> 'array' OR jsonb_typeof(target) <> 'array' THEN
            RAISE SQLSTATE '22039';
        END IF;
        value := coalesce(target, '[]');
        IF op = '$addToSet' THEN
            FOR e IN SELECT x FROM jsonb_array_elements(list) WITH ORDINALITY a(x, i) ORDER BY i LOOP
                IF NOT EXISTS (SELECT FROM jsonb_array_elements(value) v WHERE v = e) THEN
                    value := value || jsonb_build_array(e);
                END IF;
            END LOOP;
        ELSE
            n := jsonb_array_length(value);
            at := coalesce((expr ->> '$position')::int, n);
            at := CASE WHEN at < 0 THEN greatest(n + at, 0) ELSE least(at, n) END;
            SELECT coalesce(jsonb_agg(x ORDER BY part, i), '[]') INTO value FROM (
                SELECT x, i, CASE WHEN i <= at THEN 1 ELSE 3 END FROM jsonb_array_elements(value) WITH ORDINALITY a(x, i)
                UNION ALL
                SELECT x, i, 2 FROM jsonb_array_elements(list) WITH ORDINALITY a(x, i)) u(x, i, part);
            n := (expr ->> '$slice')::int;
            IF n IS NOT NULL THEN
                SELECT coalesce(jsonb_agg(x ORDER BY i), '[]') INTO value FROM jsonb_array_elements(value) WITH ORDINALITY a(x, i)
                WHERE CASE WHEN n >= 0 THEN i <= n ELSE i > jsonb_array_length(value) + n END;
            END IF;
        END IF;
        RETURN ref_set(state, path, value);
    END IF;

    value := ref_value(expr, event);
    CASE op
        WHEN '$set' THEN
            RETURN CASE WHEN value IS NULL THEN state ELSE ref_set(state, path, value) END;
        WHEN '$inc', '$mul' THEN
            IF jsonb_typeof(value) IS DISTINCT FROM 'number' OR jsonb_typeof(target) <> 'number' THEN
                RAISE SQLSTATE '22036';
            END IF;
            RETURN ref_set(state, path, CASE op
                WHEN '$inc' THEN to_jsonb(coalesce((target #>> '{}')::numeric, 0) + (value #>> '{}')::numeric)
                ELSE to_jsonb(coalesce((target #>> '{}')::numeric, 0) * (value #>> '{}')::numeric) END);
        WHEN '$min', '$max' THEN
            RETURN CASE WHEN value IS NULL OR (target IS NOT NULL AND (ref_compare(value, target) = 0
                            OR (ref_compare(value, target) > 0) = (op = '$min'))) THEN state
                        ELSE ref_set(state, path, value) END;
        WHEN '$merge' THEN
            IF value IS NULL THEN
                RETURN state;
            ELSIF jsonb_typeof(value) <> 'object' OR jsonb_typeof(target) <> 'object' THEN
                RAISE SQLSTATE '2203C';
            END IF;
            RETURN ref_set(state, path, coalesce(target, '{}') || value);
    END CASE;
END $_$;

-- The operators of one object, as rows in the order in which they run.
CREATE FUNCTION ref_ops(ops jsonb) RETURNS TABLE (n bigint, op text, path text[], expr jsonb) LANGUAGE sql IMMUTABLE AS $_$
    SELECT row_number() OVER (ORDER BY o.i, p.i), o.k, p.path, p.v
    FROM (SELECT k, v, row_number() OVER () FROM jsonb_each(ops) e(k, v)) o(k, v, i),
        LATERAL (
            SELECT string_to_array(k, '.'), v, row_number() OVER ()
            FROM jsonb_each(CASE WHEN jsonb_typeof(o.v) = 'object' THEN o.v ELSE '{}' END) e(k, v)
            WHERE NOT (o.k = '$merge' AND k LIKE '$%')
            UNION ALL
            SELECT string_to_array(e, '.'), NULL, i FROM jsonb_array_elements_text(CASE WHEN jsonb_typeof(o.v) = 'array' THEN o.v ELSE '[]' END) WITH ORDINALITY a(e, i)
            UNION ALL
            SELECT string_to_array(o.v #>> '{}', '.'), NULL, 1 WHERE o.k = '$unset' AND jsonb_typeof(o.v) = 'string'
            UNION ALL
            SELECT '{}'::text[], o.v, 1 WHERE o.k = '$merge' AND (jsonb_typeof(o.v) = 'string' OR o.v ? '$ifNull' OR o.v ? '$literal')
        ) p(path, v, i)
$_$;

CREATE FUNCTION ref_apply(rules jsonb, state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql STABLE AS $_$
DECLARE
    list jsonb := rules -> event.type;
    ops jsonb;
    o record;
BEGIN
    IF jsonb_typeof(list) = 'object' THEN
        list := jsonb_build_array(list);
    END IF;
    FOR ops IN SELECT e FROM jsonb_array_elements(list) a(e) LOOP
        IF EXISTS (SELECT FROM ref_ops(ops) a JOIN ref_ops(ops) b ON a.n <> b.n AND b.path[:cardinality(a.path)] = a.path) THEN
            RAISE SQLSTATE '22023';
        END IF;
    END LOOP;
    FOR ops IN SELECT e FROM jsonb_array_elements(list) WITH ORDINALITY a(e, n) ORDER BY n LOOP
        FOR o IN SELECT * FROM ref_ops(ops) r ORDER BY r.n LOOP
            state := ref_op(o.op, o.path, o.expr, state, event);
        END LOOP;
    END LOOP;
    RETURN state;
END $_$;

--
-- Random rules, states and events, of a small world so that things meet
--
CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $_$
    SELECT choices[1 + floor(random() * cardinality(choices))]
$_$;

CREATE FUNCTION random_key() RETURNS text LANGUAGE sql VOLATILE AS $_$
    SELECT CASE WHEN random() < 0.7 THEN pick('a', 'b', 'c', '0', '1') ELSE pick('bb', 'é', 'k' || floor(random() * 20), '10', '01') END
$_$;

CREATE FUNCTION random_number() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT pick('0', '1', '1.0', '-2', '2.50', '0.005', '9223372036854775807', '-10000', '123456789012345678901', '1e25')::jsonb
$_$;

CREATE FUNCTION random_json(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $_$
DECLARE
    n int := floor(random() * CASE WHEN random() < 0.1 THEN 14 ELSE 4 END);
    result jsonb;
BEGIN
    IF depth > 0 AND random() < 0.5 THEN
        IF random() < 0.5 THEN
            result := '[]';
            FOR i IN 1..n LOOP
                result := result || jsonb_build_array(random_json(depth - 1));
            END LOOP;
        ELSE
            result := '{}';
            FOR i IN 1..n LOOP
                result := result || jsonb_build_object(random_key(), random_json(depth - 1));
            END LOOP;
        END IF;
        RETURN result;
    END IF;
    RETURN CASE WHEN random() < 0.4 THEN random_number()
        ELSE pick('null', 'true', 'false', '""', '"a"', '"b"', '"ab"', '"é"', '[]', '{}')::jsonb END;
END $_$;

CREATE FUNCTION random_array() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT coalesce(jsonb_agg(random_json(1)), '[]') FROM generate_series(1, floor(random() * CASE WHEN random() < 0.3 THEN 15 ELSE 4 END)::int)
$_$;

CREATE FUNCTION random_path() RETURNS text LANGUAGE sql VOLATILE AS $_$
    SELECT string_agg(random_key(), '.') FROM generate_series(1, 1 + floor(random() * random() * 4)::int)
$_$;

-- A path that often leads to what the operator is for.
CREATE FUNCTION random_target(op text) RETURNS text LANGUAGE sql VOLATILE AS $_$
    SELECT CASE WHEN random() < 0.3 THEN random_path()
        WHEN op IN ('$inc', '$mul') THEN pick('n', 'o.n', 'o.m', 'm')
        WHEN op IN ('$push', '$addToSet', '$pull') THEN pick('l', 'o.l', 'k')
        WHEN op = '$merge' THEN pick('o', 'o.o', 'p')
        ELSE pick('a', 'n', 'o.n', 'o.a', 'l.0', 'l.1.a', 'o.l.2', 'x.y.z') END
$_$;

CREATE FUNCTION random_reference() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT to_jsonb(CASE WHEN random() < 0.8 THEN '$.' || CASE WHEN random() < 0.5 THEN random_path() ELSE pick('n', 'l', 'o', 'l.0', 'o.a') END
        ELSE pick('$', '$$version', '$$recorded_at', '$$stream', '$$type', '$$position', '$$event_id', '$$tags', '$$metadata', '$$metadata.a', '$$metadata.b.0') END)
$_$;

CREATE FUNCTION random_value(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $_$
DECLARE
    dice float := random();
    result jsonb;
BEGIN
    IF dice < 0.35 THEN
        RETURN random_reference();
    ELSIF dice < 0.4 THEN
        RETURN jsonb_build_object('$literal', CASE WHEN random() < 0.5 THEN random_reference() ELSE random_json(2) END);
    ELSIF dice < 0.5 AND depth > 0 THEN
        RETURN jsonb_build_object('$ifNull', jsonb_build_array(random_value(depth - 1), random_value(depth - 1)));
    ELSIF dice < 0.6 AND depth > 0 THEN
        RETURN jsonb_build_array(random_value(depth - 1), random_value(depth - 1));
    ELSIF dice < 0.75 AND depth > 0 THEN
        RETURN jsonb_build_object(random_key(), random_value(depth - 1)) || jsonb_build_object(random_key(), random_value(depth - 1));
    END IF;
    RETURN random_json(1);
END $_$;

CREATE FUNCTION random_list() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT CASE WHEN random() < 0.5 THEN random_reference()
        ELSE (SELECT coalesce(jsonb_agg(random_value(1)), '[]') FROM generate_series(1, floor(random() * 5)::int)) END
$_$;

CREATE FUNCTION random_tests() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT CASE WHEN random() < 0.3 THEN jsonb_build_object(pick('$in', '$nin'), random_list())
        ELSE jsonb_build_object(pick('$eq', '$ne', '$gt', '$gte', '$lt', '$lte'), random_value(1))
          || CASE WHEN random() < 0.3 THEN jsonb_build_object(pick('$ne', '$gt', '$lt'), random_value(1)) ELSE '{}' END END
$_$;

CREATE FUNCTION random_op() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $_$
DECLARE
    op text := pick('$set', '$unset', '$inc', '$mul', '$min', '$max', '$push', '$push', '$addToSet', '$addToSet', '$pull', '$pull', '$merge');
    v jsonb;
BEGIN
    CASE
        WHEN op = '$unset' AND random() < 0.3 THEN
            RETURN jsonb_build_object(op, CASE WHEN random() < 0.5 THEN to_jsonb(random_target(op)) ELSE jsonb_build_array(random_target(op)) END);
        WHEN op = '$merge' AND random() < 0.4 THEN
            RETURN jsonb_build_object(op, CASE WHEN random() < 0.7 THEN to_jsonb('$.o'::text) ELSE random_reference() END);
        WHEN op IN ('$inc', '$mul') THEN
            v := CASE WHEN random() < 0.5 THEN pick('1', '2.5', '-1', '0', '9223372036854775807', '10000.10')::jsonb
                      WHEN random() < 0.5 THEN jsonb_build_object('$ifNull', jsonb_build_array(random_reference(), pick('0', '1.50', '"x"')::jsonb))
                      WHEN random() < 0.8 THEN pick('"$.n"', '"$$version"')::jsonb
                      ELSE random_reference() END;
        WHEN op = '$push' AND random() < 0.5 THEN
            v := jsonb_build_object('$each', random_list())
                || CASE WHEN random() < 0.4 THEN jsonb_build_object('$slice', floor(random() * 9)::int - 4) ELSE '{}' END
                || CASE WHEN random() < 0.4 THEN jsonb_build_object('$position', floor(random() * 9)::int - 4) ELSE '{}' END;
        WHEN op = '$addToSet' AND random() < 0.5 THEN
            v := jsonb_build_object('$each', random_list());
        WHEN op = '$pull' AND random() < 0.3 THEN
            v := random_tests();
        WHEN op = '$pull' AND random() < 0.5 THEN
            v := jsonb_build_object(random_path(), CASE WHEN random() < 0.5 THEN random_tests() ELSE random_value(1) END)
                || CASE WHEN random() < 0.3 THEN jsonb_build_object(random_path(), random_value(1)) ELSE '{}' END;
        WHEN op = '$pull' THEN
            v := CASE WHEN random() < 0.5 THEN random_reference() ELSE random_json(0) END;
            IF v = '{}' THEN
                v := '1';
            END IF;
        WHEN op = '$merge' THEN
            v := CASE WHEN random() < 0.5 THEN random_reference() ELSE jsonb_build_object(random_key(), random_value(1)) END;
        ELSE
            v := random_value(2);
    END CASE;
    RETURN jsonb_build_object(op, jsonb_build_object(random_target(op), v));
END $_$;

-- An object with some members of known types.
CREATE FUNCTION random_object() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT jsonb_build_object('a', random_json(2), 'n', random_number(), 'l', random_array(),
        'o', jsonb_build_object('a', random_json(1), 'n', random_number(), 'l', random_array()))
$_$;

-- Operators in an order, or one object with several of them.
CREATE FUNCTION random_ops() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $_$
DECLARE
    result jsonb := '{}';
BEGIN
    IF random() < 0.7 THEN
        RETURN (SELECT jsonb_agg(random_op()) FROM generate_series(1, 1 + floor(random() * 6)::int));
    END IF;
    FOR i IN 1..3 LOOP
        result := result || random_op();
    END LOOP;
    RETURN result;
END $_$;

-- The result of a call, or its SQLSTATE.
CREATE FUNCTION outcome(call text, rules jsonb, state jsonb, event es_event) RETURNS text LANGUAGE plpgsql AS $_$
DECLARE
    result jsonb;
BEGIN
    IF call = 'C' THEN
        result := es_apply_rules(rules, state, event);
    ELSE
        result := ref_apply(rules, state, event);
    END IF;
    -- what is written badly may not be found again
    IF result IS DISTINCT FROM result::text::jsonb THEN
        RETURN 'not valid: ' || result::text;
    END IF;
    RETURN result::text;
EXCEPTION WHEN OTHERS THEN
    RETURN CASE WHEN SQLSTATE IN ('22023', '22033', '22036', '22039', '2203C') THEN SQLSTATE
        ELSE call || ' ' || SQLSTATE || ' ' || SQLERRM END;
END $_$;

CREATE FUNCTION compare(runs int, seed float, OUT same bigint, OUT errors bigint, OUT different bigint) LANGUAGE plpgsql AS $_$
DECLARE
    rules jsonb;
    state jsonb;
    event es_event;
    ours text;
    theirs text;
BEGIN
    PERFORM setseed(seed);
    same := 0;
    errors := 0;
    different := 0;
    FOR i IN 1..runs LOOP
        IF i % 5 = 1 OR state IS NULL OR length(state::text) > 2000 THEN
            state := CASE WHEN random() < 0.9 THEN random_object() ELSE random_json(3) END;
        END IF;
        rules := jsonb_build_object('E', random_ops());
        event := ROW(i, 'S-1', i % 7, 'E', CASE WHEN random() < 0.9 THEN random_object() ELSE random_json(3) END,
            CASE WHEN random() < 0.5 THEN jsonb_build_object('a', random_json(1), 'b', random_json(2)) END,
            CASE WHEN random() < 0.5 THEN 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid END,
            CASE WHEN random() < 0.5 THEN ARRAY['a', random_key(), NULL] END, '2024-02-03 04:05:06.789+00'::timestamptz + i * interval '1 s');
        ours := outcome('C', rules, state, event);
        theirs := outcome('reference', rules, state, event);
        IF ours IS DISTINCT FROM theirs THEN
            different := different + 1;
            IF different <= 3 THEN
                RAISE WARNING E'different with seed %, run %\n  rules %\n  state %\n  event %\n  C: %\n  reference: %', seed, i, rules, state, event, ours, theirs;
            END IF;
        ELSIF length(ours) = 5 AND ours LIKE '22%' THEN
            errors := errors + 1;
        ELSE
            same := same + 1;
            state := ours;
        END IF;
    END LOOP;
END $_$;

-- Now and then something large, which is stored compressed or elsewhere.
-- So many members that they are searched, not gone through.
CREATE FUNCTION random_many() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT jsonb_object_agg(left(md5(i::text), 1 + i % 7), i) || random_object() FROM generate_series(1, 60) i
$_$;

CREATE FUNCTION random_large() RETURNS jsonb LANGUAGE sql VOLATILE AS $_$
    SELECT CASE WHEN random() < 0.9 THEN '{}'
        WHEN random() < 0.3 THEN jsonb_build_object(pick('a', 'big'), repeat(random_key(), 3000))
        WHEN random() < 0.3 THEN random_many()
        WHEN random() < 0.5 THEN jsonb_build_object(pick('a', 'o', 'big'), random_many())
        ELSE jsonb_build_object(pick('a', 'l', 'big'), (SELECT jsonb_agg(md5(random()::text)) FROM generate_series(1, 100)))
        END
$_$;

--
-- Many events in one fold: es_load at each version, and es_replay, against
-- the reference that goes step by step
--
CREATE FUNCTION compare_folds(streams int, seed float, OUT events bigint, OUT different bigint) LANGUAGE plpgsql AS $_$
DECLARE
    types text[] := ARRAY['A', 'B', 'C', 'D'];
    name text;
    rules jsonb;
    states jsonb[];
    state jsonb;
    event es_event;
BEGIN
    PERFORM setseed(seed);
    events := 0;
    different := 0;
    FOR i IN 1..streams LOOP
        name := 'C' || i || '-1';
        -- D is not named
        rules := jsonb_build_object('A', random_ops(), 'B', random_ops(), 'C', random_ops());
        states := ARRAY[random_object()];
        BEGIN
            PERFORM es_create_aggregate('C' || i, rules => rules, initial => states[1], snapshot_every => 0);
        EXCEPTION WHEN invalid_parameter_value THEN
            CONTINUE;
        END;
        FOR j IN 1..30 LOOP
            BEGIN
                PERFORM es_append(name, pick(VARIADIC types), random_object() || random_large(), metadata => jsonb_build_object('a', j, 'b', random_json(2)) || random_large());
                SELECT * INTO event FROM es_read(name, from_version => cardinality(states));
                state := CASE WHEN event.type = 'D' THEN states[cardinality(states)]
                              ELSE ref_apply(rules, states[cardinality(states)], event) END;
                states := states || state;
            EXCEPTION WHEN data_exception OR sql_json_array_not_found OR sql_json_object_not_found OR non_numeric_sql_json_item OR invalid_sql_json_subscript THEN
                -- what fails in the reference is as if it had not happened
            END;
        END LOOP;
        events := events + cardinality(states) - 1;
        different := different
            + (SELECT count(*) FROM generate_series(1, cardinality(states)) v
               WHERE (SELECT l.state::text FROM es_load(name, to_version => v - 1) l) IS DISTINCT FROM states[v]::text)
            + (SELECT count(*) FROM es_replay(name) r
               WHERE r.state_before::text IS DISTINCT FROM states[r.version]::text OR r.state_after::text IS DISTINCT FROM states[r.version + 1]::text);
    END LOOP;
END $_$;

-- Rules as nobody should write them: some piece of random ones is replaced.
CREATE FUNCTION mangle(node jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $_$
DECLARE
    k text;
BEGIN
    IF random() < 0.25 OR jsonb_typeof(node) NOT IN ('object', 'array') OR node IN ('{}', '[]') THEN
        RETURN CASE WHEN random() < 0.5 THEN random_json(2) ELSE to_jsonb(pick('', '.', '$', '$$', '$.', '$..a', '$.a.', '$$metadata', '$$nothing',
            '$each', '$literal', '$.' || repeat('a.', 200) || 'a', repeat('[', 1000), '\u0001', '$' || random_key())) END;
    ELSIF jsonb_typeof(node) = 'array' THEN
        k := floor(random() * jsonb_array_length(node));
    ELSE
        SELECT key INTO k FROM jsonb_object_keys(node) key ORDER BY random() LIMIT 1;
        IF random() < 0.2 THEN
            RETURN node - k || jsonb_build_object(pick('$set', '$each', '$slice', '$position', '$literal', '$ifNull', '$in', '$x', '', 'a.b', '$'), node -> k);
        END IF;
    END IF;
    RETURN jsonb_set(node, ARRAY[k], mangle(node -> k));
END $_$;

-- What mangled rules end in: how often, by SQLSTATE.
CREATE FUNCTION mangled(runs int, seed float) RETURNS TABLE (state text, times bigint) LANGUAGE plpgsql AS $_$
DECLARE
    results text[];
BEGIN
    PERFORM setseed(seed);
    FOR i IN 1..runs LOOP
        BEGIN
            PERFORM es_apply_rules(mangle(jsonb_build_object('E', random_ops())), random_object(),
                ROW(i, 'S-1', i, 'E', random_json(3), NULL, NULL, NULL, '2024-01-01')::es_event);
            results := results || '00000'::text;
        EXCEPTION WHEN OTHERS THEN
            results := results || SQLSTATE::text;
        END;
    END LOOP;
    RETURN QUERY SELECT r, count(*) FROM unnest(results) r GROUP BY 1 ORDER BY 1;
END $_$;
