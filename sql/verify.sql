-- es_verify() finds what is wrong, and nothing where all is well.
\set VERBOSITY terse
SELECT es_create_store('verify');
SET eventsourcing.store = 'verify';
SELECT es_create_aggregate('Acc', rules => '{"Deposited": {"$inc": {"balance": "$.amount"}}}', snapshot_every => 10);
SELECT max(es_append('Acc-' || i % 3, 'Deposited', jsonb_build_object('amount', i))) FROM generate_series(0, 99) i;
SELECT * FROM es_verify();

-- Break one thing after the other.
SET session_replication_role = replica;
INSERT INTO verify.events SELECT position, version + 2, recorded_at, stream, type, data FROM verify.events
 WHERE stream = 'Acc-0' AND version = 34;
UPDATE verify.snapshots SET state = '{"balance": 0}' WHERE stream = 'Acc-1' AND version = 30;
RESET session_replication_role;
ALTER TABLE verify.events DISABLE TRIGGER es_guard_change;
DROP TRIGGER es_definition_changed ON verify.aggregates;
SELECT relation, problem, detail FROM es_verify() WHERE problem !~ 'out of order';

-- A sequence that a restore left behind.
ALTER TABLE verify.events ENABLE ALWAYS TRIGGER es_guard_change;
SELECT setval('verify.events_position_seq', 7);
\c
SET eventsourcing.store = 'verify';
\set VERBOSITY default
SELECT es_append('Acc-4', 'Deposited', '{"amount": 1}');
\set VERBOSITY terse
SELECT relation, problem, detail FROM es_verify() WHERE relation = 'events_position_seq';
SELECT es_repair_sequence();
SELECT es_upgrade_store('verify');
SELECT es_append('Acc-4', 'Deposited', '{"amount": 1}');
SELECT relation, problem FROM es_verify() ORDER BY 1, 2;

-- Appends rely on a sequence that goes up and keeps nothing for a session, and on
-- unique indexes.
CREATE TEMP TABLE altered (command text);
INSERT INTO altered VALUES
    ('ALTER SEQUENCE verify.events_position_seq CACHE 10'),
    ('ALTER SEQUENCE verify.events_position_seq INCREMENT -1 MINVALUE 1'),
    ('ALTER SEQUENCE verify.events_position_seq CYCLE'),
    ('DROP INDEX verify.events_stream_version_idx'),
    ('DROP INDEX verify.events_stream_event_id_idx'),
    ('DROP INDEX verify.events_stream_event_id_idx; CREATE UNIQUE INDEX ON verify.events (stream, event_id) WHERE version > 1'),
    ('DROP INDEX verify.events_stream_version_idx; ALTER TABLE verify.events ADD UNIQUE (stream, version) DEFERRABLE'),
    ('DROP INDEX verify.events_stream_version_idx; CREATE UNIQUE INDEX ON verify.events (version, stream)');
DO $$
DECLARE
    command text;
    hint text;
BEGIN
    FOR command IN SELECT a.command FROM altered a LOOP
        BEGIN
            EXECUTE command;
            PERFORM es_append('Order-9', 'X');
            RAISE 'was appended' USING ERRCODE = 'ZZ999';
        EXCEPTION WHEN SQLSTATE '55000' OR SQLSTATE 'ZZ999' THEN
            GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
            RAISE WARNING '%: % %', command, SQLERRM, hint;
        END;
    END LOOP;
END
$$;
SELECT es_append('Order-9', 'X');

-- What refers to what is not there, cursors past the head, a sequence that hands
-- out positions in lots, a unique index gone, a projection that no longer runs.
SELECT es_create_store('verify_refs');
SET eventsourcing.store = 'verify_refs';
CREATE SCHEMA verify_code;
CREATE FUNCTION verify_code.apply(state jsonb, event es_event) RETURNS jsonb IMMUTABLE LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION verify_code.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
SELECT es_create_aggregate('Acc', 'verify_code.apply(jsonb, es_event)', snapshot_every => 1);
SELECT es_create_decider('Acc', 'verify_code.decide(jsonb, text, jsonb)');
CREATE TABLE verify_code.model (stream text PRIMARY KEY, n int);
SELECT es_create_projection('model', 'INSERT INTO verify_code.model SELECT stream, version FROM new_events', '{verify_code.model}');
SELECT es_create_subscription('sub');
SELECT es_append('Acc-1', 'Deposited');
SELECT relation, problem, detail FROM es_verify() WHERE relation <> 'store';
SHOW application_name;

BEGIN;
UPDATE verify_refs.subscription_cursors SET taken = 1000;
UPDATE verify_refs.projection_cursors SET position = 1001;
INSERT INTO verify_refs.deliveries (subscription, stream, position, attempts, company)
VALUES ('gone', 'Acc-1', 1, 1, ''), ('sub', 'Acc-1', 7, 1, '');
INSERT INTO verify_refs.handlers VALUES ('lost', 'SELECT 1', '');
INSERT INTO verify_refs.projection_cursors VALUES ('lost', 0);
INSERT INTO verify_refs.watermark (position) VALUES (1002);
ALTER TABLE verify_refs.events DISABLE TRIGGER es_project;
DROP TRIGGER es_definition_changed ON verify_refs.projection_definitions;
ALTER SEQUENCE verify_refs.events_position_seq CACHE 10;
DROP INDEX verify_refs.events_stream_version_idx;
DROP INDEX verify_refs.events_stream_event_id_idx;
CREATE INDEX events_stream_version_idx ON verify_refs.events (stream, version);
DROP SCHEMA verify_code CASCADE;
SELECT relation, problem, regexp_replace(detail, 'table \d+', 'table OID') AS detail
  FROM es_verify() WHERE relation <> 'store' ORDER BY relation, problem, detail COLLATE "C";
ROLLBACK;

BEGIN;
DELETE FROM verify_refs.projection_cursors;
INSERT INTO verify_refs.upcasters VALUES ('Deposited', 1, 'verify_code.gone(jsonb)', '');
INSERT INTO verify_refs.leases VALUES ('gone', 1, now(), 'c', '{1}', '{1}');
INSERT INTO verify_refs.rebuilds (projection, phase, position, done, total, shadows) VALUES ('gone', 'events', 1003, 0, 0, '{}');
SELECT relation, problem, detail FROM es_verify() WHERE relation <> 'store' ORDER BY relation, problem, detail COLLATE "C";
ROLLBACK;

-- What is disabled comes back.
ALTER TABLE verify_refs.events DISABLE TRIGGER es_project;
SELECT es_upgrade_store('verify_refs');
SELECT relation, problem, detail FROM es_verify() WHERE relation <> 'store';

-- Events that no longer fold are found, and do not end the examination.
CREATE OR REPLACE FUNCTION verify_code.apply(state jsonb, event es_event) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF event.data ? 'bad' THEN RAISE 'cannot fold this'; END IF;
    RETURN state;
END $$;
SELECT es_append('Acc-2', 'Deposited');
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE verify_refs.events DISABLE TRIGGER es_guard_change;
UPDATE verify_refs.events SET data = '{"bad": 1}' WHERE stream = 'Acc-2';
SELECT relation, problem, split_part(detail, ':', 1) AS detail FROM es_verify() WHERE relation NOT IN ('events', 'store');
ROLLBACK;
SELECT es_drop_store('verify_refs', true);
DROP SCHEMA verify_code CASCADE;

-- An empty store, and rights.
SELECT es_create_store('verify_empty');
SET eventsourcing.store = 'verify_empty';
SELECT es_repair_sequence();
SELECT es_append('Acc-1', 'Deposited');
SELECT position FROM es_read('Acc-1');
SELECT * FROM es_verify();
CREATE ROLE verify_other;
SET ROLE verify_other;
\set VERBOSITY sqlstate
SELECT * FROM es_verify();
SELECT es_repair_sequence();
RESET ROLE;
DROP ROLE verify_other;
SELECT es_drop_store('verify', true), es_drop_store('verify_empty', true);
