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
\echo '=== 1. What an order is, and what can be done with it ==='
\echo
\echo 'A store is a schema (es) with ordinary tables.  What happens to an order is'
\echo 'recorded there as events.  Its state is not recorded: these rules make it of the'
\echo 'events, one after the other.'
\echo

CREATE EXTENSION IF NOT EXISTS eventsourcing;

\o /dev/null
SELECT es_create_store();
\o
\echo

\o /dev/null
SELECT es_create_aggregate('Order', rules => '{
  "OrderCreated":    {"$set":  {"status": "open", "customer": "$.customer", "address": "$.address", "total_cents": 0}},
  "ItemAdded":       {"$push": {"items": {"item": "$.item", "quantity": "$.quantity"}},
                      "$inc":  {"total_cents": "$.amount_cents"}},
  "AddressChanged":  {"$set":  {"address": "$.address"}},
  "DiscountApplied": {"$inc":  {"total_cents": "$.amount_cents"}},
  "PaymentReceived": {"$set":  {"status": "paid"}},
  "OrderShipped":    {"$set":  {"status": "shipped", "tracking": "$.tracking"}},
  "OrderCancelled":  {"$set":  {"status": "cancelled", "reason": "$.reason"}}
}');
\o
\echo

\echo 'A command is what somebody wants.  The decider looks at the state and says what'
\echo 'happens because of it: an event here, or nothing, or it refuses.'
\echo

CREATE FUNCTION decide_order(state jsonb, command text, payload jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
  status constant text := coalesce(state->>'status', 'not there');
  total constant bigint := state->'total_cents';
  event text;
BEGIN
  IF command = 'pay' AND status = 'paid' OR command = 'expire' AND status <> 'open' THEN
    RETURN '[]';    -- there is nothing to do
  ELSIF (command, status) NOT IN (
      ('create', 'not there'), ('add item', 'open'), ('change address', 'open'), ('discount', 'open'),
      ('pay', 'open'), ('ship', 'paid'), ('cancel', 'open'), ('cancel', 'paid'), ('expire', 'open')) THEN
    RAISE 'cannot % an order that is %', command, status;
  END IF;

  CASE command
    WHEN 'create' THEN
      event := 'OrderCreated';
    WHEN 'add item' THEN
      event := 'ItemAdded';
      payload := payload || jsonb_build_object(
                   'amount_cents', (payload->'quantity')::bigint * (payload->'price_cents')::bigint);
    WHEN 'change address' THEN
      event := 'AddressChanged';
    WHEN 'discount' THEN
      event := 'DiscountApplied';
      payload := payload || jsonb_build_object('amount_cents', -total * (payload->'percent')::bigint / 100);
    WHEN 'pay' THEN
      IF (payload->'amount_cents')::bigint <> total THEN
        RAISE 'the order costs % cents, not %', total, payload->'amount_cents';
      END IF;
      event := 'PaymentReceived';
      payload := payload || jsonb_build_object('customer', state->'customer');
    WHEN 'ship' THEN
      event := 'OrderShipped';
      payload := payload || jsonb_build_object('items', state->'items');
    WHEN 'cancel' THEN
      event := 'OrderCancelled';
    WHEN 'expire' THEN
      event := 'OrderCancelled';
      payload := '{"reason": "not paid in time"}';
  END CASE;
  RETURN jsonb_build_array(jsonb_build_object('type', event, 'data', payload));
END
$$;
\echo

\o /dev/null
SELECT es_create_decider('Order', 'decide_order(jsonb, text, jsonb)');
\o
\echo

\set ECHO none

-- Helpers to print amounts and states with.
CREATE FUNCTION amount(cents numeric) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(cents / 100, 'FM999,999,990.00') $$;

CREATE FUNCTION amount(cents jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT amount(cents::numeric) $$;

CREATE FUNCTION summary(state jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT concat_ws(E'\n', state->>'status' || ', ' || amount(state->'total_cents'),
    (SELECT string_agg((i->>'quantity') || ' ' || (i->>'item'), ', ' ORDER BY n)
       FROM jsonb_array_elements(state->'items') WITH ORDINALITY AS e (i, n)),
    'to ' || (state->>'address'))
$$;

\set ECHO queries

\echo
\echo '=== 2. One order, step by step ==='
\echo
\echo 'es_execute loads the order, has the decider decide, and appends what happened; it'
\echo 'returns the order''s new version.  Commands on one order wait for each other.'
\echo

SELECT es_execute('Order-1', 'create', '{"customer": "Ada", "address": "12 Mill Lane"}') AS version;

SELECT es_execute('Order-1', 'add item', '{"item": "Walnut desk", "quantity": 1, "price_cents": 45000}') AS version;

SELECT es_execute('Order-1', 'add item', '{"item": "Desk lamp", "quantity": 2, "price_cents": 4950}') AS version;

\echo 'Who is acting is said once for a transaction, and kept with each of its events.'
\echo

BEGIN;
SET LOCAL eventsourcing.actor = 'ada';
SELECT es_execute('Order-1', 'change address', '{"address": "7 Harbour Street"}') AS version;
COMMIT;
\echo

BEGIN;
SET LOCAL eventsourcing.actor = 'grace';
SELECT es_execute('Order-1', 'discount', '{"percent": 10, "reason": "late delivery last time"}') AS version;
COMMIT;
\echo

\echo 'What is the order now?'
\echo

SELECT version, jsonb_pretty(state) AS state FROM es_load('Order-1');

\echo
\echo '=== 3. What is refused ==='
\echo
\echo 'What is against the rules of the business, in the words of the decider:'
\echo

\set ON_ERROR_STOP off
SELECT es_execute('Order-1', 'ship', '{"tracking": "PX-20731"}') AS version;

\echo
\echo 'And what is based on stale facts.  Linus looked at the order before the discount,'
\echo 'at version 4, and now adds a chair.  Nothing is locked while people think: his'
\echo 'command says which version he saw, and is refused.'
\echo

SELECT es_execute('Order-1', 'add item', '{"item": "Office chair", "quantity": 1, "price_cents": 19900}',
                  expected_version => 4) AS version;
\echo '(SQLSTATE' :SQLSTATE')'
\set ON_ERROR_STOP on

\echo
\echo 'He looks again, still wants the chair, and says so at version 5.  Then the order is'
\echo 'paid and shipped, in one transaction: both or none.'
\echo

SELECT es_execute('Order-1', 'add item', '{"item": "Office chair", "quantity": 1, "price_cents": 19900}',
                  expected_version => 5) AS version;

BEGIN;
SELECT es_execute('Order-1', 'pay', '{"method": "card", "amount_cents": 69310, "paid_on": "2025-01-02"}') AS version;
SELECT es_execute('Order-1', 'ship', '{"tracking": "PX-20731"}') AS version;
COMMIT;
\echo

\echo 'An application that decides by itself appends by itself, with the version that it'
\echo 'decided on, and is refused in the same way:'
\echo

\set ON_ERROR_STOP off
SELECT es_append('Order-1', 'OrderCancelled', '{"reason": "changed my mind"}', expected_version => 7) AS version;
\echo '(SQLSTATE' :SQLSTATE')'
\set ON_ERROR_STOP on

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

\echo
\echo '=== 6. A read model, in the same transaction ==='
\echo
\echo 'An ordinary table for ordinary queries.  Its script runs in every transaction that'
\echo 'appends, so table and events never disagree; the history so far is taken in now.'
\echo

CREATE TABLE order_read_model (order_id text PRIMARY KEY, customer text, status text, total_cents bigint);
\echo

\o /dev/null
SELECT es_create_projection('order_read_model', tables => '{order_read_model}', script => $$
  INSERT INTO order_read_model
  SELECT stream, data->>'customer', 'open', 0 FROM new_events WHERE type = 'OrderCreated';

  UPDATE order_read_model AS o
     SET status = CASE e.type WHEN 'PaymentReceived' THEN 'paid' WHEN 'OrderShipped' THEN 'shipped'
                              WHEN 'OrderCancelled' THEN 'cancelled' ELSE o.status END,
         total_cents = o.total_cents + CASE WHEN e.type IN ('ItemAdded', 'DiscountApplied')
                                            THEN (e.data->>'amount_cents')::bigint ELSE 0 END
    FROM new_events AS e
   WHERE o.order_id = e.stream AND e.type <> 'OrderCreated'
$$);
\o
\echo

BEGIN;
SELECT es_execute('Order-2', 'create', '{"customer": "Ken", "address": "3 Quarry Road"}') AS version;
SELECT es_execute('Order-2', 'add item', '{"item": "Bookshelf", "quantity": 2, "price_cents": 12900}') AS version;
SELECT order_id, customer, status, amount(total_cents) AS total FROM order_read_model ORDER BY order_id;
ROLLBACK;
\echo

\echo 'Rolled back, both are gone: the order and its row.'
\echo

SELECT es_stream_version('Order-2') AS version, (SELECT count(*) FROM order_read_model) AS rows;

\set ECHO none

\echo
\echo '=== 7. Some thousand orders ==='
\echo
\echo 'The orders of a year, by the same commands ...'
\echo

-- The same orders every time: random() starts from a seed.
SELECT setseed(0.42) \g /dev/null
DO $$
DECLARE
  items constant text[] := '{Walnut desk,Desk lamp,Office chair,Bookshelf,Coat stand,Waste basket}';
  cents constant int[] := '{45000,4950,19900,12900,5900,1500}';
  names constant text[] := '{Ada,Barbara,Edsger,Frances,Grace,Ken,Linus,Margaret}';
  clerks constant text[] := '{grace,ken,margaret}';
  id text;
  pick int;
BEGIN
  FOR i IN 2 .. 3000 LOOP
    id := 'Order-' || i;
    PERFORM es_execute(id, 'create', jsonb_build_object('customer', names[1 + floor(random() * 8)::int],
                       'address', 1 + floor(random() * 200)::int || ' Station Road'));
    FOR n IN 1 .. 1 + floor(random() * 4)::int LOOP
      pick := 1 + floor(random() * 6)::int;
      PERFORM es_execute(id, 'add item', jsonb_build_object('item', items[pick],
                         'quantity', 1 + floor(random() * 3)::int, 'price_cents', cents[pick]));
    END LOOP;
    IF random() < 0.25 THEN
      PERFORM es_execute(id, 'change address',
                         jsonb_build_object('address', 1 + floor(random() * 200)::int || ' Harbour Street'));
    END IF;
    IF random() < 0.2 THEN
      PERFORM es_execute(id, 'discount',
                         jsonb_build_object('percent', 5 * (1 + floor(random() * 4)::int), 'reason', 'campaign'),
                         metadata => jsonb_build_object('actor', clerks[1 + floor(random() * 3)::int]));
    END IF;
    IF random() < 0.85 THEN
      PERFORM es_execute(id, 'pay', jsonb_build_object(
                         'method', CASE WHEN random() < 0.7 THEN 'card' ELSE 'invoice' END,
                         'amount_cents', (SELECT total_cents FROM order_read_model WHERE order_id = id),
                         'paid_on', date '2025-01-01' + i * 364 / 3000));
      IF random() < 0.9 THEN
        PERFORM es_execute(id, 'ship', jsonb_build_object('tracking', 'PX-' || 20731 + i));
      END IF;
    ELSE
      PERFORM es_execute(id, 'cancel', jsonb_build_object(
                         'reason', CASE WHEN random() < 0.5 THEN 'changed my mind' ELSE 'too slow' END));
    END IF;
  END LOOP;
END
$$;

\set ECHO queries

SELECT count(*) AS events, count(DISTINCT stream) AS orders FROM es.events;

\echo 'How many orders stand where?  The read model knows at once ...'
\echo

SELECT status, count(*) AS orders, amount(sum(total_cents)) AS total
FROM order_read_model
GROUP BY 1
ORDER BY 1;

\echo '... and the log, which is a table too, knows the rest.  Who gave how much discount?'
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

\echo
\echo '=== 8. Questions that nobody had thought of then ==='
\echo
\echo 'What did each customer spend in each quarter?  Nobody kept such a table, but the'
\echo 'events have it.  From now on it follows the log, a moment after each commit.'
\echo

CREATE TABLE customer_quarterly_stats (customer text, quarter date, orders bigint, cents bigint,
                                       PRIMARY KEY (customer, quarter));
\echo

\o /dev/null
SELECT es_create_projection('customer_quarterly_stats', tables => '{customer_quarterly_stats}',
  mode => 'async', granularity => 'batch', types => '{PaymentReceived}', script => $$
  INSERT INTO customer_quarterly_stats AS s
  SELECT data->>'customer', date_trunc('quarter', (data->>'paid_on')::date),
         count(*), sum((data->>'amount_cents')::bigint)
    FROM new_events
   GROUP BY 1, 2
  ON CONFLICT (customer, quarter)
  DO UPDATE SET orders = s.orders + EXCLUDED.orders, cents = s.cents + EXCLUDED.cents
$$);
\o
\echo
CALL es_run();
\echo

SELECT customer, sum(orders) AS orders,
       amount(sum(cents) FILTER (WHERE quarter = '2025-01-01')) AS q1,
       amount(sum(cents) FILTER (WHERE quarter = '2025-04-01')) AS q2,
       amount(sum(cents) FILTER (WHERE quarter = '2025-07-01')) AS q3,
       amount(sum(cents) FILTER (WHERE quarter = '2025-10-01')) AS q4
FROM customer_quarterly_stats
GROUP BY 1
ORDER BY 1;

\echo 'What is left in stock?  That takes the goods that came in, too: streams of another'
\echo 'kind, one for each product, and one table over all of them.'
\echo

\o /dev/null
SELECT es_append('Product-' || item, 'GoodsReceived', jsonb_build_object('item', item, 'quantity', 3000))
FROM unnest('{Walnut desk,Desk lamp,Office chair,Bookshelf,Coat stand,Waste basket}'::text[]) AS item;
\o
\echo

CREATE TABLE stock (item text PRIMARY KEY, received bigint, shipped bigint);
\echo

\o /dev/null
SELECT es_create_projection('stock', tables => '{stock}',
  mode => 'async', granularity => 'batch', types => '{GoodsReceived,OrderShipped}', script => $$
  INSERT INTO stock AS s
  SELECT item, sum(received), sum(shipped)
    FROM (SELECT data->>'item', (data->>'quantity')::bigint, 0
            FROM new_events WHERE type = 'GoodsReceived'
          UNION ALL
          SELECT i->>'item', 0, (i->>'quantity')::bigint
            FROM new_events, jsonb_array_elements(data->'items') AS i WHERE type = 'OrderShipped'
         ) AS change (item, received, shipped)
   GROUP BY 1
  ON CONFLICT (item)
  DO UPDATE SET received = s.received + EXCLUDED.received, shipped = s.shipped + EXCLUDED.shipped
$$);
\o
\echo
CALL es_run();
\echo

SELECT item, received, shipped, received - shipped AS left FROM stock ORDER BY item;

\echo 'Do the tables say what the events say?  Each of them, against one made anew:'
\echo

SELECT name, mode, state, (SELECT count(*) FROM es_verify_projection(name)) AS differences
FROM es.projections
ORDER BY name;

\echo
\echo '=== 9. After the commit: mails, and a deadline ==='
\echo
\echo 'A handler does something about an event, once, after its commit.  This one puts mails'
\echo 'into a table, for whatever sends them.  It starts with what comes next: nobody gets a'
\echo 'mail about the orders of last year.'
\echo

CREATE TABLE mails (id bigint GENERATED ALWAYS AS IDENTITY, recipient text, subject text);
\echo

\o /dev/null
SELECT es_create_handler('mail', types => '{OrderShipped,OrderCancelled}',
                         after => es_safe_position(), script => $$
  INSERT INTO mails (recipient, subject)
  SELECT o.customer, CASE e.type
                     WHEN 'OrderShipped' THEN o.order_id || ' is on its way: ' || (e.data->>'tracking')
                     ELSE o.order_id || ' is cancelled: ' || (e.data->>'reason') END
    FROM new_events AS e JOIN order_read_model AS o ON o.order_id = e.stream
$$);
\o
\echo

\echo 'A process manager goes with an order for days.  An order has three days to be paid:'
\echo 'a timer is set, payment cancels it, and when it goes off the order may expire, which'
\echo 'is up to the order: it may be paid at that very moment.  What the process manager did'
\echo 'is recorded, too, as events of a stream of its own.'
\echo

\o /dev/null
SELECT es_create_handler('payment', types => '{OrderCreated,PaymentReceived,OrderCancelled,PaymentOverdue}',
                         after => es_safe_position(), script => $$
  SELECT es_append('Payment-of-' || stream, 'PaymentAwaited'),
         es_schedule(recorded_at + interval '3 days', 'Payment-of-' || stream, 'PaymentOverdue',
                     jsonb_build_object('order', stream), key => stream)
    FROM new_events WHERE type = 'OrderCreated';

  SELECT es_cancel(stream),
         es_append('Payment-of-' || stream, 'NoLongerAwaited', jsonb_build_object('because', type))
    FROM new_events WHERE type IN ('PaymentReceived', 'OrderCancelled');

  SELECT es_execute(data->>'order', 'expire'), es_append(stream, 'ExpiryRequested')
    FROM new_events WHERE type = 'PaymentOverdue'
$$);
\o
\echo

\echo 'Two orders are made.  es_run does what is due; a background worker would, by itself.'
\echo

BEGIN;
SET LOCAL eventsourcing.correlation_id = 'cart 4711';
SELECT es_execute('Order-3001', 'create', '{"customer": "Edsger", "address": "1 Short Path"}') AS version;
SELECT es_execute('Order-3001', 'add item', '{"item": "Desk lamp", "quantity": 1, "price_cents": 4950}') AS version;
COMMIT;
\echo

BEGIN;
SET LOCAL eventsourcing.correlation_id = 'cart 4712';
SELECT es_execute('Order-3002', 'create', '{"customer": "Frances", "address": "64 Loop Street"}') AS version;
SELECT es_execute('Order-3002', 'add item', '{"item": "Coat stand", "quantity": 1, "price_cents": 5900}') AS version;
COMMIT;
\echo

CALL es_run();
\echo

SELECT key, at::timestamptz(0), stream, type FROM es.scheduled ORDER BY key;

\echo 'Frances pays, and gets her coat stand.  Edsger does not, and four days go by.  (What a'
\echo 'handler appends is for the next es_run.)'
\echo

SELECT es_execute('Order-3002', 'pay', '{"method": "card", "amount_cents": 5900, "paid_on": "2026-01-02"}') AS version;
SELECT es_execute('Order-3002', 'ship', '{"tracking": "PX-23733"}') AS version;
CALL es_run();
SET eventsourcing.clock_offset = '4d';
CALL es_run();
CALL es_run();
\echo

SELECT stream, type, data FROM es.events WHERE stream LIKE 'Payment-of-%' ORDER BY stream, version;

SELECT order_id, customer, status, amount(total_cents) AS total
FROM order_read_model
WHERE order_id IN ('Order-3001', 'Order-3002')
ORDER BY 1;

SELECT recipient, subject FROM mails ORDER BY id;

\echo 'What led to what?'
\echo

SELECT label, stream FROM es_trace('cart 4711');

\set ECHO none
RESET eventsourcing.clock_offset;
\set ECHO queries

\echo
\echo '=== 10. And nobody can rewrite what happened ==='
\echo

\set ON_ERROR_STOP off
UPDATE es.events SET data = '{"percent": 50}' WHERE type = 'DiscountApplied';
\echo '(SQLSTATE' :SQLSTATE')'
\set ON_ERROR_STOP on
\set ECHO none
\echo
