-- A log that is partitioned by hash of stream.
\set VERBOSITY terse
SET eventsourcing.log_path = 'auto';
SET client_min_messages = warning;
SELECT es_create_store('partition');
SET eventsourcing.store = 'partition';
SELECT max(es_append('Order-' || i % 10, 'Created', jsonb_build_object('i', i))) FROM generate_series(1, 20) i;
BEGIN;
ALTER TABLE partition.events RENAME TO events_whole;
CREATE TABLE partition.events (LIKE partition.events_whole INCLUDING DEFAULTS) PARTITION BY HASH (stream);
CREATE TABLE partition.events_0 PARTITION OF partition.events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE partition.events_1 PARTITION OF partition.events FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO partition.events SELECT * FROM partition.events_whole;
ALTER SEQUENCE partition.events_position_seq OWNED BY partition.events.position;
DROP TABLE partition.events_whole CASCADE;
CREATE UNIQUE INDEX events_stream_version_idx ON partition.events (stream, version);
CREATE INDEX events_position_idx ON partition.events (position);
CREATE UNIQUE INDEX events_stream_event_id_idx ON partition.events (stream, event_id) WHERE event_id IS NOT NULL;
-- without guards, es_verify() complains about each table
SELECT relation, detail FROM es_verify() WHERE problem ~ 'trigger' ORDER BY 1, 2;
SELECT es_upgrade_store('partition');
COMMIT;

SELECT es_append('Order-1', 'Paid', expected_version => 2);
SELECT es_append('Order-1', 'Paid', expected_version => 2);
SELECT es_append_events('Order-2', '[{"type": "Paid", "event_id": "00000000-0000-0000-0000-000000000001"}, {"type": "Shipped"}]', 2);
SELECT es_append('Order-2', 'Paid', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Order-2', 'Shipped', event_id => '00000000-0000-0000-0000-000000000001');
SELECT count(*), min(position), max(position) FROM es_read_all();
SELECT stream, version FROM partition.streams WHERE stream IN ('Order-1', 'Order-2') ORDER BY stream;
SELECT relation, problem, detail FROM es_verify() WHERE relation <> 'store';

-- No way around, through a partition either.
INSERT INTO partition.events SELECT * FROM partition.events;
INSERT INTO partition.events_0 SELECT * FROM partition.events_0;
UPDATE partition.events_1 SET data = '{}';
DELETE FROM partition.events_0;
TRUNCATE partition.events_1;
SELECT es_drop_store('partition', true);
