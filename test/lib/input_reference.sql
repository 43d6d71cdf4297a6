-- What has to come of input, in plain SQL: for test/t/input_fuzz.pl.  Each check
-- returns how the call ended, and what is wrong with that.

CREATE SCHEMA input;
SET search_path = input, public;

CREATE FUNCTION try(statement text, OUT ended text, OUT result text) LANGUAGE plpgsql AS $_$
BEGIN
    EXECUTE statement INTO result;
    ended := '00000';
EXCEPTION WHEN OTHERS THEN
    ended := SQLSTATE;
    result := SQLERRM;
END $_$;

CREATE FUNCTION events() RETURNS SETOF es_event LANGUAGE plpgsql AS $_$
BEGIN
    RETURN QUERY EXECUTE format('SELECT position, stream, version, type, data, metadata, event_id, tags, recorded_at FROM %I.events',
                                es_current_store());
END $_$;

-- Rules that look at everything, and a stream that is longer than a window of es_bisect().
CREATE TABLE states (version bigint, state jsonb);
CREATE PROCEDURE fresh_store() LANGUAGE plpgsql AS $_$
DECLARE
    store name := es_current_store();
BEGIN
    IF es_store_exists(store) THEN
        PERFORM es_drop_store(store, confirm => true);
    END IF;
    PERFORM es_create_store(store);
    PERFORM es_create_aggregate('E', rules => '{"X": {"$set": {"last": "$"}}, "Y": {"$set": {"at": "$$recorded_at", "of": "$$metadata"}}}',
                                snapshot_every => 5);
    PERFORM es_create_aggregate('Long', rules => '{"X": {"$inc": {"n": "$.n"}, "$push": {"l": "$.w"}}, "Y": {"$set": {"last": "$", "l": []}}}');
    PERFORM es_append_events('Long-1', (SELECT jsonb_agg(jsonb_build_object('type', CASE WHEN i % 9 = 7 THEN 'Y' ELSE 'X' END,
                                                    'data', jsonb_build_object('n', i % 7 - 3, 'w', md5(i::text), 'a', i)) ORDER BY i)
                                          FROM generate_series(1, 1100) i));
    DELETE FROM states;
    INSERT INTO states SELECT version, state_after FROM es_replay('Long-1');
END $_$;

CREATE FUNCTION is_uuid(t text) RETURNS boolean LANGUAGE plpgsql AS $_$
BEGIN
    RETURN t::uuid IS NOT NULL;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN false;
END $_$;

CREATE FUNCTION is_name(t text) RETURNS boolean LANGUAGE sql AS 'SELECT octet_length(t) BETWEEN 1 AND 512';

CREATE FUNCTION is_event(e jsonb) RETURNS boolean LANGUAGE sql AS $_$
    SELECT CASE WHEN jsonb_typeof(e) = 'object' THEN
               e - '{type,data,metadata,event_id,tags}'::text[] = '{}'
           AND jsonb_typeof(e->'type') = 'string' AND is_name(e->>'type')
           AND CASE coalesce(jsonb_typeof(e->'metadata'), 'null')
                   WHEN 'null' THEN true
                   WHEN 'object' THEN NOT e->'metadata' ? '$schema' OR
                        CASE WHEN jsonb_typeof(e#>'{metadata,$schema}') = 'number' THEN
                            (e#>>'{metadata,$schema}')::numeric BETWEEN 1 AND 2147483647 AND (e#>>'{metadata,$schema}')::numeric % 1 = 0 END
               END IS TRUE
           AND CASE coalesce(jsonb_typeof(e->'event_id'), 'null') WHEN 'null' THEN true WHEN 'string' THEN is_uuid(e->>'event_id') END IS TRUE
           AND CASE coalesce(jsonb_typeof(e->'tags'), 'null')
                   WHEN 'null' THEN true
                   WHEN 'array' THEN NOT EXISTS (SELECT FROM jsonb_array_elements(e->'tags') t WHERE jsonb_typeof(t) <> 'string')
               END IS TRUE
           END IS TRUE
$_$;

-- The events of an array as they have to be read.
CREATE FUNCTION wanted(events jsonb) RETURNS TABLE (version bigint, type text, data text, metadata text, event_id uuid, tags text[])
LANGUAGE sql AS $_$
    SELECT n, e->>'type', coalesce(e->'data', '{}')::text, nullif(e->'metadata', 'null')::text, (e->>'event_id')::uuid,
           CASE jsonb_typeof(e->'tags') WHEN 'array' THEN ARRAY(SELECT t FROM jsonb_array_elements_text(e->'tags') WITH ORDINALITY t (t, n) ORDER BY n) END
      FROM jsonb_array_elements(events) WITH ORDINALITY e (e, n)
$_$;

CREATE FUNCTION differs(of_stream text, events jsonb) RETURNS text LANGUAGE sql AS $_$
    WITH w AS (SELECT * FROM wanted(events)),
         f AS (SELECT version, type, data::text, metadata::text, event_id, tags FROM es_read(of_stream))
    SELECT string_agg(format('%s %s', side, d), E'\n')
      FROM (SELECT 'missing', w FROM (TABLE w EXCEPT ALL TABLE f) w UNION ALL
            SELECT 'too much', f FROM (TABLE f EXCEPT ALL TABLE w) f) d (side, d)
$_$;

CREATE FUNCTION are_events(events jsonb) RETURNS boolean LANGUAGE sql AS $_$
    SELECT CASE WHEN jsonb_typeof(events) = 'array' THEN
               NOT EXISTS (SELECT FROM jsonb_array_elements(events) e WHERE NOT is_event(e))
           ELSE false END
$_$;

CREATE FUNCTION has_twins(events jsonb) RETURNS boolean LANGUAGE sql AS
    'SELECT count(event_id) <> count(DISTINCT event_id) FROM wanted(events)';

-- of_stream is new.
CREATE FUNCTION check_events(of_stream text, events jsonb, OUT ended text, OUT wrong text) LANGUAGE plpgsql AS $_$
DECLARE
    call text := format('SELECT es_append_events(%L, %L)', of_stream, events);
    n bigint;
    identified bigint;
    again record;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong FROM try(call) t;
    IF NOT are_events(events) THEN
        wrong := CASE WHEN ended = '00000' THEN 'was taken' WHEN ended NOT IN ('ZE006', '22P02') THEN wrong END;
        RETURN;
    ELSIF has_twins(events) THEN
        wrong := CASE WHEN ended <> 'ZE003' THEN 'two with the same id: ' || wrong END;
        RETURN;
    ELSIF ended <> '00000' THEN
        wrong := 'was refused: ' || wrong;
        RETURN;
    END IF;
    SELECT count(*), count(event_id) INTO n, identified FROM wanted(events);
    wrong := CASE WHEN wrong <> n::text THEN 'returned ' || wrong ELSE differs(of_stream, events) END;
    IF wrong IS NULL THEN
        SELECT * INTO again FROM try(call);
        CASE
            WHEN identified = 0 THEN
                wrong := CASE WHEN again.result <> (2 * n)::text THEN 'again: ' || again.result END;
            WHEN identified = n THEN
                wrong := CASE WHEN again.result <> n::text THEN 'again: ' || again.result ELSE differs(of_stream, events) END;
            ELSE
                wrong := CASE WHEN again.ended <> 'ZE003' THEN 'again: ' || again.result ELSE differs(of_stream, events) END;
        END CASE;
    END IF;
END $_$;

-- The same, as others recorded it; the last one with something else.
CREATE FUNCTION check_import(of_stream text, events jsonb, other jsonb, OUT ended text, OUT wrong text) LANGUAGE plpgsql AS $_$
DECLARE
    imported jsonb;
BEGIN
    imported := CASE WHEN jsonb_typeof(events) = 'array' THEN (
        SELECT coalesce(jsonb_agg(CASE WHEN jsonb_typeof(e) = 'object' THEN
                   '{"data": {}}' || e
                   || jsonb_build_object('stream', of_stream, 'version', n, 'recorded_at', timestamptz '2020-01-01' + n * interval '1 us')
                   || CASE WHEN n = jsonb_array_length(events) THEN other ELSE '{}' END ELSE e END ORDER BY n), '[]')
          FROM jsonb_array_elements(events) WITH ORDINALITY e (e, n)) ELSE events END;
    SELECT t.ended, t.result INTO ended, wrong FROM try(format('SELECT es_import_events(%L)', imported)) t;
    wrong := CASE
        WHEN other <> '{}' OR NOT are_events(events) THEN NULL
        WHEN has_twins(events) THEN CASE WHEN ended <> 'ZE003' THEN 'two with the same id: ' || wrong END
        WHEN ended <> '00000' THEN 'was refused: ' || wrong
        WHEN wrong <> jsonb_array_length(events)::text THEN 'returned ' || wrong
        ELSE differs(of_stream, events) END;
END $_$;

CREATE FUNCTION check_name(name text, of_type text, OUT ended text, OUT wrong text) LANGUAGE plpgsql AS $_$
DECLARE
    category text := split_part(name, '-', 1);
    valid boolean := is_name(name) AND name !~ '^-' AND is_name(of_type);
    version bigint;
    step record;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong FROM try(format('SELECT es_append(%L, %L, %L)', name, of_type, to_json(name))) t;
    IF (ended = '00000') IS DISTINCT FROM valid THEN
        wrong := coalesce(wrong, 'was refused');
        RETURN;
    END IF;
    wrong := CASE WHEN NOT valid AND ended <> 'ZE006' THEN wrong END;
    IF NOT valid THEN
        RETURN;
    END IF;

    version := es_stream_version(name);
    IF NOT EXISTS (SELECT FROM es_read(name, version) r WHERE r.stream = name AND r.type = of_type AND r.data = to_jsonb(name)) THEN
        wrong := 'is not what es_read() finds';
    END IF;
    -- Other things take the name, too: as it is, or not at all.
    FOR step IN
        SELECT s, t.ended, t.result
          FROM unnest(ARRAY[
               format('SELECT category IS DISTINCT FROM %L OR version <> %s FROM %I.streams WHERE stream = %L', category, version, es_current_store(), name),
               format($q$SELECT es_create_aggregate(%L, rules => jsonb_build_object(%L, '{"$set": {"s": "$$stream"}}'::jsonb)) IS NULL$q$, category, of_type),
               format('SELECT l.version <> %s OR state->>''s'' <> %L FROM es_load(%L) l', version, name, name),
               format('SELECT es_snapshot(%L) <> %s', name, version),
               format('SELECT l.version <> %s OR state->>''s'' <> %L FROM es_load(%L) l', version, name, name),
               format('SELECT es_fingerprint(%L) IS NULL', category),
               format('SELECT es_drop_aggregate(%L) IS NULL', category),
               format('SELECT es_create_subscription(%1$L, category => %2$L, types => ARRAY[%3$L]) IS NULL', name, category, of_type),
               format('SELECT count(*) < 0 FROM es_fetch(%1$L, %1$L, 1000)', name),
               format('SELECT es_drop_subscription(%L) IS NULL', name),
               format('SELECT es_create_projection(%L, ''SELECT 1 FROM new_events'', ''{input.projected}'', types => ARRAY[%L]) IS NULL', name, of_type),
               format('SELECT es_drop_projection(%L) IS NULL', name),
               format('SELECT es_schedule(now() + ''1 day'', %1$L, %2$L, key => %1$L) IS NULL', name, of_type),
               format('SELECT NOT es_cancel(%L)', name),
               format('SELECT count(*) < 0 FROM es_trace(%L)', name)]) s
         CROSS JOIN LATERAL try(s) t
    LOOP
        IF step.ended <> '00000' OR step.result = 'true' THEN
            wrong := concat_ws(E'\n', wrong, concat_ws(' ', step.s, step.ended, step.result));
        END IF;
    END LOOP;
END $_$;

CREATE FUNCTION check_read(of_stream text, from_version bigint, to_version bigint, max_count bigint, backward boolean, OUT ended text, OUT wrong text)
LANGUAGE plpgsql AS $_$
DECLARE
    wanted text;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong
      FROM try(format('SELECT ARRAY(SELECT version FROM es_read(%L, %L, %L, %L, %L) WITH ORDINALITY ORDER BY ordinality)',
                      of_stream, from_version, to_version, max_count, backward)) t;
    IF of_stream IS NULL OR max_count < 0 THEN
        wrong := CASE WHEN ended NOT IN ('22023', '22004') THEN 'ended in ' || ended END;
        RETURN;
    END IF;
    wanted := ARRAY(SELECT version FROM events()
                     WHERE stream = of_stream AND version BETWEEN coalesce(from_version, 1) AND coalesce(to_version, 9223372036854775807)
                     ORDER BY CASE WHEN backward THEN -version ELSE version END LIMIT max_count)::text;
    wrong := CASE WHEN wrong <> wanted OR ended <> '00000' THEN format('%s instead of %s', wrong, wanted) END;
END $_$;

CREATE FUNCTION filtered(after bigint, max_count bigint, category text, types text[], of_tags text[]) RETURNS text LANGUAGE sql AS $_$
    SELECT ARRAY(SELECT position FROM events()
                  WHERE position > coalesce(after, 0)
                    AND (category IS NULL OR split_part(stream, '-', 1) = category)
                    AND (types IS NULL OR type = ANY (types))
                    AND (of_tags IS NULL OR of_tags = '{}' OR tags @> of_tags)
                  ORDER BY position LIMIT max_count)::text
$_$;

CREATE FUNCTION check_read_all(after bigint, max_count bigint, category text, types text[], tags text[], OUT ended text, OUT wrong text)
LANGUAGE plpgsql AS $_$
DECLARE
    wanted text;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong
      FROM try(format('SELECT ARRAY(SELECT position FROM es_read_all(%L, %L, %L, %L, %L) WITH ORDINALITY ORDER BY ordinality)',
                      after, max_count, category, types, tags)) t;
    IF max_count < 0 THEN
        wrong := CASE WHEN ended <> '22023' THEN 'ended in ' || ended END;
        RETURN;
    END IF;
    wanted := filtered(after, max_count, category, types, tags);
    wrong := CASE WHEN wrong <> wanted OR ended <> '00000' THEN format('%s instead of %s', wrong, wanted) END;
END $_$;

CREATE FUNCTION drain(name text) RETURNS text LANGUAGE plpgsql AS $_$
DECLARE
    fetched bigint[];
    result bigint[] := '{}';
BEGIN
    LOOP
        fetched := ARRAY(SELECT position FROM es_fetch(name, 'c', 50));
        EXIT WHEN fetched = '{}';
        IF es_ack(name, 'c', fetched) <> cardinality(fetched) THEN
            RAISE EXCEPTION 'not all of % were acknowledged', fetched;
        END IF;
        result := result || fetched;
    END LOOP;
    RETURN ARRAY(SELECT p FROM unnest(result) p ORDER BY 1)::text;
END $_$;

CREATE FUNCTION check_subscription(after bigint, max_count bigint, category text, types text[], tags text[], OUT ended text, OUT wrong text)
LANGUAGE plpgsql AS $_$
DECLARE
    wanted text;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong
      FROM try(format('SELECT es_create_subscription(''s'', %L, %L, %L, %L)', category, types, tags, after)) t;
    IF ended <> '00000' THEN
        wrong := CASE WHEN after BETWEEN 0 AND es_head_position() AND array_position(types || tags, NULL) IS NULL THEN wrong END;
        RETURN;
    END IF;
    wanted := filtered(after, NULL, category, types, tags);
    SELECT CASE WHEN result <> wanted OR t.ended <> '00000' THEN format('%s instead of %s', result, wanted) END
      INTO wrong FROM try('SELECT drain(''s'')') t;
    PERFORM es_drop_subscription('s');
END $_$;

CREATE TABLE projected (position bigint PRIMARY KEY);
CREATE TABLE beside (position bigint PRIMARY KEY);
CREATE FUNCTION check_projection(after bigint, max_count bigint, category text, types text[], tags text[], OUT ended text, OUT wrong text)
LANGUAGE plpgsql AS $_$
DECLARE
    wanted text;
    found text;
BEGIN
    DELETE FROM projected;
    DELETE FROM beside;
    SELECT t.ended, t.result INTO ended, wrong
      FROM try(format('SELECT es_create_projection(''p'', ''INSERT INTO input.projected SELECT position FROM new_events'', ''{projected}'', %L, granularity => %L)',
                      types, (ARRAY['event', 'stream', 'batch'])[1 + coalesce(cardinality(types), 0) % 3])) t;
    IF ended <> '00000' THEN
        wrong := CASE WHEN types <> '{}' AND array_position(types, NULL) IS NULL THEN wrong END;
        RETURN;
    END IF;
    PERFORM es_create_projection('beside', 'INSERT INTO input.beside SELECT position FROM new_events', '{beside}', '{X,Y}', granularity => 'batch');
    PERFORM es_append_events('G', '[{"type": "X"}, {"type": "Z"}, {"type": "Y"}, {"type": "X"}]');
    wanted := filtered(0, NULL, NULL, types, NULL);
    found := ARRAY(SELECT position FROM projected ORDER BY 1)::text;
    wrong := CASE WHEN found <> wanted THEN format('%s instead of %s', found, wanted)
                  WHEN ARRAY(SELECT position FROM beside ORDER BY 1)::text <> filtered(0, NULL, NULL, '{X,Y}', NULL) THEN 'the one beside differs' END;
    PERFORM es_drop_projection('p'), es_drop_projection('beside');
END $_$;

-- A condition that fails for a later state may have been true before.
CREATE FUNCTION check_bisect(condition text, OUT ended text, OUT wrong text) LANGUAGE plpgsql AS $_$
DECLARE
    wanted record;
BEGIN
    SELECT t.ended, t.result INTO ended, wrong FROM try(format('SELECT es_bisect(''Long-1'', %L)', condition)) t;
    SELECT * INTO wanted FROM try(format(E'SELECT version FROM states r WHERE (%s\n) ORDER BY version LIMIT 1', condition));
    wrong := CASE
        WHEN wanted.ended <> '00000' THEN CASE WHEN ended NOT IN ('00000', wanted.ended) THEN format('%s instead of %s', wrong, wanted.result) END
        WHEN ended <> '00000' OR wrong IS DISTINCT FROM wanted.result THEN format('%s instead of %s', wrong, wanted.result) END;
END $_$;

-- The store as a whole: sound, and the same after an export and an import; an
-- attribute of a CloudEvent has a name in small letters and a value.
CREATE FUNCTION check_store() RETURNS text LANGUAGE plpgsql AS $_$
DECLARE
    store name := es_current_store();
    export jsonb;
    here jsonb;
    problem text := (SELECT string_agg(v::text, E'\n') FROM es_verify() v WHERE v.detail !~ '^fsync');
BEGIN
    SELECT concat_ws(E'\n', problem, string_agg(c::text, E'\n')) INTO problem
      FROM events() e
     CROSS JOIN es_cloudevent(e) c
     WHERE EXISTS (SELECT FROM jsonb_each(c) a WHERE a.key !~ '^[a-z0-9]{1,20}$' OR a.key <> 'data' AND (jsonb_typeof(a.value) <> 'string' OR a.value = '""'))
        OR NOT c ?& '{id,source,specversion,type,data}' OR c->'data' <> e.data OR c->>'type' <> e.type OR c->>'subject' <> e.stream;
    SELECT jsonb_agg(e ORDER BY e.position), jsonb_agg(to_jsonb(e) - 'position' ORDER BY e.stream, e.version) INTO export, here FROM events() e;
    PERFORM es_create_store('copy'), set_config('eventsourcing.store', 'copy', false);
    PERFORM es_import_events(export);
    IF here::text <> (SELECT jsonb_agg(to_jsonb(e) - 'position' ORDER BY e.stream, e.version)::text FROM events() e) THEN
        problem := concat_ws(E'\n', problem, 'an import of what was exported differs');
    END IF;
    PERFORM es_drop_store('copy', confirm => true), set_config('eventsourcing.store', store, false);
    RETURN problem;
END $_$;
