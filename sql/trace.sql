-- The tree of causes.
\set QUIET on
\pset format unaligned
\set SHOW_CONTEXT never
SELECT es_create_store('trace');
SET eventsourcing.store = 'trace';
BEGIN;
SET LOCAL eventsourcing.correlation_id = 'checkout-7';
SELECT es_append('Cart-1', 'CheckedOut', event_id => '11111111-1111-1111-1111-111111111111');
COMMIT;
BEGIN;
SET LOCAL eventsourcing.correlation_id = 'checkout-7';
SET LOCAL eventsourcing.causation_id = '11111111-1111-1111-1111-111111111111';
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_append('Stock-9', 'Reserved');
SET LOCAL eventsourcing.causation_id = '2';
SELECT es_append('Payment-1', 'Requested', event_id => '11111111-1111-1111-1111-111111111111');
COMMIT;
BEGIN;
SET LOCAL eventsourcing.correlation_id = 'checkout-7';
SET LOCAL eventsourcing.causation_id = '4';
SELECT es_append('Payment-1', 'Received');
-- an id that two events have: the later one is meant
SET LOCAL eventsourcing.causation_id = '11111111-1111-1111-1111-111111111111';
SELECT es_append('Mail-1', 'Sent');
-- its own cause, and a cause that is not there
SET LOCAL eventsourcing.causation_id = '7';
SELECT es_append('Loop-1', 'Looped');
SET LOCAL eventsourcing.causation_id = 'a command';
SELECT es_append('Order-1', 'Confirmed');
COMMIT;
SELECT es_append('Other-1', 'Unrelated');
SELECT label, depth, position, stream, version, type, event_id IS NOT NULL AS id, causation_id FROM es_trace('checkout-7');

-- what began with an event that belongs to nothing: known by its position
SELECT es_append('Other-1', 'Caused', metadata => '{"correlation_id": "9", "causation_id": "9"}');
SELECT label, position FROM es_trace('9');
SELECT label, position FROM es_trace('nothing');
SELECT label, position FROM es_trace('999999999999999999999999');
SELECT label, position FROM es_trace('');
SELECT label, position FROM es_trace(NULL);

-- in a session that has not heard of the settings yet; without a store
\c -
SELECT count(*) FROM es_trace('checkout-7');
SET eventsourcing.store = 'trace';

SELECT es_create_index('correlation');
SET enable_seqscan = off;
EXPLAIN (COSTS off) SELECT FROM trace.events WHERE metadata ->> 'correlation_id' = 'checkout-7';
SELECT es_drop_store('trace', confirm => true);
