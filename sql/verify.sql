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
SELECT es_repair_sequence();
SELECT es_upgrade_store('verify');
SELECT es_append('Acc-4', 'Deposited', '{"amount": 1}');
SELECT relation, problem FROM es_verify() ORDER BY 1, 2;

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
