-- Handlers and timers, run by es_run(); the saga of an order that is paid in
-- time or cancelled.
\set QUIET on
\pset format unaligned
SET client_min_messages = warning;
SELECT es_create_store('handlers');
SET eventsourcing.store = 'handlers';
CREATE TABLE mails (position bigint, recipient text);
CREATE VIEW state AS
    SELECT name, kind, lag = 0 AS current, leased, waiting, parked FROM handlers.subscriptions ORDER BY name;

-- what is refused
\set VERBOSITY terse
SELECT es_create_handler('x', NULL);
SELECT es_create_handler('x', '');
SELECT es_create_handler('x', 'SELECT nonsense');
SELECT es_create_handler('x', 'COMMIT');
SELECT es_create_handler(NULL, 'SELECT');
SELECT es_create_handler('x', 'SELECT 1', max_attempts => 0);
SELECT count(*) FROM handlers.subscriptions;
CREATE ROLE regress_es_writer;
SELECT es_grant('regress_es_writer', 'writer');
SELECT es_grant('regress_es_writer', 'consumer');
SET ROLE regress_es_writer;
SELECT es_create_handler('x', 'SELECT 1');
RESET ROLE;

-- a handler: each event once, whatever runs it
SELECT es_create_handler('mail', 'INSERT INTO mails SELECT position, data->>''to'' FROM new_events', types => '{MailWanted}');
SELECT es_create_handler('mail', 'SELECT 1');
SELECT es_append('A-' || g % 3, CASE WHEN g % 2 = 0 THEN 'MailWanted' ELSE 'Other' END, jsonb_build_object('to', g))
  FROM generate_series(1, 6) g;
SELECT * FROM state;
SELECT es_fetch('mail', 'a');
CALL es_run();
CALL es_run('mail');
SELECT array_agg(recipient ORDER BY position) FROM mails;
SELECT * FROM state;
CALL es_wait('mail');
-- a rebuild or a look at the past fires nothing
SELECT count(*) FROM es_read_all();
SELECT count(*) FROM mails;

-- a failure is undone by itself, waits with its stream, and parks in the end
CREATE FUNCTION send(wanted jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mails VALUES (0, wanted->>'to');
    IF wanted ? 'bad' THEN
        RAISE 'no such address: %', wanted->>'to' USING DETAIL = 'The server said 550.';
    END IF;
END
$$;
SELECT es_create_handler('send', 'SELECT send(data) FROM new_events', after => es_safe_position(), max_attempts => 3, backoff => '1 hour');
TRUNCATE mails;
SELECT es_append('B-1', 'S', '{"to": "b1"}');
SELECT es_append('B-2', 'S', '{"to": "b2"}');
SELECT es_append('B-1', 'S', '{"to": "b3", "bad": true}');
SELECT es_append('B-2', 'S', '{"to": "b4", "bad": true}');
SELECT es_append('B-1', 'S', '{"to": "b5"}');
SELECT es_append('B-3', 'S', '{"to": "b6"}');
CALL es_run();
SELECT array_agg(recipient ORDER BY recipient) FROM mails;
SELECT stream, attempts, error, retry_at IS NOT NULL AS retried FROM handlers.deliveries ORDER BY position;
SELECT * FROM state;
CALL es_wait('send', timeout => '0s');
SELECT es_append('B-1', 'S', '{"to": "b7"}');
CALL es_run();
SET eventsourcing.clock_offset = '2h';
CALL es_run();
SET eventsourcing.clock_offset = '5h';
CALL es_run();
SELECT subscription, stream, attempts, error FROM handlers.parked ORDER BY position;
SELECT array_agg(recipient ORDER BY recipient) FROM mails;
SELECT * FROM state;
CALL es_wait('send', timeout => '0s');
-- mended, and unparked
CREATE OR REPLACE FUNCTION send(wanted jsonb) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO mails VALUES (0, wanted->>'to') $$;
SELECT es_unpark('send');
CALL es_run();
SELECT array_agg(recipient ORDER BY recipient) AS all,
       array_agg(recipient) FILTER (WHERE recipient IN ('b3', 'b5', 'b7')) AS in_order FROM mails;
SELECT * FROM state;
RESET eventsourcing.clock_offset;

-- a deferred constraint is checked at once, so that what breaks it is known
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE letters (customer int REFERENCES customers DEFERRABLE INITIALLY DEFERRED);
INSERT INTO customers VALUES (1);
SELECT es_create_handler('letters', 'INSERT INTO letters SELECT (data->>''to'')::int FROM new_events',
    after => es_safe_position(), max_attempts => 1);
SELECT es_append('B-1', 'S', '{"to": "1"}');
SELECT es_append('B-2', 'S', '{"to": "2"}');
SELECT es_append('B-3', 'S', '{"to": "1"}');
CALL es_run('letters');
SELECT count(*) FROM letters;
SELECT stream, error FROM handlers.parked WHERE subscription = 'letters';
SELECT es_drop_subscription('letters');
DROP TABLE letters, customers;

-- one that is broken altogether holds nobody up
SELECT es_create_handler('broken', 'INSERT INTO mails SELECT position, ''broken'' FROM new_events', after => es_safe_position());
ALTER TABLE mails RENAME COLUMN recipient TO address;
SELECT es_append('B-4', 'S', '{"to": "b8"}');
SELECT es_append('B-5', 'S', '{"to": "b9"}');
CALL es_run();
ALTER TABLE mails RENAME COLUMN address TO recipient;
SET eventsourcing.clock_offset = '1min';
CALL es_run();
RESET eventsourcing.clock_offset;
SELECT * FROM state;
SELECT es_drop_subscription(name) FROM handlers.subscriptions ORDER BY name;
CALL es_run('mail');

-- idle ones cost not even a transaction each
CREATE VIEW transactions AS
    SELECT max(split_part(virtualtransaction, '/', 2)::bigint) AS n FROM pg_locks WHERE pid = pg_backend_pid();
SELECT n FROM transactions \gset
CALL es_run();
SELECT n - :n AS n_without FROM transactions \gset
SELECT es_create_handler('idle ' || i, 'SELECT 1', after => es_safe_position()) FROM generate_series(1, 5) i;
SELECT n FROM transactions \gset
CALL es_run();
SELECT n - :n = :n_without AS left_alone FROM transactions;
-- one that has something to do does
SELECT es_reset_subscription('idle 3', 0);
SELECT n FROM transactions \gset
CALL es_run();
SELECT n - :n > :n_without AS run FROM transactions;
SELECT count(*) FROM state WHERE current;
-- and what a handler appends is for the next round, or one would never end
SET statement_timeout = '60s';
SELECT es_create_handler('echo', 'SELECT es_append(stream, type) FROM new_events', category => 'Echo');
SELECT es_append('Echo-1', 'Heard');
CALL es_run();
SELECT es_stream_version('Echo-1');
CALL es_run('echo');
SELECT es_stream_version('Echo-1');
RESET statement_timeout;
SELECT es_drop_subscription(name) FROM handlers.subscriptions ORDER BY name;

-- timers
SELECT es_schedule(now() - interval '1s', 'T-1', 'Now', '{"n": 1}') IS NOT NULL AS key;
SELECT es_schedule(now() + interval '1 day', 'T-1', 'Tomorrow', key => 'a');
SELECT es_schedule(now() + interval '2 days', 'T-1', 'Later', '{"n": 2}', 'b');
SELECT es_schedule(now() + interval '3 days', 'T-1', 'Later still', key => 'b');
SELECT es_schedule(NULL, 'T-1', 'x');
SELECT es_schedule('infinity', 'T-1', 'x');
SELECT es_schedule(now(), 'T-1', 'x', key => '');
SELECT es_schedule(now(), 'T-1', 'x', key => repeat('k', 1025));
SELECT es_schedule(now(), '', 'x');
SELECT es_schedule(now(), 'T-1', '');
SELECT CASE WHEN key ~ '^[ab]$' THEN key END AS key, at > now() + interval '2 days 23 hours' AS late, stream, type, data FROM handlers.scheduled ORDER BY at;
CALL es_run();
CALL es_run();
SELECT stream, type, data FROM es_read('T-1');
SELECT es_cancel('a');
SELECT es_cancel('a');
SELECT es_cancel('');
SELECT es_cancel(NULL);
SET eventsourcing.clock_offset = '5d';
CALL es_run();
SELECT stream, type, data FROM es_read('T-1');
SELECT count(*) FROM handlers.scheduled;
RESET eventsourcing.clock_offset;
-- with the rights of who scheduled it
SET ROLE regress_es_writer;
SELECT es_schedule(now(), 'T-2', 'By the writer', key => 'w');
SELECT key FROM handlers.scheduled;
RESET ROLE;
SELECT es_schedule(now() + interval '1 day', 'T-2', 'By the owner', key => 'o');
SET ROLE regress_es_writer;
SELECT key FROM handlers.scheduled;
SELECT * FROM handlers.timers;
RESET ROLE;
REVOKE INSERT ON handlers.events FROM regress_es_writer;
CALL es_run();
SELECT key, role, attempts, error FROM handlers.scheduled WHERE key = 'w';
GRANT INSERT ON handlers.events TO regress_es_writer;
CALL es_run();
SELECT type FROM es_read('T-2');
SET eventsourcing.clock_offset = '1min';
CALL es_run();
SELECT type FROM es_read('T-2');
RESET eventsourcing.clock_offset;
SELECT es_cancel('o');
CREATE ROLE regress_es_nobody;
SET ROLE regress_es_nobody;
SELECT es_schedule(now(), 'T-2', 'x');
SELECT es_cancel('a');
RESET ROLE;
-- a trigger on the log schedules the same key anew, and cancels and puts off others
CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM appended WHERE type = 'Tick') THEN
        PERFORM es_schedule(now() + interval '1 day', 'T-3', 'Tick', '{"n": 2}', 'tick'),
            es_cancel('cancelled'), es_schedule(now() + interval '2 days', 'T-3', 'Late', key => 'late');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tick AFTER INSERT ON handlers.events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION tick();
SELECT es_schedule(now() - interval '1 hour', 'T-3', 'Tick', '{"n": 1}', 'tick');
SELECT es_schedule(now() - interval '1 minute', 'T-3', key, key => key) FROM unnest('{cancelled,late}'::text[]) key;
CALL es_run();
SELECT type, data FROM es_read('T-3');
SELECT key, at > now() AS later, data, attempts, error FROM handlers.scheduled ORDER BY at;
DROP TRIGGER tick ON handlers.events;
SELECT es_cancel('tick'), es_cancel('late');
-- and what it schedules for now, or for the past, is for the next round
SET statement_timeout = '60s';
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM es_schedule(CASE type WHEN 'Now' THEN clock_timestamp() ELSE '2001-01-01' END, stream, type, key => type)
       FROM appended WHERE stream = 'T-4';
    RETURN NULL;
END
$$;
CREATE TRIGGER again AFTER INSERT ON handlers.events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION again();
SELECT es_schedule(at, 'T-4', key, key => key) FROM (VALUES (now(), 'Now'), ('2001-01-01', 'Long ago')) v (at, key);
CALL es_run();
SELECT type, count(*) FROM es_read('T-4') GROUP BY type ORDER BY type;
CALL es_run();
SELECT type, count(*) FROM es_read('T-4') GROUP BY type ORDER BY type;
SELECT key, at = '2001-01-01' AS as_given FROM handlers.scheduled ORDER BY key;
RESET statement_timeout;
DROP TRIGGER again ON handlers.events;
SELECT es_cancel('Now'), es_cancel('Long ago');

-- the saga
SELECT es_create_handler('payment deadline', $$
    SELECT es_schedule(recorded_at + interval '1 day', stream, 'PaymentOverdue', '{}', 'deadline ' || stream)
      FROM new_events WHERE type = 'OrderCreated';
    SELECT es_cancel('deadline ' || stream) FROM new_events WHERE type = 'PaymentReceived';
    SELECT es_append(stream, 'OrderCancelled', '{"reason": "not paid in time"}') FROM new_events WHERE type = 'PaymentOverdue';
    SELECT es_append('Saga-' || stream, 'Handled' || type) FROM new_events
$$, category => 'Order', after => es_safe_position());
BEGIN;
SET LOCAL eventsourcing.correlation_id = 'shop-1';
SET LOCAL eventsourcing.actor = 'ann';
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_append('Order-2', 'OrderCreated', event_id => '22222222-2222-2222-2222-222222222222');
COMMIT;
SET eventsourcing.actor = 'somebody who runs things';
CALL es_run();
SELECT key, stream, type FROM handlers.scheduled ORDER BY key;
SELECT es_append('Order-1', 'PaymentReceived');
CALL es_run();
SELECT key, stream, type FROM handlers.scheduled ORDER BY key;
SET eventsourcing.clock_offset = '1d';
CALL es_run();
CALL es_run();
SELECT stream, type, metadata - 'causation_id' AS metadata FROM es_read('Order-1')
UNION ALL SELECT stream, type, metadata - 'causation_id' FROM es_read('Order-2');
SELECT type, metadata ? 'causation_id' AS caused FROM es_read('Saga-Order-2');
SELECT depth, label, stream FROM es_trace('shop-1');
-- an event without a correlation begins one, named by its position
SELECT label, stream FROM es_trace((SELECT position::text FROM es_read('Order-1') WHERE type = 'PaymentReceived'));
RESET eventsourcing.clock_offset;
RESET eventsourcing.actor;

-- a handler may be its own cause: es_run() goes up to where the log was
SELECT es_create_handler('endless', 'SELECT es_append(stream, ''Again'') FROM new_events', category => 'E', after => es_safe_position());
SELECT es_append('E-1', 'Again');
CALL es_run('endless');
-- es_wait() is for the event of the session, not for what the handler appended
CALL es_wait('endless', timeout => '0s');
CALL es_run('endless');
SELECT es_stream_version('E-1');

SELECT es_drop_store('handlers', confirm => true);
DROP TABLE mails;
DROP FUNCTION send, tick, again;
DROP ROLE regress_es_writer, regress_es_nobody;
