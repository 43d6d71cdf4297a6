-- Appending: versions, expected versions, batches, ids, validation, context.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
SELECT es_create_store();

-- every expected version on a stream without events
SELECT es_append('Order-1', 'OrderCreated', expected_version => 1);
SELECT es_append('Order-1', 'OrderCreated', expected_version => -1);
SELECT es_append('Order-1', 'OrderCreated', expected_version => -2);
SELECT es_append('Order-1', 'OrderCreated', expected_version => -9223372036854775808);
SELECT es_append('Order-1', 'OrderCreated', expected_version => 9223372036854775807);
SELECT es_append('Order-1', 'OrderCreated', '{"customer_id": 123, "total_amount_cents": 5000}', expected_version => 0);
-- and on one with events
SELECT es_append('Order-1', 'PaymentReceived', '{"payment_method": "credit_card"}', expected_version => 1);
SELECT es_append('Order-1', 'PaymentReceived', '{"payment_method": "credit_card"}', expected_version => 1);
SELECT es_append('Order-1', 'A', expected_version => 0);
SELECT es_append('Order-1', 'A', expected_version => 3);
SELECT es_append('Order-1', 'A', expected_version => -1);
SELECT es_append('Order-1', 'A', expected_version => NULL);
SELECT es_append('Order-1', 'A');
\set VERBOSITY sqlstate
SELECT es_append('Order-1', 'A', expected_version => 1);
SELECT es_append('Order-1', 'A', expected_version => -2);
\set VERBOSITY default
-- batches: the same, all or none
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B", "data": {"x": 1}, "tags": ["a", "b"], "metadata": {"k": 1}}]', 5);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}]', 5);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}]', 0);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}]', -1);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}]');
SELECT es_append_events('Order-2', '[{"type": "A"}, {"type": "B"}]', -1);
SELECT es_append_events('Order-2', '[{"type": "A"}, {"type": "B"}]', 0);
-- an empty one appends nothing, but checks
SELECT es_append_events('Order-1', '[]'), es_append_events('Order-1', '[]', 11), es_append_events('Order-1', '[]', -1);
SELECT es_append_events('Order-1', '[]', 10);
SELECT es_append_events('Order-3', '[]'), es_append_events('Order-3', '[]', 0);
SELECT es_append_events('Order-3', '[]', -1);
SELECT es_append_events('', '[]');
SELECT version, type, data, metadata, event_id, tags, recorded_at <= clock_timestamp() AS recorded
  FROM es_read('Order-1');
SELECT stream, category, version FROM es.streams ORDER BY stream;

-- what is no event: streams
SELECT es_append(NULL, 'A');
SELECT es_append('', 'A');
SELECT es_append('-1', 'A');
SELECT es_append('-', 'A');
SELECT es_append_events(NULL, '[]');
SELECT es_append_events('-1', '[{"type": "A"}]');
SELECT es_append(repeat('x', 513), 'A');
SELECT es_append(U&'\00e4' || repeat(U&'\00e4', 256), 'A');
SELECT es_append('x' || repeat(U&'\20ac', 171), 'A');
SELECT es_append('Order-' || repeat('x', 100000), 'A');
\set VERBOSITY sqlstate
SELECT es_append('', 'A');
SELECT es_append(NULL, 'A');
\set VERBOSITY default
SELECT es_append(repeat('x', 512), repeat('y', 512), event_id => '00000000-0000-0000-0000-000000000001'),
       es_append(repeat(U&'\00e4', 256), repeat(U&'\00e4', 256)),
       es_append('xx' || repeat(U&'\20ac', 170), 'A'),
       es_append('Order', 'A'), es_append('Order-', 'A'), es_append('Order--1', 'A'),
       es_append('a b''c"d%s\', 'A'), es_append(' ', ' '), es_append(E'\n', E'\t');
SELECT stream, category FROM es.streams WHERE length(stream) < 20 ORDER BY stream;
-- names compare by bytes
SELECT es_append('order-1', 'A', expected_version => 0), es_append(U&'\00e4', 'A', expected_version => 0),
       es_append(U&'a\0308', 'A', expected_version => 0);
-- types
SELECT es_append('Order-4', NULL);
SELECT es_append('Order-4', '');
SELECT es_append('Order-4', repeat('x', 513));
SELECT es_append('Order-4', repeat(U&'\00e4', 257));
-- data, metadata, tags
SELECT es_append('Order-4', 'A', NULL);
SELECT es_append('Order-4', 'A', metadata => '1');
SELECT es_append('Order-4', 'A', metadata => '[]');
SELECT es_append('Order-4', 'A', metadata => '[{"a": 1}]');
SELECT es_append('Order-4', 'A', metadata => 'null');
SELECT es_append('Order-4', 'A', tags => '{a,NULL}');
SELECT es_append('Order-4', 'A', tags => '{{a,b},{c,d}}');
SELECT es_append('Order-4', 'A', '1', expected_version => 0), es_append('Order-4', 'A', 'null', 1),
       es_append('Order-4', 'A', '[1, 2]', 2), es_append('Order-4', 'A', '"x"', 3, '{}', NULL, '{}'),
       es_append('Order-4', 'A', tags => '[5:6]={a,b}'), es_append('Order-4', 'A', tags => '{"",a,a}');
SELECT version, data, metadata, tags FROM es_read('Order-4');

-- what is no event: batches
SELECT es_append_events('Order-5', NULL);
SELECT es_append_events('Order-5', '1');
SELECT es_append_events('Order-5', 'null');
SELECT es_append_events('Order-5', '{}');
SELECT es_append_events('Order-5', '{"type": "A"}');
SELECT es_append_events('Order-5', '[1]');
SELECT es_append_events('Order-5', '[[]]');
SELECT es_append_events('Order-5', '[[{"type": "A"}]]');
SELECT es_append_events('Order-5', '[{"type": "A"}, null]');
SELECT es_append_events('Order-5', '[{}]');
SELECT es_append_events('Order-5', '[{"type": "A"}, {"type": null}]');
SELECT es_append_events('Order-5', '[{"type": 1}]');
SELECT es_append_events('Order-5', '[{"type": {"type": "A"}}]');
SELECT es_append_events('Order-5', '[{"type": ""}]');
SELECT es_append_events('Order-5', jsonb_build_array(jsonb_build_object('type', repeat('x', 513))));
SELECT es_append_events('Order-5', '[{"type": "A", "Data": {}}]');
SELECT es_append_events('Order-5', '[{"type": "A"}, {"type": "B", "version": 3}]');
SELECT es_append_events('Order-5', '[{"type": "A", "metadata": []}]');
SELECT es_append_events('Order-5', '[{"type": "A", "metadata": "x"}]');
SELECT es_append_events('Order-5', '[{"type": "A"}, {"type": "A", "event_id": "x"}]');
SELECT es_append_events('Order-5', '[{"type": "A", "event_id": 1}]');
SELECT es_append_events('Order-5', '[{"type": "A", "event_id": {}}]');
SELECT es_append_events('Order-5', '[{"type": "A", "tags": "a"}]');
SELECT es_append_events('Order-5', '[{"type": "A", "tags": {"a": "b"}}]');
SELECT es_append_events('Order-5', '[{"type": "A", "tags": ["a", null]}]');
SELECT es_append_events('Order-5', '[{"type": "A", "tags": ["a", 1]}]');
SELECT es_append_events('Order-5', '[{"type": "A", "tags": [["a"]]}]');
SELECT es_stream_version('Order-5');
SELECT es_append_events('Order-5', '[{"type": "A", "data": null, "metadata": null, "event_id": null, "tags": null},
    {"type": "A", "data": 1, "metadata": {}, "tags": []},
    {"type": "A", "data": [{"deep": [1]}], "metadata": {"deep": {"er": [null]}}, "tags": ["a,b", "\"", "NULL", "{}", "", "\u00e4"]},
    {"type": "\u00e4 \"", "data": "x", "event_id": "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}"}]');
SELECT version, type, data, metadata, event_id, tags, array_length(tags, 1) FROM es_read('Order-5');

-- ids: the same again changes nothing, whatever the expected version
SELECT es_append('Id-1', 'A', '{"x": 1}', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'B', '{"x": 2}', event_id => '00000000-0000-0000-0000-00000000000b');
SELECT es_append('Id-1', 'C');
SELECT expected, es_append('Id-1', 'A', '{"x": 1}', expected, event_id => '00000000-0000-0000-0000-00000000000a')
  FROM unnest(ARRAY[NULL, 0, 1, 3, 99, -1]) expected;
SELECT es_append('Id-1', 'A', '{"x": 1.0}', event_id => '00000000-0000-0000-0000-00000000000a',
                 metadata => '{"retry": true}', tags => '{other}');
SELECT es_append('Id-1', 'A', '{"x": 1}', -2, event_id => '00000000-0000-0000-0000-00000000000a');
SELECT expected, es_append_events('Id-1', '[{"type": "A", "data": {"x": 1}, "event_id": "00000000-0000-0000-0000-00000000000a"},
    {"type": "B", "data": {"x": 2}, "event_id": "00000000-0000-0000-0000-00000000000b"}]', expected)
  FROM unnest(ARRAY[NULL, 0, 2, 3, 99, -1]) expected;
-- other content
SELECT es_append('Id-1', 'B', '{"x": 1}', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'a', '{"x": 1}', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'A', '{"x": 2}', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'A', '[1]', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'A', '{"x": 2}', 3, event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-1', 'A', '{"x": 2}', 0, event_id => '00000000-0000-0000-0000-00000000000a');
-- another order, a part, one new
SELECT es_append_events('Id-1', '[{"type": "B", "data": {"x": 2}, "event_id": "00000000-0000-0000-0000-00000000000b"},
    {"type": "A", "data": {"x": 1}, "event_id": "00000000-0000-0000-0000-00000000000a"}]');
SELECT es_append_events('Id-1', '[{"type": "B", "data": {"x": 2}, "event_id": "00000000-0000-0000-0000-00000000000b"},
    {"type": "C", "event_id": "00000000-0000-0000-0000-00000000000c"}]');
SELECT es_append_events('Id-1', '[{"type": "C", "event_id": "00000000-0000-0000-0000-00000000000c"},
    {"type": "B", "data": {"x": 2}, "event_id": "00000000-0000-0000-0000-00000000000b"}]', 3);
SELECT es_append_events('Id-1', '[{"type": "B", "data": {"x": 2}, "event_id": "00000000-0000-0000-0000-00000000000b"}]');
-- with and without an id: what has none cannot be known again
SELECT es_append_events('Id-1', '[{"type": "D", "event_id": "00000000-0000-0000-0000-00000000000d"}, {"type": "E"}]');
SELECT es_append_events('Id-1', '[{"type": "D", "event_id": "00000000-0000-0000-0000-00000000000d"}, {"type": "E"}]');
-- twice in one batch
SELECT es_append_events('Id-2', '[{"type": "A", "event_id": "00000000-0000-0000-0000-00000000000a"},
    {"type": "A", "event_id": "00000000-0000-0000-0000-00000000000b"},
    {"type": "A", "event_id": "00000000-0000-0000-0000-00000000000A"}]');
-- another stream is another matter
SELECT es_append('Id-2', 'Z', event_id => '00000000-0000-0000-0000-00000000000a');
\set VERBOSITY sqlstate
SELECT es_append('Id-2', 'Y', event_id => '00000000-0000-0000-0000-00000000000a');
\set VERBOSITY default
SELECT version, type, event_id FROM es_read('Id-1');
-- within one transaction, and after a rollback
BEGIN;
SELECT es_append('Id-3', 'A', event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Id-3', 'A', event_id => '00000000-0000-0000-0000-00000000000a');
SAVEPOINT s;
SELECT es_append('Id-3', 'B', event_id => '00000000-0000-0000-0000-00000000000b');
ROLLBACK TO s;
SELECT es_append('Id-3', 'C', event_id => '00000000-0000-0000-0000-00000000000b');
COMMIT;
SELECT version, type FROM es_read('Id-3');

-- the context goes into the metadata; what an event says itself wins
SET eventsourcing.actor = 'Ann';
SET eventsourcing.correlation_id = 'c"1';
SELECT es_append('Context-1', 'A'), es_append('Context-1', 'B', metadata => '{"actor": "Bob", "k": [1]}'),
       es_append('Context-1', 'C', metadata => '{"actor": null}'),
       es_append_events('Context-1', '[{"type": "D", "metadata": {"k": 1}}, {"type": "E"}]');
BEGIN;
SET LOCAL eventsourcing.actor = 'Cid';
SET LOCAL eventsourcing.causation_id = 'cause';
SET LOCAL eventsourcing.command_id = 'command';
SET LOCAL eventsourcing.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT es_append('Context-1', 'F');
SET LOCAL eventsourcing.actor = '';
SELECT es_append('Context-1', 'G');
COMMIT;
SELECT es_append('Context-1', 'H');
RESET eventsourcing.actor;
SET eventsourcing.correlation_id = '';
SELECT es_append('Context-1', 'I'), es_append('Context-1', 'J', metadata => '{}');
SELECT version, type, metadata FROM es_read('Context-1');

-- several appends in one statement, in one transaction
SELECT i, es_append('Many-' || i % 2, 'A', expected_version => i / 2) FROM generate_series(0, 5) i;
SELECT es_append('Many-0', 'B'), es_append('Many-1', 'B'), es_append('Many-0', 'C', expected_version => 4);
BEGIN;
SELECT es_append('Many-0', 'D');
SAVEPOINT s;
SELECT es_append('Many-0', 'E', expected_version => 6), es_append('Many-2', 'E');
ROLLBACK TO s;
SELECT es_append('Many-0', 'F', expected_version => 6);
SAVEPOINT s;
SELECT es_append('Many-0', 'G', expected_version => 6);
ROLLBACK TO s;
SELECT es_append('Many-0', 'H', expected_version => 7), es_stream_version('Many-0');
SELECT es_stream_version('Many-0');
COMMIT;
SELECT version, type FROM es_read('Many-0');
SELECT es_stream_version('Many-2');
-- a conflict that PL/pgSQL catches
DO $$
BEGIN
    FOR i IN 1..3 LOOP
        BEGIN
            PERFORM es_append('Many-3', 'A', expected_version => i % 2);
        EXCEPTION WHEN SQLSTATE 'ZE001' THEN
            PERFORM es_append('Many-3', 'Conflict');
        END;
    END LOOP;
END
$$;
SELECT version, type FROM es_read('Many-3');
-- in every isolation level
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('Many-4', 'A', expected_version => 0), es_append_events('Many-4', '[{"type": "B"}, {"type": "C"}]', 1);
SELECT es_append('Many-4', 'D', expected_version => 1);
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_append('Many-4', 'A', expected_version => 0), es_append_events('Many-4', '[{"type": "B"}, {"type": "C"}]', 1);
SELECT es_append('Many-4', 'D', event_id => '00000000-0000-0000-0000-00000000000a'),
       es_append('Many-4', 'D', event_id => '00000000-0000-0000-0000-00000000000a');
COMMIT;
SELECT version, type FROM es_read('Many-4');
-- not where nothing may be written
BEGIN READ ONLY;
SELECT es_append('Order-1', 'A');
ROLLBACK;
BEGIN READ ONLY;
SELECT es_append_events('Order-1', '[]');
ROLLBACK;

-- a user's own constraints and indexes speak for themselves
\set SHOW_CONTEXT never
CREATE UNIQUE INDEX own_idx ON es.events (type) WHERE stream LIKE 'Own-%';
SELECT es_append('Own-1', 'A');
SELECT es_append('Own-1', 'A');
SELECT es_append('Own-2', 'A');
SELECT es_append_events('Own-1', '[{"type": "B"}, {"type": "B"}]');
SELECT es_append_events('Own-1', '[{"type": "B"}, {"type": "C"}]');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('Own-1', 'A');
ROLLBACK;
DROP INDEX es.own_idx;
ALTER TABLE es.events ADD CONSTRAINT own_check CHECK (stream NOT LIKE 'Own-%' OR data ? 'id') NOT VALID;
\set VERBOSITY terse
SELECT es_append('Own-1', 'A');
\set VERBOSITY default
SELECT es_append('Own-1', 'A', '{"id": 1}');
ALTER TABLE es.events DROP CONSTRAINT own_check;
SELECT stream, version, type FROM es.events WHERE stream LIKE 'Own-%' ORDER BY stream, version;

-- after the last version there is none, and none wraps round
SET session_replication_role = replica;
INSERT INTO es.events (position, stream, version, type, data, recorded_at)
VALUES (nextval('es.events_position_seq'), 'Full-1', 9223372036854775806, 'A', '{}', now());
RESET session_replication_role;
SELECT es_append_events('Full-1', '[{"type": "A"}, {"type": "B"}]');
SELECT es_append('Full-1', 'A');
SELECT es_append('Full-1', 'B');
SELECT es_append('Full-1', 'B', expected_version => 9223372036854775807);
SELECT es_append_events('Full-1', '[]', 9223372036854775807);
BEGIN;
ALTER TABLE es.events DISABLE TRIGGER USER;
DELETE FROM es.events WHERE stream = 'Full-1';
ALTER TABLE es.events ENABLE TRIGGER USER;
SELECT es_upgrade_store();
COMMIT;

\set SHOW_CONTEXT errors
-- many streams in one transaction, many events in one call, with default settings
ANALYZE es.events;
BEGIN;
SELECT count(es_append('New-' || i, 'A', expected_version => 0)) FROM generate_series(1, 100000) i;
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory';
COMMIT;
SELECT es_append_events('Big-1', (SELECT jsonb_agg(jsonb_build_object('type', 'A', 'data', jsonb_build_object('i', i),
    'event_id', CASE WHEN i % 2 = 0 THEN lpad(i::text, 32, '0') END, 'tags', CASE WHEN i % 3 = 0 THEN jsonb_build_array('t', i::text) END)
    ORDER BY i) FROM generate_series(1, 100000) i), 0);
SELECT count(*), min(version), max(version), count(DISTINCT position) AS positions, count(DISTINCT recorded_at) AS times,
       bool_and((data ->> 'i')::bigint = version) AS in_order, count(event_id) AS ids, count(tags) AS tags,
       bool_and(tags[2]::bigint = version) AS tags_in_order
  FROM es.events WHERE stream = 'Big-1';
SELECT es_append_events('Big-2', (SELECT jsonb_agg(jsonb_build_object('type', 'A', 'event_id', lpad(i::text, 32, '0'))
    ORDER BY i) FROM generate_series(1, 10000) i)),
       es_append_events('Big-2', (SELECT jsonb_agg(jsonb_build_object('type', 'A', 'event_id', lpad(i::text, 32, '0'))
    ORDER BY i) FROM generate_series(1, 10000) i));
-- large and toasted data
SELECT es_append('Big-3', 'A', jsonb_build_object('x', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 20000) i)),
                 event_id => '00000000-0000-0000-0000-00000000000a', tags => ARRAY[repeat('x', 100000)]);
SELECT es_append('Big-3', 'A', jsonb_build_object('x', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 20000) i)),
                 event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append('Big-3', 'A', jsonb_build_object('x', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(2, 20001) i)),
                 event_id => '00000000-0000-0000-0000-00000000000a');
SELECT es_append_events('Big-3', jsonb_build_array(jsonb_build_object('type', 'B', 'data', data), jsonb_build_object('type', 'C', 'data', data)))
  FROM es.events WHERE stream = 'Big-3';
SELECT version, type, jsonb_array_length(data -> 'x') FROM es_read('Big-3');

-- every stream's versions are 1 to n, its positions grow, its times don't go back
SELECT count(*) FROM (SELECT version, row_number() OVER w AS n, position, lag(position) OVER w AS before,
                             recorded_at, lag(recorded_at) OVER w AS earlier
                        FROM es.events WINDOW w AS (PARTITION BY stream ORDER BY version)) e
 WHERE version <> n OR position <= before OR recorded_at < earlier;
SELECT es_drop_store('es', confirm => true);
