-- Snapshots: when they are taken, which are used, and who may.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
SELECT es_create_store();
CREATE ROLE es_snapshot_writer;
CREATE ROLE es_snapshot_reader;
CREATE ROLE es_snapshot_part;
SELECT es_grant('es_snapshot_writer', 'writer');
SELECT es_grant('es_snapshot_reader', 'reader');
SELECT es_grant('es_snapshot_part', 'writer');

-- Counts its calls, outside of any transaction, so that a test can see how much
-- was folded.
CREATE SEQUENCE calls;
CREATE FUNCTION count_calls(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('calls');
    RETURN jsonb_build_object('n', (state->>'n')::int + (event.data->>'add')::int);
END $$;
CREATE FUNCTION called() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO n FROM calls;
    PERFORM setval('calls', 1, false);
    RETURN n;
END $$;
-- appends n events in one call
CREATE FUNCTION add(stream text, n int) RETURNS bigint LANGUAGE sql AS $$
    SELECT es_append_events(stream, jsonb_agg(jsonb_build_object('type', 'Added', 'data', jsonb_build_object('add', 1))))
      FROM generate_series(1, n)
$$;
CREATE VIEW kept AS SELECT stream, version, state FROM es.snapshots ORDER BY stream, version;

--
-- Taken by the append that crosses a multiple
--
SELECT es_create_aggregate('C', apply => 'count_calls(jsonb, es_event)', initial => '{"n": 0}', snapshot_every => 10);
SELECT add('C-1', 1) FROM generate_series(1, 9);
TABLE kept;
SELECT add('C-1', 1);
TABLE kept;
-- from the one before, which stays
SELECT called();
SELECT add('C-1', 1) FROM generate_series(1, 10);
SELECT called();
TABLE kept;
-- two are kept
SELECT add('C-1', 10);
TABLE kept;
-- a batch that crosses several multiples takes one, at its end
SELECT add('C-2', 37);
SELECT * FROM kept WHERE stream = 'C-2';
SELECT add('C-2', 2);
SELECT * FROM kept WHERE stream = 'C-2';
SELECT add('C-2', 1);
SELECT * FROM kept WHERE stream = 'C-2';
-- a load folds the tail alone
SELECT called() > 0;
SELECT add('C-2', 3);
SELECT * FROM es_load('C-2');
SELECT called();
SET eventsourcing.use_snapshots = off;
SELECT * FROM es_load('C-2');
SELECT called();
RESET eventsourcing.use_snapshots;
-- never taken by a read
SELECT es_drop_snapshots('C');
SELECT * FROM es_load('C-1');
SELECT count(*) FROM es_replay('C-1');
TABLE kept;
SELECT called();

--
-- es_snapshot(): whenever one wants
--
SELECT es_snapshot('C-1');
SELECT called();
SELECT es_snapshot('C-1');
SELECT called();
TABLE kept;
SELECT es_snapshot('C-0');
SELECT es_snapshot('Nobody-1');
SELECT es_snapshot(NULL);
-- how many are kept is a setting of the aggregate
SELECT es_alter_aggregate('C', snapshots_kept => 3);
SELECT add('C-1', 1), es_snapshot('C-1') FROM generate_series(1, 3);
SELECT stream, version FROM kept;
SELECT es_alter_aggregate('C', snapshots_kept => 1);
SELECT add('C-1', 1), es_snapshot('C-1');
SELECT stream, version FROM kept;
SELECT es_alter_aggregate('C', snapshots_kept => 0);
SELECT es_alter_aggregate('C', snapshot_every => -1);
SELECT es_alter_aggregate('Nobody', snapshots_kept => 5);
-- 0: never
SELECT es_alter_aggregate('C', snapshot_every => 0, snapshots_kept => 2);
SELECT es_drop_snapshots();
SELECT add('C-3', 20);
TABLE kept;
SELECT es_alter_aggregate('C', snapshot_every => 10);
SELECT category, kind, snapshot_every, code_version, snapshots_kept FROM es.aggregates;

--
-- Time travel by way of snapshots
--
SELECT es_alter_aggregate('C', snapshots_kept => 100);
SELECT add('C-4', 10) FROM generate_series(1, 10);
SELECT version FROM kept WHERE stream = 'C-4';
SELECT called() > 0;
SELECT * FROM es_load('C-4', to_version => 55);
SELECT called();
SELECT * FROM es_load('C-4', to_version => 60);
SELECT called();
SELECT * FROM es_load('C-4', to_version => 59);
SELECT called();
SELECT * FROM es_load('C-4', to_version => 9);
SELECT called();
SELECT * FROM es_load('C-4', to_version => 0);
SELECT * FROM es_load('C-4', to_version => 1000);
SELECT called();
SELECT * FROM es_load('C-4', to_version => -1);
-- at every time at which there was an event, and before and after
SELECT v, l.version, l.state
  FROM unnest(ARRAY[1, 5, 10, 11, 70, 99, 100]) v
 CROSS JOIN LATERAL (SELECT recorded_at FROM es.events WHERE stream = 'C-4' AND version = v) e
 CROSS JOIN LATERAL es_load('C-4', as_of => e.recorded_at) l
 WHERE l.version <> (SELECT max(version) FROM es.events WHERE stream = 'C-4' AND recorded_at <= e.recorded_at);
SELECT l.version, l.state
  FROM es.events e CROSS JOIN LATERAL es_load('C-4', as_of => e.recorded_at) l
 WHERE e.stream = 'C-4' AND e.version = 60;
SELECT * FROM es_load('C-4', as_of => '-infinity');
SELECT * FROM es_load('C-4', as_of => '2000-01-01');
SELECT * FROM es_load('C-4', as_of => 'infinity');
SELECT * FROM es_load('C-4', to_version => 33, as_of => 'infinity');
SELECT called() > 0;
-- a window is replayed from the nearest snapshot on
SELECT version, state_before, state_after FROM es_replay('C-4', 62, 63);
SELECT called();
SELECT version, state_before, state_after FROM es_replay('C-4', 61, 61);
SELECT called();
SELECT version FROM es_replay('C-4', 99);
SELECT called();
SELECT version FROM es_replay('C-4', 102);
SELECT version FROM es_replay('C-4', 5, 4);
SELECT es_drop_snapshots('C');
SELECT version, state_before, state_after FROM es_replay('C-4', 62, 63);
SELECT called();

--
-- One made by other code is ignored, and replaced when the next is due
--
SELECT es_drop_aggregate('C');
CREATE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1) $$;
CREATE FUNCTION show() RETURNS TABLE (step text, with_snapshots jsonb, without jsonb, usable bigint, stale bigint)
LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL eventsourcing.use_snapshots = on;
    with_snapshots := (SELECT state FROM es_load('S-1'));
    SET LOCAL eventsourcing.use_snapshots = off;
    without := (SELECT state FROM es_load('S-1'));
    SELECT count(*) FILTER (WHERE fingerprint = es_fingerprint('S')),
           count(*) FILTER (WHERE fingerprint <> es_fingerprint('S'))
      INTO usable, stale FROM es.snapshots WHERE stream = 'S-1';
    RETURN NEXT;
END $$;
CREATE VIEW shown AS SELECT with_snapshots, without, usable, stale FROM show();
SELECT es_create_aggregate('S', apply => 'count_up(jsonb, es_event)', snapshot_every => 10);
SELECT add('S-1', 10);
SELECT * FROM shown;

-- the apply function, made anew
CREATE OR REPLACE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 2) $$;
SELECT * FROM shown;
SELECT add('S-1', 5);
SELECT * FROM shown;
SELECT add('S-1', 5);
SELECT * FROM shown;
-- and as it was before
CREATE OR REPLACE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1) $$;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT * FROM shown;
-- in another language, with the same text
CREATE OR REPLACE FUNCTION count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 3); END $$;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- a function of the same name in another schema
CREATE SCHEMA elsewhere;
CREATE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 3); END $$;
SELECT es_create_aggregate('S', apply => 'elsewhere.count_up(jsonb, es_event)', snapshot_every => 10);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT * FROM shown;
-- dropped, and made anew
DROP FUNCTION elsewhere.count_up;
SELECT * FROM es_load('S-1');
CREATE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 4); END $$;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- with the same text, in which the names are those of other arguments
DROP FUNCTION elsewhere.count_up;
CREATE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', coalesce((to_jsonb(state)->>'n')::int, 0) + 4) $$;
SELECT es_snapshot('S-1');
DROP FUNCTION elsewhere.count_up;
CREATE FUNCTION elsewhere.count_up(event jsonb, state es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', coalesce((to_jsonb(state)->>'n')::int, 0) + 4) $$;
SELECT * FROM shown;
DROP FUNCTION elsewhere.count_up;
CREATE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 4); END $$;
SELECT es_snapshot('S-1');
-- its settings
ALTER FUNCTION elsewhere.count_up SET extra_float_digits = 0;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- the search_path that it runs with
SET search_path = elsewhere, public;
SELECT es_create_aggregate('S', apply => 'elsewhere.count_up(jsonb, es_event)', snapshot_every => 10);
RESET search_path;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- a body that is kept as a parse tree
CREATE OR REPLACE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb
    RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 4);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
CREATE OR REPLACE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb
    RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 5);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- rules instead
SELECT es_create_aggregate('S', rules => '{"Added": {"$inc": {"n": "$.add"}}}', snapshot_every => 10);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- other rules
SELECT es_create_aggregate('S', rules => '{"Added": {"$inc": {"n": 7}}}', snapshot_every => 10);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- the initial state
SELECT es_create_aggregate('S', rules => '{"Added": {"$inc": {"n": 7}}}', initial => '{"n": 100}', snapshot_every => 10);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- the version of code that the function calls, by either way
SELECT es_create_aggregate('S', rules => '{"Added": {"$inc": {"n": 7}}}', initial => '{"n": 100}', snapshot_every => 10, code_version => 2);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT es_alter_aggregate('S', code_version => 3);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
-- what does not matter to the state does not matter to snapshots
SELECT es_alter_aggregate('S', snapshot_every => 20, snapshots_kept => 4);
SELECT * FROM shown;
-- upcasters: added, changed, dropped, and a type renamed
SELECT es_create_aggregate('S', rules => '{"Added": {"$inc": {"n": "$.add"}}}', snapshot_every => 10);
SELECT es_snapshot('S-1');
CREATE FUNCTION lift(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"add": 10}'::jsonb $$;
SELECT es_create_upcaster('Added', 1, 'lift(jsonb)');
SELECT * FROM shown;
SELECT es_snapshot('S-1');
CREATE OR REPLACE FUNCTION lift(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"add": 20}'::jsonb $$;
SELECT * FROM shown;
SELECT es_snapshot('S-1');
CREATE FUNCTION lift_more(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"add": 30}'::jsonb $$;
SELECT es_create_upcaster('Added', 2, 'lift_more(jsonb)');
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT es_create_upcaster('Added', 1, 'lift_more(jsonb)');
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT es_drop_upcaster('Added', 2);
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT es_rename_type('Added', 'Counted');
SELECT * FROM shown;
SELECT es_snapshot('S-1');
SELECT * FROM shown;
-- and one that was rolled back
BEGIN;
CREATE OR REPLACE FUNCTION lift_more(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"add": 1}'::jsonb $$;
SELECT es_create_aggregate('S', rules => '{"Counted": {"$inc": {"n": "$.add"}}}');
SELECT es_snapshot('S-1');
SELECT * FROM shown;
SAVEPOINT s;
SELECT es_create_aggregate('S', rules => '{"Counted": {"$inc": {"n": 1000}}}');
SELECT es_snapshot('S-1');
SELECT * FROM shown;
ROLLBACK TO s;
SELECT * FROM shown;
ROLLBACK;
SELECT * FROM shown;
-- dropped, it leaves no snapshots behind
SELECT es_drop_aggregate('S');
SELECT count(*) FROM es.snapshots WHERE stream LIKE 'S-%';
SELECT es_drop_aggregate('S');
DELETE FROM es.renamed_types;
DELETE FROM es.upcasters;

--
-- The session's settings decide neither what a state is nor whether a snapshot fits
--
CREATE FUNCTION elsewhere.times(state jsonb, event es_event) RETURNS jsonb IMMUTABLE
    RETURN state || jsonb_build_object('at', event.recorded_at, 'day', event.recorded_at::date,
                                       'new', event.recorded_at > '2000-01-01 12:00+00'::timestamptz, E'back\\slash', interval '1 day 01:00');
SELECT es_create_aggregate('Z', apply => 'elsewhere.times(jsonb, es_event)', snapshot_every => 10);
SELECT add('Z-1', 1), es_snapshot('Z-1');
CREATE FUNCTION zone(setting text, value text) RETURNS TABLE (utc boolean, fits boolean, as_folded boolean) LANGUAGE plpgsql AS $$
DECLARE
    folded jsonb;
BEGIN
    PERFORM set_config(setting, value, true);
    -- what was looked up under other settings is forgotten
    PERFORM es_alter_aggregate('Z', snapshots_kept => 3);
    PERFORM set_config('eventsourcing.use_snapshots', 'off', true);
    folded := (SELECT state FROM es_load('Z-1'));
    PERFORM set_config('eventsourcing.use_snapshots', 'on', true);
    RETURN QUERY
        SELECT (s.state->>'at') LIKE '%+00:00' AND (s.state->>'day')::date = (e.recorded_at AT TIME ZONE 'UTC')::date,
               s.fingerprint = es_fingerprint('Z'),
               s.state = folded AND s.state = (SELECT state FROM es_load('Z-1'))
          FROM es.snapshots s JOIN es.events e USING (stream, version)
         WHERE stream = 'Z-1';
END $$;
SELECT n, z.*
  FROM (VALUES (1, 'timezone', 'Asia/Kathmandu'), (2, 'timezone', 'Pacific/Kiritimati'), (3, 'timezone', 'Etc/GMT+12'), (4, 'timezone', 'UTC'),
               (5, 'datestyle', 'SQL, DMY'), (6, 'intervalstyle', 'iso_8601'), (7, 'quote_all_identifiers', 'on'),
               (8, 'standard_conforming_strings', 'off')) s (n, setting, value)
 CROSS JOIN LATERAL zone(setting, value) z
 ORDER BY n;
-- but the function's own do, and are known
ALTER FUNCTION elsewhere.times SET timezone = 'Asia/Kathmandu';
SELECT state->>'at' LIKE '%+05:45' AS own FROM es_load('Z-1');
SELECT count(*) FROM es.snapshots WHERE stream = 'Z-1' AND fingerprint = es_fingerprint('Z');
DROP FUNCTION zone, elsewhere.times;
SELECT es_drop_aggregate('Z');

--
-- A snapshot that cannot be made fails no append: one warning a session
--
RESET client_min_messages;
SELECT es_create_aggregate('W', apply => 'elsewhere.count_up(jsonb, es_event)', snapshot_every => 2);
SELECT add('W-1', 1);
DROP FUNCTION elsewhere.count_up;
SELECT add('W-1', 1);
SELECT add('W-1', 2);
SELECT es_snapshot('W-1');
CREATE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'ZX001'; END $$;
SELECT add('W-1', 2);
CREATE OR REPLACE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN NULL; END $$;
SELECT add('W-1', 2);
SELECT * FROM es_load('W-1');
CREATE OR REPLACE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1); END $$;
SELECT add('W-1', 2);
SELECT * FROM kept WHERE stream = 'W-1';
-- rules that were broken behind our back: the append does not even need them
SELECT es_create_aggregate('B', rules => '{"Added": {"$inc": {"n": 1}}}', snapshot_every => 2);
UPDATE es.aggregates SET rules = '{"Added": {"$no": {"n": 1}}}' WHERE category = 'B';
SELECT add('B-1', 1);
SELECT add('B-1', 1);
SELECT add('B-1', 2);
SELECT * FROM es_load('B-1');
SELECT version FROM es_read('B-1');
SET client_min_messages = warning;
SELECT es_drop_aggregate('B');
-- a cancelled append stays cancelled
CREATE OR REPLACE FUNCTION elsewhere.count_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'as if cancelled' USING ERRCODE = 'query_canceled'; END $$;
\set VERBOSITY sqlstate
SELECT add('W-1', 2);
\set VERBOSITY default
SELECT es_stream_version('W-1');
DROP FUNCTION elsewhere.count_up;
SELECT es_drop_aggregate('W');

--
-- They come and go with the events
--
SELECT es_create_aggregate('T', rules => '{"Added": {"$inc": {"n": "$.add"}}}', snapshot_every => 10);
BEGIN;
SELECT add('T-1', 10);
SAVEPOINT s;
SELECT add('T-1', 10);
SELECT * FROM kept WHERE stream = 'T-1';
ROLLBACK TO s;
SELECT * FROM kept WHERE stream = 'T-1';
SELECT add('T-1', 5);
SELECT * FROM es_load('T-1');
COMMIT;
BEGIN;
SELECT add('T-1', 5);
ROLLBACK;
SELECT * FROM kept WHERE stream = 'T-1';
SELECT * FROM es_load('T-1');
-- a cache, whatever happens to it
DELETE FROM es.snapshots;
SELECT * FROM es_load('T-1');
SELECT add('T-1', 5);
SELECT * FROM kept WHERE stream = 'T-1';

--
-- Found by their index, also by plans that were made when there were few
--
SELECT es_create_store('few');
SET eventsourcing.store = 'few';
SELECT es_create_aggregate('I', rules => '{"Added": {"$inc": {"n": "$.add"}}}', snapshot_every => 2);
SELECT add('I-1', 3);
ANALYZE few.snapshots;
BEGIN;
SELECT seq_scan AS seq_scans, idx_scan AS index_scans FROM pg_stat_xact_all_tables WHERE relid = 'few.snapshots'::regclass \gset
SELECT add('I-1', 3), add('I-1', 3), add('I-1', 3);
SELECT state FROM es_load('I-1');
SELECT state FROM es_load('I-1', 5);
SELECT seq_scan - :seq_scans AS seq_scans, idx_scan > :index_scans AS by_index
  FROM pg_stat_xact_all_tables WHERE relid = 'few.snapshots'::regclass;
COMMIT;
-- a session that goes back and forth between stores looks up once for each which categories have an aggregate
CREATE VIEW looked_up AS SELECT sum(seq_scan) AS n FROM pg_stat_xact_all_tables WHERE relid IN ('es.aggregates'::regclass, 'few.aggregates'::regclass);
CREATE FUNCTION to_and_fro() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT n FROM looked_up);
BEGIN
    FOR i IN 1 .. 10 LOOP
        PERFORM set_config('eventsourcing.store', CASE i % 2 WHEN 0 THEN 'es' ELSE 'few' END, true);
        PERFORM es_append('Plain-1', 'Added');
    END LOOP;
    RETURN (SELECT n FROM looked_up) - before;
END $$;
BEGIN;
SELECT to_and_fro() <= 5 AS once;
ROLLBACK;
DROP FUNCTION to_and_fro;
DROP VIEW looked_up;
SELECT es_drop_store('few', confirm => true);
RESET eventsourcing.store;

--
-- Rights: only what the extension itself folded gets in
--
\set VERBOSITY terse
SET ROLE es_snapshot_writer;
SELECT * FROM es_load('T-1');
SELECT add('T-1', 10);
SELECT es_snapshot('T-1');
SELECT count(*) FROM es.snapshots;
INSERT INTO es.snapshots (stream, version, state, recorded_at, fingerprint)
    SELECT 'T-1', 30, '{"n": 1000000}', now(), es_fingerprint('T');
UPDATE es.snapshots SET state = '{"n": 1000000}';
DELETE FROM es.snapshots;
TRUNCATE es.snapshots;
SELECT es_drop_snapshots('T');
SELECT es_drop_snapshots();
SELECT es_alter_aggregate('T', code_version => 5);
SELECT es_drop_aggregate('T');
SELECT es_create_aggregate('T', rules => '{}');
SET ROLE es_snapshot_reader;
SELECT * FROM es_load('T-1');
SELECT es_snapshot('T-1');
RESET ROLE;
\set VERBOSITY default
SELECT * FROM kept WHERE stream = 'T-1';

--
-- Row security: who sees a part gets the state of that part, and no more
--
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY part ON es.events FOR SELECT TO es_snapshot_part USING (coalesce(data->>'secret', '') <> 'yes');
CREATE POLICY part_append ON es.events FOR INSERT TO es_snapshot_part WITH CHECK (true);
SELECT es_append_events('T-2', '[{"type": "Added", "data": {"add": 1}},
    {"type": "Added", "data": {"add": 100, "secret": "yes"}}, {"type": "Added", "data": {"add": 1}}]');
SELECT es_snapshot('T-2');
SELECT * FROM es_load('T-2');
SET ROLE es_snapshot_part;
SELECT * FROM es_load('T-2');
SELECT version, state_after FROM es_replay('T-2', 2);
-- his appends take snapshots, of all there is
SELECT add('T-2', 7);
SELECT es_append('T-2', 'Added', '{"add": 1, "secret": "yes"}');
SELECT es_snapshot('T-2');
SELECT * FROM es_load('T-2');
RESET ROLE;
SELECT * FROM kept WHERE stream = 'T-2';
SELECT * FROM es_load('T-2');
DROP POLICY part ON es.events;
DROP POLICY part_append ON es.events;
ALTER TABLE es.events DISABLE ROW LEVEL SECURITY;

--
-- A gap between versions is never folded over
--
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM es_load('T-2');
COMMIT;
SELECT add('G-1', 3);
SELECT es_create_aggregate('G', rules => '{"Added": {"$inc": {"n": "$.add"}}}');
SET session_replication_role = replica;
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
DELETE FROM es.events WHERE stream = 'G-1' AND version = 2;
ALTER TABLE es.events ENABLE ALWAYS TRIGGER es_guard_change;
RESET session_replication_role;
\set SHOW_CONTEXT never
SELECT * FROM es_load('G-1');
SELECT * FROM es_load('G-1', to_version => 1);
SELECT es_snapshot('G-1');
SELECT version FROM es_replay('G-1');

SELECT es_drop_store('es', confirm => true);
DROP VIEW shown;
DROP FUNCTION show, called, add, count_calls, count_up, lift, lift_more;
DROP SEQUENCE calls;
DROP SCHEMA elsewhere;
DROP ROLE es_snapshot_writer, es_snapshot_reader, es_snapshot_part;
