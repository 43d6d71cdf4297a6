-- Deciders: load, decide and append in one call.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT es_create_store();
CREATE ROLE es_decider_writer;
CREATE ROLE es_decider_reader;
SELECT es_grant('es_decider_writer', 'writer');
SELECT es_grant('es_decider_reader', 'reader');
SELECT es_create_aggregate('Account', initial => '{"balance": 0}', rules => '{
    "Opened":    {"$set": {"open": true}},
    "Deposited": {"$inc": {"balance": "$.amount"}},
    "Withdrawn": {"$inc": {"balance": "$.change"}}}');
CREATE FUNCTION decide_account(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE command
        WHEN 'open' THEN
            -- again is nothing to do
            IF (state->>'open')::boolean THEN
                RETURN '[]';
            END IF;
            RETURN jsonb_build_array(
                jsonb_build_object('type', 'Opened', 'metadata', jsonb_build_object('via', 'decider')),
                jsonb_build_object('type', 'Deposited', 'data', jsonb_build_object('amount', coalesce(payload->'amount', '0'))));
        WHEN 'deposit' THEN
            RETURN jsonb_build_array(jsonb_build_object('type', 'Deposited', 'data', payload));
        WHEN 'withdraw' THEN
            IF (state->>'balance')::numeric < (payload->>'amount')::numeric THEN
                RAISE EXCEPTION 'only % left', state->>'balance'
                    USING ERRCODE = 'ZX402', DETAIL = 'A detail.', HINT = 'A hint.', CONSTRAINT = 'overdraft', COLUMN = 'balance';
            END IF;
            RETURN jsonb_build_array(jsonb_build_object('type', 'Withdrawn',
                'data', jsonb_build_object('change', -(payload->>'amount')::numeric)));
        WHEN 'raw' THEN
            RETURN payload;
        WHEN 'null' THEN
            RETURN NULL;
        WHEN 'who' THEN
            RAISE EXCEPTION 'owner: %, search_path: %', current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'es.events'::regclass),
                current_setting('search_path');
    END CASE;
END $$;
SELECT es_execute('Account-1', 'open');
SELECT es_create_decider('Account', 'decide_account(jsonb, text, jsonb)');
CREATE VIEW log AS SELECT stream, version, type, data, metadata FROM es.events ORDER BY position;

-- the events that it returns, in one append
SELECT es_execute('Account-1', 'open', '{"amount": 100}');
-- nothing to do
SELECT es_execute('Account-1', 'open');
SELECT es_execute('Account-1', 'deposit', '{"amount": 20.5}');
SELECT es_execute('Account-1', 'withdraw', '{"amount": 120}');
SELECT * FROM es_load('Account-1');
TABLE log;

-- what it raises comes through unchanged
\set VERBOSITY default
DO $$
DECLARE
    message text; state text; detail text; hint text; con text; col text;
BEGIN
    PERFORM es_execute('Account-1', 'withdraw', '{"amount": 1}');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT, con = CONSTRAINT_NAME, col = COLUMN_NAME;
    RAISE WARNING '% | % | % | % | % | %', message, state, detail, hint, con, col;
    RAISE WARNING 'still the same role: %', current_user = session_user;
END $$;
\set VERBOSITY default
SELECT es_execute('Account-1', 'withdraw', '{"amount": 1}');
SELECT es_execute('Account-1', 'dance');
SELECT es_execute('Account-1', 'null');
SELECT es_stream_version('Account-1');

-- what is no array of events
SELECT es_execute('Account-1', 'raw', '{}');
SELECT es_execute('Account-1', 'raw', '"x"');
SELECT es_execute('Account-1', 'raw', '[1]');
SELECT es_execute('Account-1', 'raw', '[{}]');
SELECT es_execute('Account-1', 'raw', '[{"type": "Deposited", "data": {"amount": 1}}, {"type": "X", "no": 1}]');
SELECT es_execute('Account-1', 'raw', '[{"type": ""}]');
SELECT es_execute('Account-1', 'raw', '[{"type": "X", "metadata": []}]');
SELECT es_stream_version('Account-1');
SELECT es_execute('Account-1', 'raw', '[]');

-- the expected version is the caller's: for a form that somebody looked at
SELECT es_execute('Account-1', 'deposit', '{"amount": 1}', 4);
SELECT es_execute('Account-1', 'deposit', '{"amount": 1}', expected_version => 4);
SELECT es_execute('Account-1', 'open', expected_version => 4);
SELECT es_execute('Account-1', 'open', expected_version => 5);
SELECT es_execute('Account-1', 'open', expected_version => 0);
SELECT es_execute('Account-1', 'open', expected_version => -1);
SELECT es_execute('Account-1', 'open', expected_version => -2);
SELECT es_execute('Account-2', 'open', expected_version => -1);
SELECT es_execute('Account-2', 'deposit', '{"amount": 1}', expected_version => 1);
SELECT es_execute('Account-2', 'open', expected_version => 0);

-- metadata goes into every event that does not have the key itself
SELECT es_execute('Account-3', 'open', metadata => '{"via": "web", "ip": "::1"}');
BEGIN;
SET LOCAL eventsourcing.actor = 'ada';
SELECT es_execute('Account-3', 'deposit', '{"amount": 1}', metadata => '{"via": "web"}');
SELECT es_execute('Account-3', 'deposit', '{"amount": 1}', metadata => '{"actor": "grace"}');
COMMIT;
SELECT es_execute('Account-3', 'deposit', '{"amount": 1}', metadata => '[]');
SELECT es_execute('Account-3', 'deposit', '{"amount": 1}', metadata => 'null');
SELECT type, metadata FROM es_read('Account-3');

-- ids: a command again is a retry
SELECT es_execute('Account-4', 'raw', '[{"type": "Opened", "event_id": "00000000-0000-0000-0000-000000000001"}]');
SELECT es_execute('Account-4', 'deposit', '{"amount": 1}');
SELECT es_execute('Account-4', 'raw', '[{"type": "Opened", "event_id": "00000000-0000-0000-0000-000000000001"}]');
SELECT es_execute('Account-4', 'raw', '[{"type": "Opened", "data": {"x": 1}, "event_id": "00000000-0000-0000-0000-000000000001"}]');
SELECT es_stream_version('Account-4');

-- arguments
SELECT es_execute(NULL, 'open');
SELECT es_execute('Account-1', NULL);
SELECT es_execute('Account-1', 'open', NULL);
SELECT es_execute('', 'open');
SELECT es_execute('-1', 'open');
SELECT es_execute('Nobody-1', 'open');
SELECT es_create_decider('Nobody', 'decide_account(jsonb, text, jsonb)');
SELECT es_create_decider('Account-1', 'decide_account(jsonb, text, jsonb)');
SELECT es_create_decider('Account', NULL);
SELECT es_create_decider(NULL, 'decide_account(jsonb, text, jsonb)');
CREATE FUNCTION decide_badly(state jsonb, command text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
CREATE FUNCTION decide_set(state jsonb, command text, payload jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
SELECT es_create_decider('Account', 'decide_badly(jsonb, text)');
SELECT es_create_decider('Account', 'decide_set(jsonb, text, jsonb)');
BEGIN READ ONLY;
SELECT es_execute('Account-1', 'open');
ROLLBACK;

-- an apply function's state, upcasted events, snapshots: all that a load has
CREATE FUNCTION apply_counter(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('n', (state->>'n')::int + (event.data->>'by')::int); END $$;
CREATE FUNCTION lift_counted(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"by": 100}'::jsonb $$;
CREATE FUNCTION decide_counter(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_array(jsonb_build_object('type', 'Counted', 'data', jsonb_build_object('by', 1, 'was', state->'n'))) $$;
SELECT es_create_aggregate('Counter', apply => 'apply_counter(jsonb, es_event)', initial => '{"n": 0}', snapshot_every => 5);
SELECT es_create_decider('Counter', 'decide_counter(jsonb, text, jsonb)');
SELECT es_execute('Counter-1', 'count') FROM generate_series(1, 12);
SELECT data->>'was' AS was FROM es_read('Counter-1', 10);
SELECT version, state FROM es.snapshots WHERE stream = 'Counter-1' ORDER BY version;
SELECT es_create_upcaster('Counted', 1, 'lift_counted(jsonb)');
SELECT es_execute('Counter-1', 'count');
SELECT version, data->>'was' AS was, metadata FROM es_read('Counter-1', 13);

-- several in one statement, and in one transaction with savepoints
BEGIN;
SELECT es_execute('Account-5', 'open'), es_execute('Account-5', 'deposit', '{"amount": 5}'), es_execute('Account-5', 'withdraw', '{"amount": 4}');
SAVEPOINT s;
SELECT es_execute('Account-5', 'withdraw', '{"amount": 1}');
ROLLBACK TO s;
SELECT es_execute('Account-5', 'withdraw', '{"amount": 1}');
COMMIT;
SELECT * FROM es_load('Account-5');

-- a decider made anew is in force at once; dropped, it says so
CREATE OR REPLACE FUNCTION decide_counter(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
SELECT es_execute('Counter-1', 'count');
DROP FUNCTION decide_counter;
SELECT es_execute('Counter-1', 'count');
SELECT es_create_decider('Counter', 'decide_account(jsonb, text, jsonb)');
SELECT es_execute('Counter-1', 'raw', '[{"type": "Counted", "data": {"by": 1}}]');
SELECT es_drop_aggregate('Counter');
SELECT es_execute('Counter-1', 'raw', '[{"type": "Counted", "data": {"by": 1}}]');
SELECT category, decide FROM es.deciders ORDER BY category;

-- rights: who may append may command; the decider runs as the store's owner
\set VERBOSITY terse
SET ROLE es_decider_writer;
SELECT es_execute('Account-6', 'open');
SET search_path = pg_temp, public;
SELECT es_execute('Account-6', 'who');
RESET search_path;
SELECT es_create_decider('Account', 'decide_account(jsonb, text, jsonb)');
SELECT * FROM es.deciders;
SET ROLE es_decider_reader;
SELECT es_execute('Account-6', 'deposit', '{"amount": 1}');
RESET ROLE;
-- and decides on all there is, also what row security hides from the caller
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY part ON es.events FOR SELECT TO es_decider_writer USING (type <> 'Deposited');
CREATE POLICY part_append ON es.events FOR INSERT TO es_decider_writer WITH CHECK (type <> 'Deposited');
SET ROLE es_decider_writer;
SELECT * FROM es_load('Account-1');
SELECT es_execute('Account-1', 'withdraw', '{"amount": 1000}');
SELECT es_execute('Account-1', 'withdraw', '{"amount": 1}');
SELECT es_execute('Account-1', 'deposit', '{"amount": 1}');
RESET ROLE;

-- one that appends to the stream that it decides on would never be done
CREATE FUNCTION decide_and_append(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_append('Account-7', 'Deposited', payload);
    RETURN jsonb_build_array(jsonb_build_object('type', 'Deposited', 'data', payload));
END $$;
SELECT es_create_decider('Account', 'decide_and_append(jsonb, text, jsonb)');
SET statement_timeout = '60s';
SELECT es_execute('Account-7', 'deposit', '{"amount": 1}');
RESET statement_timeout;
SELECT es_stream_version('Account-7');
DROP FUNCTION decide_and_append;

-- the function is found and checked once, and anew when something has changed
CREATE ROLE es_decider_owner;
CREATE ROLE es_decider_author SUPERUSER;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO es_decider_owner', current_database()); END $$;
SET ROLE es_decider_owner;
SELECT es_create_store('shop');
SET eventsourcing.store = shop;
SELECT es_create_aggregate('A', rules => '{}');
SET ROLE es_decider_author;
CREATE SCHEMA code;
GRANT USAGE ON SCHEMA code TO es_decider_owner;
CREATE FUNCTION code.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "first"}]'::jsonb $$;
SET ROLE es_decider_owner;
SELECT es_create_decider('A', 'code.decide(jsonb, text, jsonb)');
RESET ROLE;
SELECT es_execute('A-1', 'go'), es_execute('A-1', 'go');
REVOKE EXECUTE ON FUNCTION code.decide FROM PUBLIC;
SELECT es_execute('A-1', 'go');
GRANT EXECUTE ON FUNCTION code.decide TO es_decider_owner;
SELECT es_execute('A-1', 'go');
REVOKE USAGE ON SCHEMA code FROM es_decider_owner;
SELECT es_execute('A-1', 'go');
GRANT USAGE ON SCHEMA code TO es_decider_owner;
SELECT es_execute('A-1', 'go');
ALTER ROLE es_decider_author NOSUPERUSER;
SELECT es_execute('A-1', 'go');
GRANT es_decider_owner TO es_decider_author;
SELECT es_execute('A-1', 'go');
REVOKE es_decider_owner FROM es_decider_author;
SELECT es_execute('A-1', 'go');
ALTER FUNCTION code.decide OWNER TO es_decider_owner;
SELECT es_execute('A-1', 'go');
BEGIN;
DROP FUNCTION code.decide;
SELECT es_execute('A-1', 'go');
ROLLBACK;
SELECT es_execute('A-1', 'go');
BEGIN;
DROP FUNCTION code.decide;
CREATE FUNCTION code.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "second"}]'::jsonb $$;
ALTER FUNCTION code.decide OWNER TO es_decider_owner;
SELECT es_execute('A-1', 'go');
SELECT type FROM es_read('A-1', backward => true, max_count => 1);
ROLLBACK;
SELECT es_execute('A-1', 'go');
SELECT type, count(*) FROM es_read('A-1') GROUP BY type;
SELECT es_drop_store('shop', confirm => true);
RESET eventsourcing.store;
DROP SCHEMA code CASCADE;
DROP OWNED BY es_decider_owner, es_decider_author;
DROP ROLE es_decider_owner, es_decider_author;

-- a decider that takes off the guard and removes what was loaded tears no gap
CREATE FUNCTION decide_evil(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF command = 'remove' THEN
        ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
        DELETE FROM es.events WHERE stream = 'Evil-1' AND version = (payload->>'version')::bigint;
        ALTER TABLE es.events ENABLE ALWAYS TRIGGER es_guard_change;
    END IF;
    RETURN jsonb_build_array(jsonb_build_object('type', command));
END $$;
SELECT es_create_aggregate('Evil', rules => '{}');
SELECT es_create_decider('Evil', 'decide_evil(jsonb, text, jsonb)');
SELECT es_execute('Evil-1', 'first');
SELECT es_execute('Evil-1', 'second');
SELECT es_execute('Evil-1', 'remove', '{"version": 2}');
SELECT version, type FROM es_read('Evil-1');

-- and a snapshot of what was removed is no state to decide on
SELECT es_execute('Evil-1', 'third');
SELECT es_snapshot('Evil-1');
SELECT es_execute('Evil-1', 'remove', '{"version": 3}');
SELECT es_drop_snapshots('Evil');
SELECT es_execute('Evil-1', 'remove', '{"version": 3}');
SELECT version, type FROM es_read('Evil-1');

SELECT es_drop_store('es', confirm => true);
DROP VIEW IF EXISTS log;
DROP FUNCTION decide_account, decide_badly, decide_evil, decide_set, apply_counter, lift_counted;
DROP ROLE es_decider_writer, es_decider_reader;
