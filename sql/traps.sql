-- Every function, operator and type of pg_catalog has a trap of the same name in
-- a schema that comes first in the caller's search_path: nothing of ours may fall
-- into it, neither with the owner's rights nor with the caller's.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_es_builder;
CREATE ROLE regress_es_trapper;
CREATE SCHEMA trap AUTHORIZATION regress_es_trapper;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_es_builder', current_database()); END $$;
SET ROLE regress_es_builder;
SELECT es_create_store();
CREATE SCHEMA model;
CREATE TABLE model.n (stream text PRIMARY KEY, n bigint);
CREATE TABLE model.m (stream text PRIMARY KEY, n bigint);
SELECT es_create_projection('inline', 'INSERT INTO model.n SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = n.n + 1', '{model.n}');
SELECT es_create_projection('async', 'INSERT INTO model.m SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = m.n + 1', '{model.m}', mode => 'async', granularity => 'stream');
SELECT es_create_aggregate('A', rules => '{"A": {"$inc": {"n": 1}}}', snapshot_every => 2);
CREATE FUNCTION model.apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('v', event.version) $$;
CREATE FUNCTION model.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_array(jsonb_build_object('type', command)); END $$;
CREATE FUNCTION model.lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT data || '{"lifted": true}' $$;
SELECT es_create_aggregate('B', 'model.apply(jsonb, es_event)', snapshot_every => 1);
SELECT es_append('B-1', 'Old', '{}');
SELECT es_create_upcaster('Old', 1, 'model.lift(jsonb)');
SELECT es_rename_type('Older', 'Old');
SELECT es_create_decider('B', 'model.decide(jsonb, text, jsonb)');
SELECT es_create_handler('handler', 'SELECT es_append(stream || ''-handled'', type) FROM new_events WHERE type = ''Handle''');
SELECT es_create_handler('failing', 'SELECT 1 / (CASE type WHEN ''Fail'' THEN 0 ELSE 1 END) FROM new_events', backoff => '0', max_attempts => 2);
SELECT es_grant('regress_es_trapper', 'writer'), es_grant('regress_es_trapper', 'consumer');
GRANT DELETE ON es.subscriptions TO regress_es_trapper;

SET ROLE regress_es_trapper;
CREATE FUNCTION trap.spring(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'TRAP: %', what;
END
$$;
DO $$
DECLARE
    f record;
BEGIN
    -- functions, aggregates and window functions alike
    FOR f IN
        SELECT DISTINCT ON (p.proname, p.proargtypes) p.proname, pg_get_function_identity_arguments(p.oid) AS args,
               (SELECT string_agg(format_type(t, NULL), ', ' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, n)) AS types,
               format_type(p.prorettype, NULL) AS result, p.proretset
          FROM pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.provariadic = 0
           AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) t
                             JOIN pg_type y ON y.oid = t
                            WHERE y.typtype = 'p' AND y.typname NOT IN ('anyelement', 'anyarray', 'record', 'void')
                               OR y.typname = 'record' AND t <> p.prorettype)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
                           f.proname, f.types, CASE WHEN f.proretset THEN 'SETOF ' ELSE '' END || CASE f.result WHEN 'record' THEN 'record' ELSE f.result END,
                           format('BEGIN PERFORM trap.spring(%L); RETURN%s; END', f.proname || '(' || coalesce(f.types, '') || ')',
                                  CASE WHEN f.proretset OR f.result = 'void' THEN '' ELSE ' NULL' END));
        EXCEPTION WHEN invalid_function_definition OR feature_not_supported OR datatype_mismatch OR syntax_error THEN
            NULL;
        END;
    END LOOP;
    FOR f IN
        SELECT row_number() OVER () AS n, o.oprname, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r, format_type(o.oprresult, NULL) AS result
          FROM pg_operator o JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright JOIN pg_type t ON t.oid = o.oprresult
         WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND l.typtype <> 'p' AND r.typtype <> 'p' AND t.typtype <> 'p'
    LOOP
        EXECUTE format('CREATE FUNCTION trap.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', f.n, f.l, f.r, f.result,
                       format('BEGIN PERFORM trap.spring(%L); RETURN NULL; END', f.l || ' ' || f.oprname || ' ' || f.r));
        EXECUTE format('CREATE OPERATOR trap.%s (FUNCTION = trap.operator_%s, LEFTARG = %s, RIGHTARG = %s)', f.oprname, f.n, f.l, f.r);
    END LOOP;
    -- relations, and last the types, whose names were needed so far
    FOR f IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') LOOP
        EXECUTE format('CREATE TABLE trap.%I ()', f.relname);
    END LOOP;
    FOR f IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0 AND typname <> 'unknown' LOOP
        EXECUTE format('CREATE DOMAIN trap.%I AS pg_catalog.%1$I CHECK (trap.spring(%L) IS NULL)', f.typname, 'type ' || f.typname);
    END LOOP;
END
$$;
SELECT count(*) > 1500 AS functions FROM pg_proc WHERE pronamespace = 'trap'::regnamespace;
SELECT count(*) > 500 AS operators FROM pg_operator WHERE oprnamespace = 'trap'::regnamespace;
GRANT USAGE ON SCHEMA trap TO PUBLIC;

-- the traps are set
SET search_path = trap, pg_catalog, public;
SELECT 1 = 1, length('x');
-- what anybody calls, as a writer and consumer, as the owner, and as a superuser
CREATE FUNCTION trap.try() RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
    statement pg_catalog.text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        'SELECT public.es_append(''A-1'', ''A'')',
        'SELECT public.es_append(''A-1'', ''A'', event_id => ''00000000-0000-0000-0000-000000000001'', metadata => ''{"correlation_id": "c"}'', tags => ''{a}'')',
        'SELECT public.es_append(''A-1'', ''A'', event_id => ''00000000-0000-0000-0000-000000000001'', metadata => ''{"correlation_id": "c"}'', tags => ''{a}'')',
        'SELECT public.es_append_events(''A-1'', ''[{"type": "A"}, {"type": "A", "event_id": "00000000-0000-0000-0000-000000000002", "tags": ["a", "b"]}]'')',
        'SELECT public.es_append_events(''A-1'', ''[{"type": "A"}, {"type": "A", "event_id": "00000000-0000-0000-0000-000000000002", "tags": ["a", "b"]}]'')',
        'SELECT public.es_append(''A-1'', ''A'', expected_version => 1)',
        'SELECT public.es_append(''C-1'', ''Handle''), public.es_append(''C-2'', ''Fail''), public.es_append(''C-2'', ''Other'')',
        'SELECT public.es_read(''A-1'')', 'SELECT public.es_read(''A-1'', 2, 3, 1, true)',
        'SELECT public.es_read_all()', 'SELECT public.es_read_all(0, 10, ''A'', ''{A,Old}'', ''{a}'')',
        'SELECT public.es_read_all(0, 10, ''A'')', 'SELECT public.es_read_all(0, 10, types => ''{Old}'')', 'SELECT public.es_read_all(0, 10, tags => ''{a}'')',
        'SELECT public.es_stream_version(''A-1'')', 'SELECT public.es_safe_position()', 'SELECT public.es_head_position()',
        'SELECT public.es_load(''A-1'')', 'SELECT public.es_load(''A-1'', 2)', 'SELECT public.es_load(''A-1'', as_of => ''2100-01-01'')',
        'SELECT public.es_load(''B-1'')', 'SELECT public.es_replay(''A-1'')', 'SELECT public.es_replay(''B-1'')', 'SELECT public.es_snapshot(''A-1'')',
        'SELECT public.es_snapshot(''B-1'')', 'SELECT public.es_execute(''B-1'', ''Done'')', 'SELECT public.es_bisect(''A-1'', ''false'')',
        'SELECT public.es_diff(''{"a": [1, 2], "b": 1}'', ''{"a": [1, 3]}'')', 'SELECT public.es_trace(''c'')', 'SELECT public.es_trace(''1'')',
        'SELECT public.es_cloudevents()', 'SELECT public.es_counters()', 'SELECT public.es_fingerprint(''A'')',
        'SELECT public.es_create_subscription(''s'', ''C'')', 'SELECT public.es_create_subscription(''t'', ''A'', ''{A}'', ''{a}'')',
        'SELECT public.es_schedule(''2000-01-01'', ''D-1'', ''A'', key => ''k'')', 'SELECT public.es_schedule(''2000-01-01'', ''D-1'', ''A'')', 'SELECT public.es_cancel(''k'')',
        'SELECT pg_catalog.row_to_json(x) FROM es.streams x', 'SELECT pg_catalog.row_to_json(x) FROM es.open_appends x',
        'SELECT pg_catalog.row_to_json(x) FROM es.subscriptions x', 'SELECT pg_catalog.row_to_json(x) FROM es.parked x',
        'SELECT pg_catalog.row_to_json(x) FROM es.projections x', 'SELECT pg_catalog.row_to_json(x) FROM es.progress x', 'SELECT pg_catalog.row_to_json(x) FROM es.scheduled x',
        'SELECT public.es_create_index(''tags'')', 'SELECT public.es_create_index(''correlation'')', 'SELECT public.es_grant(''regress_es_trapper'', ''reader'')',
        'SELECT public.es_verify()', 'SELECT public.es_repair_sequence()', 'SELECT public.es_upgrade_store()', 'SELECT public.es_drop_snapshots(''A'')', 'SELECT public.es_drop_snapshots()',
        'SELECT public.es_pause_projection(''async'')', 'SELECT public.es_resume_projection(''async'')', 'SELECT public.es_pause_projection(''inline'')', 'SELECT public.es_resume_projection(''inline'')',
        'SELECT public.es_import_event(''I-1'', 1, ''A'', ''{}'', ''2020-01-01'')',
        'SELECT public.es_import_events(''[{"stream": "I-2", "version": 1, "type": "A", "data": {}, "recorded_at": "2020-01-01"}]'')',
        'SELECT public.es_create_store(''other'')', 'SELECT public.es_drop_store(''other'')', 'SELECT public.es_drop_store(''other'', true)'] LOOP
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN sqlstate '42501' OR sqlstate 'ZE001' OR sqlstate '55000' OR sqlstate '42710' OR sqlstate '0A000' THEN
            NULL;       -- not everybody may, or at this point
        WHEN OTHERS THEN
            RETURN NEXT pg_catalog.concat(statement, ': ', SQLERRM);
        END;
    END LOOP;
END
$$;
SELECT * FROM trap.try();
SELECT pg_catalog.count(*) FROM public.es_fetch('s', 'c', 10);
SELECT public.es_nack('s', 'c', position, 'no') FROM es.events WHERE type OPERATOR(pg_catalog.=) 'Fail' ORDER BY position LIMIT 1;
SELECT pg_catalog.count(*) FROM public.es_fetch('s', 'c', 10);
SELECT public.es_ack('s', 'c', '{1}');
SELECT public.es_ack('s', 'd', '{99999}');
SELECT public.es_reset_subscription('s', 0);
SELECT pg_catalog.count(*) FROM public.es_fetch('s', 'c', 10, lease => '1 microsecond');
SELECT pg_catalog.count(*) FROM public.es_fetch('s', 'd', 10, lease => '1 microsecond');
SELECT public.es_unpark('s'), public.es_unpark('s', 'C-2');
SELECT public.es_drop_subscription('t');
CALL public.es_run();
CALL public.es_run('failing');
CALL public.es_wait('handler', 1);
SET ROLE regress_es_builder;
SELECT * FROM trap.try();
CALL public.es_run();
CALL public.es_rebuild('inline');
CALL public.es_rebuild('async');
SELECT public.es_verify_projection('inline');
SELECT public.es_verify_projection('async');
SELECT public.es_alter_projection('async', rebuild => true);
CALL public.es_rebuild('async', 2);
SELECT public.es_unpark('failing');
SELECT public.es_drop_projection('async'), public.es_drop_aggregate('A'), public.es_drop_subscription('handler');
RESET ROLE;
SELECT * FROM trap.try();
CALL public.es_run();
SET eventsourcing.log_path = spi;
SELECT * FROM trap.try();
CALL public.es_rebuild('inline');
RESET search_path;
RESET eventsourcing.log_path;
SELECT es_drop_store('es', true);
SET client_min_messages = error;
DROP OWNED BY regress_es_trapper, regress_es_builder CASCADE;
DROP ROLE regress_es_trapper, regress_es_builder;
