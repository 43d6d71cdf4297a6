-- An order desk whose orders are event streams.
--
--   createdb orders && psql -d orders -f examples/orders.sql
--
-- or, with nothing set up yet, script/demo.  It wants a database without a
-- store, and leaves everything there to be looked at.

\set ON_ERROR_STOP on
\set QUIET on
\set ECHO queries
\pset pager off
\pset footer off

\echo
\echo '=== 1. A store, and what an order is ==='
\echo
\echo 'A store is a schema (es) with ordinary tables.  What happens to an order is'
\echo 'recorded there as events.  Its state is not recorded: it is what one function'
\echo 'makes of the events, one after the other.'
\echo

CREATE EXTENSION IF NOT EXISTS eventsourcing;
SELECT es_create_store()
\g /dev/null

CREATE FUNCTION apply_order(state jsonb, event es_event) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$  -- from the state before the event to the state after it
DECLARE
  data jsonb := event.data;
BEGIN
  CASE event.type
    WHEN 'OrderCreated' THEN
      RETURN jsonb_build_object('status', 'open', 'customer', data->'customer', 'address', data->'address',
                                'items', '{}'::jsonb, 'total_cents', 0);
    WHEN 'ItemAdded' THEN
      RETURN state || jsonb_build_object(
        'items', (state->'items') || jsonb_build_object(data->>'item', data->'quantity'),
        'total_cents', (state->'total_cents')::bigint + (data->'quantity')::bigint * (data->'price_cents')::bigint);
    WHEN 'AddressChanged' THEN
      RETURN state || jsonb_build_object('address', data->'address');
    WHEN 'DiscountApplied' THEN
      RETURN state || jsonb_build_object(
        'total_cents', (state->'total_cents')::bigint * (100 - (data->'percent')::bigint) / 100);
    WHEN 'PaymentReceived' THEN
      RETURN state || jsonb_build_object('status', 'paid', 'paid_by', data->'method');
    WHEN 'OrderShipped' THEN
      RETURN state || jsonb_build_object('status', 'shipped', 'tracking', data->'tracking');
    WHEN 'OrderCancelled' THEN
      RETURN state || jsonb_build_object('status', 'cancelled');
    ELSE
      RETURN state;
  END CASE;
END
$$;

SELECT es_create_aggregate('Order', apply => 'apply_order(jsonb, es_event)')
\g /dev/null

\set ECHO none

-- Helpers to print amounts and states with.
CREATE FUNCTION amount(cents numeric) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(cents / 100, 'FM999,999,990.00') $$;

CREATE FUNCTION amount(cents jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT amount(cents::numeric) $$;

CREATE FUNCTION summary(state jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT concat_ws(E'\n', state->>'status' || ', ' || amount(state->'total_cents'),
    (SELECT string_agg(value || ' ' || key, ', ' ORDER BY key) FROM jsonb_each_text(state->'items')),
    'to ' || (state->>'address'))
$$;

\set ECHO queries

\echo
\echo '=== 2. One order, step by step ==='
\echo
\echo 'Every append says what the order''s version is expected to be, and returns the'
\echo 'new one.  0: there is no such order yet.'
\echo

SELECT es_append('Order-1', 'OrderCreated', '{"customer": "Ada Byron", "address": "12 Mill Lane"}',
                 expected_version => 0) AS version;

SELECT es_append('Order-1', 'ItemAdded', '{"item": "Walnut desk", "quantity": 1, "price_cents": 45000}',
                 expected_version => 1) AS version;

SELECT es_append('Order-1', 'ItemAdded', '{"item": "Desk lamp", "quantity": 2, "price_cents": 4950}',
                 expected_version => 2) AS version;

\echo 'Who is acting is said once for a transaction, and kept with each of its events.'
\echo

BEGIN;
SET LOCAL eventsourcing.actor = 'ada';
SELECT es_append('Order-1', 'AddressChanged', '{"address": "7 Harbour Street"}', expected_version => 3) AS version;
COMMIT;

BEGIN;
SET LOCAL eventsourcing.actor = 'grace';
SELECT es_append('Order-1', 'DiscountApplied', '{"percent": 10, "reason": "late delivery last time"}',
                 expected_version => 4) AS version;
COMMIT;

\echo 'What is the order now?'
\echo

SELECT version, jsonb_pretty(state) AS state FROM es_load('Order-1');

\echo
\echo '=== 3. A decision on stale facts is refused ==='
\echo
\echo 'Linus looked at the order before the discount, at version 4, and now adds an item'
\echo 'at the price he saw.  Nothing is locked while people think: his append says what'
\echo 'it is based on, and is refused.'
\echo

\set ON_ERROR_STOP off
SELECT es_append('Order-1', 'ItemAdded', '{"item": "Office chair", "quantity": 1, "price_cents": 19900}',
                 expected_version => 4) AS version;
\echo '(SQLSTATE' :SQLSTATE')'
\set ON_ERROR_STOP on

\echo
\echo 'He reads again, still wants the chair, and says so at version 5.  Then the order is'
\echo 'paid and shipped: two events in one append, both or none.'
\echo

SELECT es_append('Order-1', 'ItemAdded', '{"item": "Office chair", "quantity": 1, "price_cents": 19900}',
                 expected_version => 5) AS version;

SELECT es_append_events('Order-1', '[
         {"type": "PaymentReceived", "data": {"method": "card"}},
         {"type": "OrderShipped",    "data": {"tracking": "PX-20731"}}
       ]', expected_version => 6) AS version;

\echo
\echo '=== 4. Its history: the state before and after every event ==='
\echo

SELECT version, type, summary(state_before) AS before, summary(state_after) AS after
FROM es_replay('Order-1');

\echo
\echo '=== 5. Questions that a row updated in place can not answer ==='
\echo
\echo 'What did the order cost before the discount, and who approved that?'
\echo

SELECT amount(state_before->'total_cents') AS before, amount(state_after->'total_cents') AS after,
       metadata->>'actor' AS approved_by, data->>'reason' AS reason
FROM es_replay('Order-1')
WHERE type = 'DiscountApplied';

\echo 'When did the address change, from what to what, and who changed it?'
\echo

SELECT recorded_at::timestamptz(0) AS at, state_before->>'address' AS was, state_after->>'address' AS became,
       metadata->>'actor' AS changed_by
FROM es_replay('Order-1')
WHERE type = 'AddressChanged';

\echo 'What was in the basket two events after the order was made?'
\echo

SELECT version, state->'items' AS items, amount(state->'total_cents') AS total
FROM es_load('Order-1', to_version => 3);

\set ECHO none

\echo
\echo '=== 6. Some thousand orders ==='
\echo
\echo 'Making them ...'
\echo

-- The same orders every time: random() starts from a seed.
SELECT setseed(0.42) \g /dev/null
DO $$
DECLARE
  items constant text[] := '{Walnut desk,Desk lamp,Office chair,Bookshelf,Coat stand,Waste basket}';
  cents constant int[] := '{45000,4950,19900,12900,5900,1500}';
  names constant text[] := '{Ada,Barbara,Edsger,Frances,Grace,Ken,Linus,Margaret}';
  clerks constant text[] := '{grace,ken,margaret}';
  events jsonb[];
  pick int;
BEGIN
  FOR i IN 2 .. 3000 LOOP
    events := ARRAY[jsonb_build_object('type', 'OrderCreated', 'data', jsonb_build_object(
                      'customer', names[1 + floor(random() * 8)::int],
                      'address', 1 + floor(random() * 200)::int || ' Station Road'))];
    FOR n IN 1 .. 1 + floor(random() * 4)::int LOOP
      pick := 1 + floor(random() * 6)::int;
      events := events || jsonb_build_object('type', 'ItemAdded', 'data', jsonb_build_object(
                  'item', items[pick], 'quantity', 1 + floor(random() * 3)::int, 'price_cents', cents[pick]));
    END LOOP;
    IF random() < 0.25 THEN
      events := events || jsonb_build_object('type', 'AddressChanged', 'data', jsonb_build_object(
                  'address', 1 + floor(random() * 200)::int || ' Harbour Street'));
    END IF;
    IF random() < 0.2 THEN
      events := events || jsonb_build_object('type', 'DiscountApplied',
                  'data', jsonb_build_object('percent', 5 * (1 + floor(random() * 4)::int), 'reason', 'campaign'),
                  'metadata', jsonb_build_object('actor', clerks[1 + floor(random() * 3)::int]));
    END IF;
    IF random() < 0.85 THEN
      events := events || jsonb_build_object('type', 'PaymentReceived', 'data', jsonb_build_object(
                  'method', CASE WHEN random() < 0.7 THEN 'card' ELSE 'invoice' END));
      IF random() < 0.9 THEN
        events := events || jsonb_build_object('type', 'OrderShipped', 'data', jsonb_build_object(
                    'tracking', 'PX-' || 20731 + i));
      END IF;
    ELSE
      events := events || jsonb_build_object('type', 'OrderCancelled', 'data', jsonb_build_object(
                  'reason', CASE WHEN random() < 0.5 THEN 'changed my mind' ELSE 'too slow' END));
    END IF;
    PERFORM es_append_events('Order-' || i, to_jsonb(events), expected_version => 0);
  END LOOP;
END
$$;

\set ECHO queries

SELECT count(*) AS events, count(DISTINCT stream) AS orders FROM es.events;

\echo 'The log is a table.  Who gave how much discount?'
\echo

SELECT metadata->>'actor' AS approved_by, count(*) AS discounts,
       round(avg((data->>'percent')::int), 1) AS average_percent
FROM es.events
WHERE type = 'DiscountApplied'
GROUP BY 1
ORDER BY 1;

\echo 'What were the cancelled orders worth when they were lost, and why?'
\echo

SELECT e.data->>'reason' AS reason, count(*) AS orders, amount(sum((o.state->'total_cents')::numeric)) AS lost
FROM es.events AS e
  CROSS JOIN LATERAL es_load(e.stream, to_version => e.version - 1) AS o
WHERE e.type = 'OrderCancelled'
GROUP BY 1
ORDER BY 1;

\echo 'How many orders stand where?'
\echo

SELECT o.state->>'status' AS status, count(*) AS orders, amount(sum((o.state->'total_cents')::numeric)) AS total
FROM es.streams AS s
  CROSS JOIN LATERAL es_load(s.stream) AS o
WHERE s.category = 'Order'
GROUP BY 1
ORDER BY 1;

\echo 'And nobody can rewrite what happened:'
\echo

\set ON_ERROR_STOP off
UPDATE es.events SET data = '{"percent": 50}' WHERE type = 'DiscountApplied';
\echo '(SQLSTATE' :SQLSTATE')'
\set ON_ERROR_STOP on
\set ECHO none
\echo
