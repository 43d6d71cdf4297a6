-- Importing from another store, and CloudEvents.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET TIME ZONE 'UTC';
SELECT es_create_store('interchange');
SET eventsourcing.store = 'interchange';
SELECT es_import_events('[
  {"stream": "Order-1", "version": 1, "type": "Created", "data": {"a": 1}, "recorded_at": "2020-01-01T00:00:00Z", "position": 99},
  {"stream": "Order-2", "version": 1, "type": "Created", "data": {"a": 2}, "recorded_at": "2020-01-02T00:00:00Z", "metadata": {"actor": "ann"}},
  {"stream": "Order-1", "version": 2, "type": "Paid", "data": {}, "recorded_at": "2020-01-03T00:00:00Z",
   "event_id": "7c0f7a52-58a8-4b2c-9a3e-5d1f7d5d9b01", "tags": ["x", "y"]}]');
-- Context and clock stay out of it.
SET eventsourcing.actor = 'importer';
SELECT es_import_event('Order-1', 3, 'Shipped', '{"by": "ship"}', '2020-01-03');
RESET eventsourcing.actor;
SELECT * FROM interchange.events ORDER BY position;
SELECT relation, problem, detail FROM es_verify() WHERE relation <> 'store';
-- What was appended here comes after.
SELECT es_append('Order-1', 'Returned', expected_version => 3);
SELECT recorded_at > '2026-01-01' AS now FROM es_read('Order-1', 4);

-- What does not fit.
SELECT es_import_event('Order-2', 3, 'Paid', '{}', '2020-01-03');
SELECT es_import_event('Order-2', 1, 'Paid', '{}', '2020-01-03');
SELECT es_import_event('Order-2', 2, 'Paid', '{}', '2019-01-03');
SELECT es_import_event('Order-2', 2, 'Paid', '{}', 'infinity');
SELECT es_import_event('Order-2', 0, 'Paid', '{}', '2020-01-03');
SELECT es_import_event('Order-2', NULL, 'Paid', '{}', '2020-01-03');
SELECT es_import_event('Order-2', 2, '', '{}', '2020-01-03');
SELECT es_import_events('{}');
SELECT es_import_events(NULL);
SELECT es_import_events('1');
-- which element it is, is said as well
\set SHOW_CONTEXT errors
SELECT es_import_events('[{"stream": "Order-2", "versoin": 2}]');
SELECT es_import_events('[{"stream": "Order-3", "version": 1, "type": "Created", "data": {}, "recorded_at": "2020-01-01"}, 7]');
SELECT es_import_events('[{"stream": "Order-2"}]');
SELECT es_import_events('[{"type": "Paid"}]');
SELECT es_import_events('[{"type": "Paid", "stream": null}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2"}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": "two"}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2.5}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": true}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2, "recorded_at": "soon"}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2, "recorded_at": 1600000000}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2, "recorded_at": "2020-01-03"}]');
SELECT es_import_events('[{"type": "Paid", "stream": "Order-2", "version": 2, "recorded_at": "2020-01-03", "data": {}, "tags": "x"}]');
SELECT es_import_events('[{"type": "", "stream": "Order-2", "version": 2, "recorded_at": "2020-01-03", "data": {}}]');
SELECT es_import_events('[
  {"stream": "Order-2", "version": 2, "type": "Paid", "data": {}, "recorded_at": "2020-01-03"},
  {"stream": "Order-2", "version": 3, "type": "Lost", "data": {}, "recorded_at": "2020-01-02"}]');
SELECT es_import_events('[
  {"stream": "Order-2", "version": 2, "type": "Paid", "data": {}, "recorded_at": "2020-01-03"},
  {"stream": "Order-2", "version": 4, "type": "Lost", "data": {}, "recorded_at": "2020-01-04"}]');
\set SHOW_CONTEXT never
-- numbers may come as strings, data may be null, and nothing is no event
BEGIN;
SELECT es_import_events('[{"stream": "Order-4", "version": "1", "type": "Created", "data": null, "recorded_at": "2020-01-03", "metadata": null, "event_id": null, "tags": null}]');
SELECT version, data, metadata, event_id, tags FROM es_read('Order-4');
SELECT es_import_events('[]');
ROLLBACK;
-- An import that broke off can be run again where its events have ids.
SELECT es_import_event('Order-1', 2, 'Paid', '{}', '2020-01-03', event_id => '7c0f7a52-58a8-4b2c-9a3e-5d1f7d5d9b01');
-- The same as another version is another event, and would be lost.
SELECT es_import_event('Order-1', 3, 'Paid', '{}', '2020-01-03', event_id => '7c0f7a52-58a8-4b2c-9a3e-5d1f7d5d9b01');
SELECT count(*) FROM interchange.events;
-- Data can be JSON's null.
BEGIN;
SELECT es_import_events('[{"stream": "Null-1", "version": 1, "type": "Noted", "data": null, "recorded_at": "2020-01-01"}]');
SELECT data FROM es_read('Null-1');
SELECT es_import_events('[{"stream": "Null-1", "version": 2, "type": "Noted", "recorded_at": "2020-01-01"}]');
ROLLBACK;
CREATE ROLE interchange_writer;
SELECT es_grant('interchange_writer', 'writer');
SET ROLE interchange_writer;
-- the hint names the role that runs the tests
\set VERBOSITY terse
SELECT es_import_event('Order-2', 2, 'Paid', '{}', '2020-01-03');
\set VERBOSITY default
RESET ROLE;

-- CloudEvents.
SELECT position, jsonb_pretty(event) FROM es_cloudevents(source => 'https://shop.example', types => '{Created}') ORDER BY position;
SELECT event->>'id' AS id, event->>'eventid' AS eventid, event ? 'actor' AS actor, event->>'source' LIKE '/%/interchange' AS source
  FROM es_cloudevents(1, 2) ORDER BY position;
SELECT es_cloudevent(NULL);
-- A trace goes along, and so does the type of what is not an object.
BEGIN;
SET LOCAL eventsourcing.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT es_append('Order-9', 'Traced', '[1]'), es_append('Single', 'Traced', 'null');
COMMIT;
SELECT event - 'time' - 'source' - 'position' AS event, (event->>'position')::bigint = position AS at FROM es_cloudevents(types => '{Traced}') ORDER BY position;
-- The log as an outbox.
SELECT id, aggregatetype, aggregateid, type, payload, tracingspancontext, version
  FROM interchange.outbox ORDER BY position;
SELECT count(*) = count(DISTINCT id) AS ids FROM interchange.outbox;
SET ROLE interchange_writer;
SELECT count(*) FROM interchange.outbox;
RESET ROLE;
SELECT es_drop_store('interchange', true);
DROP ROLE interchange_writer;
