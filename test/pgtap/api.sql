-- The interface: what clients of version 1.0 rely on.  A function that is missing
-- here, or that changed, is a decision to be made, and then written down here.
\set QUIET on
BEGIN;
SELECT * FROM no_plan();
SELECT es_create_store();

-- Types and defaults as one would write them.
CREATE FUNCTION pg_temp.short(text) RETURNS text LANGUAGE sql AS $$
    SELECT replace(regexp_replace(regexp_replace($1, '::[a-z ]+(\[\])?(?=[,)]|$)', '', 'g'), '\minteger\M', 'int', 'g'),
                   'timestamp with time zone', 'timestamptz')
$$;

CREATE TEMP VIEW functions AS
SELECT p.oid, p.proname::text AS name,
       CASE p.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END AS volatility,
       CASE p.prokind WHEN 'p' THEN replace(pg_temp.short(pg_get_function_arguments(p.oid)), 'IN ', '')
                      ELSE pg_temp.short(pg_get_function_arguments(p.oid)) END AS arguments,
       CASE p.prokind WHEN 'p' THEN 'procedure' ELSE pg_temp.short(pg_get_function_result(p.oid)) END AS result,
       obj_description(p.oid, 'pg_proc') AS comment,
       obj_description(p.oid, 'pg_proc') !~ '^(Internal|Trigger):' AS public,
       p.prosecdef, l.lanname, p.proconfig
  FROM pg_proc p
  JOIN pg_language l ON l.oid = p.prolang
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing';

CREATE TEMP TABLE wanted (name text, volatility text, arguments text, result text);
INSERT INTO wanted VALUES
    ($$es_ack$$, 'volatile',
     $$subscription text, consumer text, positions bigint[]$$, $$bigint$$),
    ($$es_advance_watermark$$, 'volatile',
     '', 'bigint'),
    ($$es_alter_aggregate$$, 'volatile',
     $$category text, snapshot_every int DEFAULT NULL, snapshots_kept int DEFAULT NULL, code_version int DEFAULT NULL$$, $$void$$),
    ($$es_alter_projection$$, 'volatile',
     $$name text, script text DEFAULT NULL, types text[] DEFAULT NULL, granularity text DEFAULT NULL, rebuild boolean DEFAULT false$$, $$void$$),
    ($$es_append$$, 'volatile',
     $$stream text, type text, data jsonb DEFAULT '{}', expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL, event_id uuid DEFAULT NULL, tags text[] DEFAULT NULL$$, $$bigint$$),
    ($$es_append_events$$, 'volatile',
     $$stream text, events jsonb, expected_version bigint DEFAULT NULL$$, $$bigint$$),
    ($$es_apply_rules$$, 'immutable',
     $$rules jsonb, state jsonb, event es_event$$, $$jsonb$$),
    ($$es_bisect$$, 'stable',
     $$stream text, condition text$$, $$bigint$$),
    ($$es_cancel$$, 'volatile',
     $$key text$$, $$boolean$$),
    ($$es_capture$$, 'volatile',
     $$"table" regclass, category text, key text$$, $$bigint$$),
    ($$es_cloudevent$$, 'stable',
     $$event es_event, source text DEFAULT NULL$$, $$jsonb$$),
    ($$es_cloudevents$$, 'volatile',
     $$after bigint DEFAULT 0, max_count bigint DEFAULT 1000, category text DEFAULT NULL, types text[] DEFAULT NULL, tags text[] DEFAULT NULL, source text DEFAULT NULL$$, $$TABLE("position" bigint, event jsonb)$$),
    ($$es_counters$$, 'volatile',
     $$$$, $$TABLE(name text, value bigint)$$),
    ($$es_create_aggregate$$, 'volatile',
     $$category text, apply regprocedure DEFAULT NULL, rules jsonb DEFAULT NULL, initial jsonb DEFAULT '{}', snapshot_every int DEFAULT 100, code_version int DEFAULT 1$$, $$void$$),
    ($$es_create_decider$$, 'volatile',
     $$category text, decide regprocedure$$, $$void$$),
    ($$es_create_handler$$, 'volatile',
     $$name text, script text, category text DEFAULT NULL, types text[] DEFAULT NULL, tags text[] DEFAULT NULL, after bigint DEFAULT 0, max_attempts int DEFAULT 10, backoff interval DEFAULT '00:00:01', max_backoff interval DEFAULT '00:10:00'$$, $$void$$),
    ($$es_create_index$$, 'volatile',
     $$kind text$$, $$void$$),
    ($$es_create_projection$$, 'volatile',
     $$name text, script text, tables regclass[], types text[] DEFAULT NULL, mode text DEFAULT 'inline', granularity text DEFAULT 'event', replay boolean DEFAULT true$$, $$void$$),
    ($$es_create_store$$, 'volatile',
     $$name name DEFAULT 'es'$$, $$void$$),
    ($$es_create_subscription$$, 'volatile',
     $$name text, category text DEFAULT NULL, types text[] DEFAULT NULL, tags text[] DEFAULT NULL, after bigint DEFAULT 0, max_attempts int DEFAULT 10, backoff interval DEFAULT '00:00:01', max_backoff interval DEFAULT '00:10:00'$$, $$void$$),
    ($$es_create_upcaster$$, 'volatile',
     $$type text, from_schema int, fn regprocedure$$, $$void$$),
    ($$es_current_store$$, 'stable',
     $$$$, $$name$$),
    ($$es_diff$$, 'immutable',
     $$before jsonb, after jsonb$$, $$TABLE(path text, change text, old jsonb, new jsonb)$$),
    ($$es_drop_aggregate$$, 'volatile',
     $$category text$$, $$void$$),
    ($$es_drop_projection$$, 'volatile',
     $$name text$$, $$void$$),
    ($$es_drop_snapshots$$, 'volatile',
     $$category text DEFAULT NULL$$, $$bigint$$),
    ($$es_drop_store$$, 'volatile',
     $$name name, confirm boolean DEFAULT false$$, $$void$$),
    ($$es_drop_subscription$$, 'volatile',
     $$name text$$, $$void$$),
    ($$es_drop_upcaster$$, 'volatile',
     $$type text, from_schema int$$, $$void$$),
    ($$es_execute$$, 'volatile',
     $$stream text, command text, payload jsonb DEFAULT '{}', expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT NULL$$, $$bigint$$),
    ($$es_fetch$$, 'volatile',
     $$subscription text, consumer text, max_count int DEFAULT 100, lease interval DEFAULT '00:00:30'$$, $$SETOF es_delivery$$),
    ($$es_fingerprint$$, 'stable',
     $$category text$$, $$bytea$$),
    ($$es_given$$, 'volatile',
     $$stream text, events jsonb$$, $$SETOF text$$),
    ($$es_grant$$, 'volatile',
     $$role name, level text$$, $$void$$),
    ($$es_head_position$$, 'stable',
     $$$$, $$bigint$$),
    ($$es_import_event$$, 'volatile',
     $$stream text, version bigint, type text, data jsonb, recorded_at timestamptz, metadata jsonb DEFAULT NULL, event_id uuid DEFAULT NULL, tags text[] DEFAULT NULL$$, $$bigint$$),
    ($$es_import_events$$, 'volatile',
     $$events jsonb$$, $$bigint$$),
    ($$es_load$$, 'stable',
     $$stream text, to_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL, OUT version bigint, OUT state jsonb$$, $$record$$),
    ($$es_nack$$, 'volatile',
     $$subscription text, consumer text, "position" bigint, error text, retry_in interval DEFAULT NULL, park boolean DEFAULT false$$, $$void$$),
    ($$es_pause_projection$$, 'volatile',
     $$name text$$, $$void$$),
    ($$es_read$$, 'stable',
     $$stream text, from_version bigint DEFAULT 1, to_version bigint DEFAULT NULL, max_count bigint DEFAULT NULL, backward boolean DEFAULT false$$, $$SETOF es_event$$),
    ($$es_read_all$$, 'volatile',
     $$after bigint DEFAULT 0, max_count bigint DEFAULT 1000, category text DEFAULT NULL, types text[] DEFAULT NULL, tags text[] DEFAULT NULL$$, $$SETOF es_event$$),
    ($$es_rebuild$$, 'volatile',
     $$name text, batch_size int DEFAULT 20000$$, $$procedure$$),
    ($$es_rename_type$$, 'volatile',
     $$old text, new text$$, $$void$$),
    ($$es_repair_sequence$$, 'volatile',
     $$$$, $$bigint$$),
    ($$es_replay$$, 'stable',
     $$stream text, from_version bigint DEFAULT 1, to_version bigint DEFAULT NULL$$, $$TABLE(version bigint, type text, data jsonb, metadata jsonb, recorded_at timestamptz, state_before jsonb, state_after jsonb)$$),
    ($$es_reset_subscription$$, 'volatile',
     $$name text, after bigint$$, $$void$$),
    ($$es_resume_projection$$, 'volatile',
     $$name text$$, $$void$$),
    ($$es_run$$, 'volatile',
     $$name text DEFAULT NULL$$, $$procedure$$),
    ($$es_safe_position$$, 'volatile',
     $$$$, $$bigint$$),
    ($$es_schedule$$, 'volatile',
     $$at timestamptz, stream text, type text, data jsonb DEFAULT '{}', key text DEFAULT NULL$$, $$text$$),
    ($$es_snapshot$$, 'volatile',
     $$stream text$$, $$bigint$$),
    ($$es_store_exists$$, 'stable',
     $$name name$$, $$boolean$$),
    ($$es_stream_version$$, 'stable',
     $$stream text$$, $$bigint$$),
    ($$es_then$$, 'volatile',
     $$stream text, events jsonb, description text DEFAULT NULL$$, $$SETOF text$$),
    ($$es_trace$$, 'stable',
     $$correlation_id text$$, $$TABLE(depth int, label text, "position" bigint, stream text, version bigint, type text, recorded_at timestamptz, event_id uuid, causation_id text)$$),
    ($$es_uncapture$$, 'volatile',
     $$"table" regclass$$, $$void$$),
    ($$es_unpark$$, 'volatile',
     $$subscription text, stream text DEFAULT NULL$$, $$bigint$$),
    ($$es_upgrade_store$$, 'volatile',
     $$name name DEFAULT 'es'$$, $$void$$),
    ($$es_verify$$, 'stable',
     $$$$, $$TABLE(store name, relation text, problem text, detail text)$$),
    ($$es_verify_projection$$, 'volatile',
     $$name text$$, $$TABLE(relation regclass, difference text, "row" jsonb)$$),
    ($$es_wait$$, 'volatile',
     $$name text, "position" bigint DEFAULT NULL, timeout interval DEFAULT '00:00:05'$$, $$procedure$$);

--
-- Functions
--
SELECT is(f.volatility || ' (' || f.arguments || ') -> ' || f.result,
          w.volatility || ' (' || w.arguments || ') -> ' || w.result,
          'function ' || name)
  FROM wanted w LEFT JOIN functions f USING (name) ORDER BY name;
SELECT is_empty('SELECT name FROM functions f WHERE coalesce(public, true) AND NOT EXISTS (SELECT FROM wanted w WHERE w.name = f.name)',
                'every public function is in this list');
SELECT is_empty('SELECT name FROM functions GROUP BY name HAVING count(*) > 1',
                'no function is overloaded: untyped parameters would pick one');
SELECT is_empty('SELECT name FROM functions WHERE name !~ $$^es_[a-z_]+$$', 'their names begin with es_');
SELECT is_empty('SELECT name FROM functions WHERE coalesce(comment, $$$$) = $$$$', 'they all have a comment');
SELECT is_empty('SELECT name FROM functions WHERE prosecdef', 'none is SECURITY DEFINER');
SELECT is_empty($$SELECT name FROM functions
                   WHERE lanname <> 'c' AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)
                     -- these run what the caller gives them, as he would
                     AND name NOT IN ('es_bisect', 'es_then')$$,
                'those in SQL have their search_path pinned');
SELECT is_empty('SELECT name FROM functions WHERE NOT has_function_privilege($$public$$, oid, $$EXECUTE$$)',
                'rights on the tables govern, not rights on functions');

--
-- Types
--
SELECT is((SELECT string_agg(a.attname || ' ' || pg_temp.short(format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
             FROM pg_attribute a WHERE a.attrelid = to_regclass(t.name)), t.columns, 'type ' || t.name)
  FROM (VALUES
    ('es_event', 'position bigint, stream text, version bigint, type text, data jsonb, metadata jsonb, event_id uuid, tags text[], recorded_at timestamptz'),
    ('es_delivery', 'position bigint, stream text, version bigint, type text, data jsonb, metadata jsonb, event_id uuid, tags text[], recorded_at timestamptz, attempt int, leased_until timestamptz'))
    t (name, columns);

--
-- Relations: the first columns of each; further ones may come, behind them
--
CREATE TEMP VIEW columns AS
SELECT c.relname::text AS relation, c.oid, c.relkind, a.attnum, a.attname::text AS name,
       pg_temp.short(format_type(a.atttypid, a.atttypmod)) AS type
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relnamespace = 'es'::regnamespace AND c.relkind IN ('r', 'v');
SELECT is((SELECT string_agg(c.name || ' ' || c.type, ', ' ORDER BY c.attnum) FROM columns c
            WHERE c.relation = r.name AND c.attnum <= cardinality(string_to_array(r.columns, ', '))),
          r.columns, 'relation es.' || r.name)
  FROM (VALUES
    -- in this order without padding; readers name the columns
    ('events', 'position bigint, version bigint, recorded_at timestamptz, stream text, type text, data jsonb, metadata jsonb, event_id uuid, tags text[]'),
    ('streams', 'stream text, category text, version bigint, first_at timestamptz, last_at timestamptz'),
    ('aggregates', 'category text, kind text, snapshot_every int, code_version int'),
    ('snapshots', 'stream text, version bigint, state jsonb, taken_at timestamptz'),
    ('projections', 'name text, mode text, granularity text, state text, position bigint, lag bigint, last_error text'),
    ('subscriptions', 'name text, position bigint, lag bigint, leased bigint, parked bigint'),
    ('parked', 'subscription text, stream text, position bigint, attempts int, error text, parked_at timestamptz'),
    ('scheduled', 'key text, at timestamptz, stream text, type text, data jsonb'),
    ('progress', 'name text, kind text, phase text, done bigint, total bigint, started_at timestamptz, rate numeric, estimated_end timestamptz'),
    ('open_appends', 'holds_at bigint, pid int, gid text, since timestamptz, role name, application_name text, state text, query text'))
    r (name, columns);
SELECT is_empty('SELECT DISTINCT relation FROM columns WHERE coalesce(obj_description(oid, $$pg_class$$), $$$$) = $$$$',
                'every relation of a store has a comment');
SELECT is_empty($$SELECT relation, name FROM columns WHERE relation = 'events' AND type LIKE 'text%'
                     AND (SELECT attcollation FROM pg_attribute a WHERE a.attrelid = columns.oid AND a.attnum = columns.attnum)
                         <> 'pg_catalog."C"'::regcollation$$, 'names in the log compare by bytes');

--
-- Settings; the first call of a function makes them known
--
SELECT is(es_current_store(), 'es', 'the current store');
SELECT set_eq('SELECT name || $$ = $$ || boot_val FROM pg_settings WHERE name LIKE $$eventsourcing.%$$', ARRAY[
    'eventsourcing.actor = ', 'eventsourcing.causation_id = ', 'eventsourcing.command_id = ', 'eventsourcing.correlation_id = ',
    'eventsourcing.databases = ', 'eventsourcing.log_path = auto', 'eventsourcing.naptime = 5000', 'eventsourcing.notify = off',
    'eventsourcing.store = es', 'eventsourcing.traceparent = ', 'eventsourcing.use_snapshots = on'], 'settings and their defaults');

--
-- Errors, by SQLSTATE, and that they tell what to do
--
CREATE TABLE model (stream text PRIMARY KEY);
CREATE FUNCTION not_apply(state jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT es_append('Order-1', 'Created', '{"a": 1}', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_create_projection('strict', 'INSERT INTO model SELECT stream FROM new_events', '{model}', types => '{Strict}', replay => false);
SELECT es_create_aggregate('Order', rules => '{}');
SELECT es_create_subscription('sub');

-- Runs a statement that has to fail and undoes it.
CREATE FUNCTION pg_temp.raised(statement text) RETURNS TABLE (code text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    code := '00000';
    RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT;
END
$$;
CREATE TEMP TABLE errors AS
SELECT n, wanted, statement, r.*
  FROM (VALUES
    (1, 'ZE001', $$SELECT es_append('Order-1', 'A', expected_version => 0)$$),
    (2, 'ZE001', $$SELECT es_append('Order-1', 'A', expected_version => 7)$$),
    (3, 'ZE001', $$SELECT es_append('Order-2', 'A', expected_version => -1)$$),
    (4, 'ZE001', $$SELECT es_append_events('Order-1', '[{"type": "A"}]', 0)$$),
    (5, 'ZE001', $$SELECT es_append_events('Order-1', '[]', 0)$$),
    (6, 'ZE001', $$SELECT es_import_event('Order-1', 7, 'A', '{}', now())$$),
    (10, 'ZE003', $$SELECT es_append('Order-1', 'Other', '{"a": 1}', event_id => '00000000-0000-0000-0000-000000000001')$$),
    (11, 'ZE003', $$SELECT es_append('Order-1', 'Created', '{"a": 2}', event_id => '00000000-0000-0000-0000-000000000001')$$),
    (12, 'ZE003', $$SELECT es_append_events('Order-1', '[{"type": "Created", "data": {"a": 1}, "event_id": "00000000-0000-0000-0000-000000000001"}, {"type": "A"}]')$$),
    (13, 'ZE003', $$SELECT es_append_events('Order-2', '[{"type": "A", "event_id": "00000000-0000-0000-0000-000000000001"}, {"type": "A", "event_id": "00000000-0000-0000-0000-000000000001"}]')$$),
    (20, 'ZE005', $$UPDATE es.events SET type = 'Other'$$),
    (21, 'ZE005', $$DELETE FROM es.events$$),
    (22, 'ZE005', $$TRUNCATE es.events$$),
    (23, 'ZE005', $$INSERT INTO es.events SELECT * FROM es.events$$),
    (30, 'ZE006', $$SELECT es_append('', 'A')$$),
    (31, 'ZE006', $$SELECT es_append(NULL, 'A')$$),
    (32, 'ZE006', $$SELECT es_append('-1', 'A')$$),
    (33, 'ZE006', $$SELECT es_append(repeat('x', 513), 'A')$$),
    (34, 'ZE006', $$SELECT es_append('Order-1', '')$$),
    (35, 'ZE006', $$SELECT es_append('Order-1', NULL)$$),
    (36, 'ZE006', $$SELECT es_append('Order-1', repeat('x', 513))$$),
    (37, 'ZE006', $$SELECT es_append('Order-1', 'A', NULL)$$),
    (38, 'ZE006', $$SELECT es_append('Order-1', 'A', metadata => '[]')$$),
    (39, 'ZE006', $$SELECT es_append('Order-1', 'A', tags => '{a,NULL}')$$),
    (40, 'ZE006', $$SELECT es_append('Order-1', 'A', tags => '{{a},{b}}')$$),
    (41, 'ZE006', $$SELECT es_append_events('Order-1', NULL)$$),
    (42, 'ZE006', $$SELECT es_append_events('Order-1', '{}')$$),
    (43, 'ZE006', $$SELECT es_append_events('Order-1', '[1]')$$),
    (44, 'ZE006', $$SELECT es_append_events('Order-1', '[{"data": {}}]')$$),
    (45, 'ZE006', $$SELECT es_append_events('Order-1', '[{"type": 1}]')$$),
    (46, 'ZE006', $$SELECT es_append_events('Order-1', '[{"type": "A", "date": {}}]')$$),
    (47, 'ZE006', $$SELECT es_append_events('Order-1', '[{"type": "A", "tags": "a"}]')$$),
    (48, 'ZE006', $$SELECT es_append_events('Order-1', '[{"type": "A", "event_id": 1}]')$$),
    (49, 'ZE006', $$SELECT es_import_events('{}')$$),
    (50, 'ZE006', $$SELECT es_schedule(now(), '', 'A')$$),
    (60, 'ZE009', $$SELECT es_append_events('Order-1', '[{"type": "Strict"}, {"type": "Strict"}]')$$),
    (70, 'ZE013', $$SELECT es_fetch('sub', 'me'), es_reset_subscription('sub', 0), es_fetch('sub', 'you'), es_ack('sub', 'me', '{1}')$$),
    (100, '22023', $$SELECT es_append('Order-1', 'A', expected_version => -2)$$),
    (101, '22023', $$SELECT es_read('Order-1', max_count => -1)$$),
    (102, '22023', $$SELECT es_read_all(max_count => -1)$$),
    (103, '22023', $$SELECT es_create_index('stream')$$),
    (104, '22023', $$SELECT es_grant('pg_monitor', 'god')$$),
    (105, '22023', $$SELECT es_create_aggregate('Order')$$),
    (106, '22023', $$SELECT es_create_aggregate('Order-1', rules => '{}')$$),
    (107, '22023', $$SELECT es_create_aggregate('Order', 'not_apply(jsonb)')$$),
    (108, '22023', $$SELECT es_create_store('')$$),
    (120, '42704', $$SELECT set_config('eventsourcing.store', 'nowhere', true), es_append('Order-1', 'A')$$),
    (121, '42704', $$SELECT es_drop_store('nowhere')$$),
    (122, '42704', $$SELECT es_upgrade_store('nowhere')$$),
    (123, '42704', $$SELECT es_load('Customer-1')$$),
    (124, '42704', $$SELECT * FROM es_replay('Customer-1')$$),
    (130, '42710', $$SELECT es_create_store()$$),
    (140, '55000', $$SELECT es_drop_store('es')$$))
    v (n, wanted, statement), LATERAL pg_temp.raised(statement) r;
SELECT is(code, wanted, wanted || ': ' || statement) FROM errors ORDER BY n;
SELECT is_empty('SELECT n, statement FROM errors WHERE hint = $$$$ ORDER BY n', 'every error says what to do');
SELECT is_empty('SELECT n, statement FROM errors WHERE wanted IN ($$ZE001$$, $$ZE009$$) AND detail = $$$$ ORDER BY n',
                'and those of a conflict or a failure name the values');
SELECT is((SELECT detail FROM errors WHERE n = 2), 'Stream "Order-1": expected version 7, actual version 1.',
          'a conflict: stream, expected, actual');
SELECT is((SELECT count(*)::int FROM es.events), 1, 'what failed left nothing behind');

--
-- NULL, for each argument that has no default in turn: an error that names it,
-- or, of what only reads or computes, no result
--
SELECT es_create_subscription('Order');
CREATE FUNCTION not_decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT es_create_decider('Order', 'not_decide(jsonb, text, jsonb)');
CREATE FUNCTION pg_temp.given(type text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE type WHEN 'text' THEN '''Order''' WHEN 'name' THEN '''es''' WHEN 'jsonb' THEN '''[]'''
                     WHEN 'regclass' THEN '''model''' WHEN 'regclass[]' THEN '''{model}''' WHEN 'bigint[]' THEN '''{1}'''
                     WHEN 'regprocedure' THEN '''not_decide(jsonb, text, jsonb)''' WHEN 'timestamp with time zone' THEN 'now()'
                     WHEN 'bigint' THEN '1' WHEN 'integer' THEN '1' ELSE 'NULL' END || '::' || type
$$;
CREATE FUNCTION pg_temp.with_null(oid, n int) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%I => %s', p.proargnames[i], CASE WHEN i = n THEN 'NULL::' || format_type(p.proargtypes[i - 1], NULL)
                             ELSE pg_temp.given(format_type(p.proargtypes[i - 1], NULL)) END), ', ')
      FROM pg_proc p, generate_series(1, p.pronargs - p.pronargdefaults) i WHERE p.oid = $1
$$;
CREATE FUNCTION pg_temp.outcome(name text, argument text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE call INTO result;
    RAISE EXCEPTION USING ERRCODE = '00XXX';
EXCEPTION WHEN SQLSTATE '00XXX' THEN
    RETURN format('returns %s', coalesce(result, 'NULL'));
WHEN null_value_not_allowed OR SQLSTATE 'ZE006' THEN
    RETURN CASE SQLERRM WHEN argument || ' must not be NULL' THEN 'names it' ELSE SQLERRM END;
WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE TEMP TABLE nulls AS
SELECT f.name, p.proargnames[i] AS argument,
       pg_temp.outcome(f.name, p.proargnames[i],
                       format(CASE p.prokind WHEN 'p' THEN 'CALL %s(%s)' ELSE 'SELECT r::text FROM %s(%s) r' END,
                              f.name, pg_temp.with_null(p.oid, i))) AS outcome
  FROM functions f JOIN pg_proc p USING (oid), generate_series(1, p.pronargs - p.pronargdefaults) i
 WHERE f.public AND p.prorettype <> 'trigger'::regtype;
SELECT cmp_ok((SELECT count(*) FROM nulls), '>', 70::bigint, 'arguments were looked at');
SELECT set_eq('SELECT name || $$.$$ || argument || $$ $$ || outcome FROM nulls WHERE outcome <> $$names it$$', ARRAY[
    'es_apply_rules.event returns NULL', 'es_apply_rules.rules returns NULL', 'es_apply_rules.state returns NULL',
    'es_cloudevent.event returns NULL', 'es_diff.after returns ($,removed,[],)', 'es_diff.before returns ($,added,,[])',
    'es_fingerprint.category returns NULL', 'es_store_exists.name returns false', 'es_stream_version.stream returns NULL',
    'es_trace.correlation_id returns NULL',
    -- whoever has nothing to say of an error
    'es_nack.error ZE013: consumer "Order" of subscription "Order" does not hold the event at position 1'],
    'no argument without a default takes NULL in silence');

SELECT * FROM finish();
ROLLBACK;
