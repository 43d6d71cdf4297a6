-- Subscriptions: delivery, leases, retries, parking, rights.
\set QUIET on
\pset format unaligned
SET client_min_messages = warning;
SELECT es_create_store('subs');
SET eventsourcing.store = 'subs';

-- an empty store, and names that are not there
\set VERBOSITY default
SELECT es_fetch('mail', 'a');
SELECT es_ack('mail', 'a', '{}');
SELECT es_nack('mail', 'a', 1, 'x');
SELECT es_unpark('mail');
SELECT es_reset_subscription('mail', 0);
SELECT es_drop_subscription('mail');
SELECT es_create_subscription('mail');
SELECT es_create_subscription('mail');
SELECT * FROM es_fetch('mail', 'a');
SELECT name, position, lag, leased, parked FROM subs.subscriptions;

-- arguments
\set VERBOSITY terse
SELECT es_create_subscription(NULL);
SELECT es_create_subscription('');
SELECT es_create_subscription('x', max_attempts => 0);
SELECT es_create_subscription('x', backoff => '-1 second');
SELECT es_create_subscription('x', after => -1);
SELECT es_create_subscription('x', after => 1);
SELECT es_create_subscription('x', types => '{}');
SELECT es_create_subscription('x', types => '{A,NULL}');
SELECT es_create_subscription('x', tags => '{NULL}');
SELECT es_create_handler('x', 'SELECT 1', types => '{}');
SELECT es_fetch('mail', NULL);
SELECT es_fetch('mail', 'a', 0);
SELECT es_fetch('mail', 'a', 1, '0s');
SELECT es_ack('mail', 'a', '{NULL}');
SELECT es_nack('mail', 'a', NULL, 'x');

-- what the tests look at
CREATE FUNCTION take(subscription text, consumer text, max_count int DEFAULT 100)
    RETURNS TABLE (stream text, type text, attempt int)
    LANGUAGE sql
    AS 'SELECT stream, type, attempt FROM es_fetch(subscription, consumer, max_count)';
CREATE FUNCTION at(wanted text[]) RETURNS bigint[]
    LANGUAGE sql
    AS 'SELECT array_agg(position ORDER BY position) FROM subs.events WHERE type = ANY (wanted)';
CREATE VIEW state AS
    SELECT name, lag = 0 AS current, leased, waiting, parked, consumers
      FROM subs.subscriptions ORDER BY name;

-- in order, each event once
SELECT es_append('Order-1', 'a1');
SELECT es_append('Order-2', 'b1');
SELECT es_append('Order-1', 'a2');
SELECT es_append('Cart-1', 'c1', tags => '{x}');
SELECT es_append('Cart-1', 'c2', '{"n": 1}', metadata => '{"k": 1}', tags => '{x, y}');
SELECT * FROM take('mail', 'a', 2);
SELECT * FROM state;
-- a2 has to wait for a1, which "a" holds; the others don't
SELECT * FROM take('mail', 'b');
SELECT * FROM take('mail', 'b');
SELECT * FROM state;
SELECT es_ack('mail', 'a', at('{a1}'));
SELECT * FROM take('mail', 'b');
SELECT es_ack('mail', 'b', at('{c1, a2, c2}'));
SELECT es_ack('mail', 'a', at('{b1}'));
SELECT * FROM state;
-- what is done can be acknowledged again, also twice in one call
SELECT es_ack('mail', 'a', at('{b1}') || at('{b1}'));
SELECT es_ack('mail', 'nobody', '{}');
\set VERBOSITY default
SELECT es_ack('mail', 'a', '{1000000}');
\set VERBOSITY terse

-- filters, and where to start
SELECT es_create_subscription('carts', category => 'Cart');
SELECT es_create_subscription('types', types => '{b1, a2}');
SELECT es_create_subscription('tags', tags => '{y, x}');
SELECT es_create_subscription('late', after => (at('{a2}'))[1]);
SELECT es_create_subscription('now', after => es_safe_position());
SELECT * FROM take('carts', 'a');
SELECT * FROM take('types', 'a');
SELECT type, data, metadata, tags, version, leased_until > now() + '20 seconds' AS lease FROM es_fetch('tags', 'a');
SELECT * FROM take('late', 'a');
SELECT * FROM take('now', 'a');
SELECT * FROM state;
SELECT es_drop_subscription(name) FROM subs.subscriptions WHERE name <> 'mail' ORDER BY name;
SELECT count(*) FROM subs.leases;

-- a lease that ran out: delivered again, and its holder hears of it
SELECT es_append('Order-1', 'a3');
SELECT es_append('Order-1', 'a4');
SELECT es_append('Order-2', 'b2');
SELECT * FROM take('mail', 'slow');
SET eventsourcing.clock_offset = '10s';
SELECT * FROM take('mail', 'fast');
SET eventsourcing.clock_offset = '50s';
SELECT * FROM take('mail', 'fast');
\set VERBOSITY default
SELECT es_ack('mail', 'slow', at('{b2}'));
SELECT es_nack('mail', 'slow', (at('{b2}'))[1], 'too late');
\set VERBOSITY terse
SELECT es_ack('mail', 'fast', at('{a3, a4}'));
-- what is done can be acknowledged again, but not fail any more
SELECT es_ack('mail', 'fast', at('{a3, a4}'));
\set VERBOSITY default
SELECT es_nack('mail', 'fast', (at('{a3}'))[1], 'too late');
\set VERBOSITY terse
SELECT es_ack('mail', 'fast', '{0, -1}');
SELECT es_nack('mail', 'fast', 0, 'never was there');
SELECT es_ack('mail', 'fast', '{1000000}');
SELECT es_nack('mail', 'fast', 1000000, 'not there yet');
SELECT * FROM state;
-- still his own after the time is up, as long as nobody took it
SET eventsourcing.clock_offset = '5min';
SELECT es_ack('mail', 'fast', at('{b2}'));
RESET eventsourcing.clock_offset;
SELECT * FROM state;

-- what kills its consumers comes alone, and parks alone
SELECT es_append('Order-1', 'a5');
SELECT es_append('Order-2', 'killer');
SELECT es_append('Order-3', 'd1');
SELECT * FROM take('mail', 'x');
SET eventsourcing.clock_offset = '1h';
SELECT * FROM take('mail', 'x');
SET eventsourcing.clock_offset = '2h';
SELECT * FROM take('mail', 'x');
SELECT es_ack('mail', 'x', at('{a5}'));
SELECT * FROM take('mail', 'x');
SET eventsourcing.clock_offset = '3h';
SELECT * FROM take('mail', 'x');
SELECT es_ack('mail', 'x', at('{d1}'));
SELECT * FROM take('mail', 'x');
SELECT es_ack('mail', 'x', at('{killer}'));
SELECT * FROM state;
RESET eventsourcing.clock_offset;

-- a failure: those behind wait, other streams go on
SELECT es_append('Order-1', 'a6');
SELECT es_append('Order-1', 'a7');
SELECT es_append('Order-2', 'b4');
SELECT * FROM take('mail', 'a');
SELECT es_nack('mail', 'a', (at('{a6}'))[1], 'mail server is down');
SELECT es_ack('mail', 'a', at('{a7}'));
SELECT es_ack('mail', 'a', at('{b4}'));
SELECT es_append('Order-1', 'a8');
SELECT es_append('Order-4', 'e1');
SELECT * FROM take('mail', 'a');
SELECT es_ack('mail', 'a', at('{e1}'));
SELECT stream, (at('{a6}'))[1] = position AS a6, attempts, error,
       retry_at < now() + '1 second' AS in_a_second
  FROM subs.deliveries ORDER BY position;
-- again, and the attempt is counted
SET eventsourcing.clock_offset = '1min';
SELECT * FROM take('mail', 'a');
SELECT es_nack('mail', 'a', (at('{a6}'))[1], 'still down');
SELECT error, attempts FROM subs.deliveries WHERE retry_at IS NOT NULL;
SET eventsourcing.clock_offset = '2min';
SELECT * FROM take('mail', 'a');
SELECT es_nack('mail', 'a', (at('{a6}'))[1], 'tell me when', retry_in => '1 day');
SET eventsourcing.clock_offset = '23h';
SELECT * FROM take('mail', 'a');
SET eventsourcing.clock_offset = '25h';
SELECT * FROM take('mail', 'a');
-- parked, with all that is behind
SELECT es_nack('mail', 'a', (at('{a6}'))[1], 'never', park => true);
SELECT es_append('Order-1', 'a9');
SELECT es_append('Order-4', 'e2');
SELECT * FROM take('mail', 'a');
SELECT es_ack('mail', 'a', at('{e2}'));
SELECT p.subscription, p.stream, e.type, p.attempts, p.error, p.parked_at IS NOT NULL AS parked
  FROM subs.parked p JOIN subs.events e USING (position) ORDER BY position;
SELECT * FROM state;
SET eventsourcing.clock_offset = '10 d';
SELECT * FROM take('mail', 'a');
SELECT es_unpark('mail', 'Order-4');
SELECT es_unpark('mail', 'Order-1');
SELECT * FROM take('mail', 'a', 2);
SELECT es_ack('mail', 'a', at('{a6, a7}'));
SELECT * FROM take('mail', 'a');
SELECT es_ack('mail', 'a', at('{a8, a9}'));
SELECT * FROM state;
RESET eventsourcing.clock_offset;

-- max_attempts
SELECT es_create_subscription('twice', after => es_safe_position(), max_attempts => 2, backoff => '0s');
SELECT es_append('Order-1', 'p1');
SELECT * FROM take('twice', 'a');
SELECT es_nack('twice', 'a', (at('{p1}'))[1], 'once');
SELECT * FROM take('twice', 'a');
SELECT es_nack('twice', 'a', (at('{p1}'))[1], 'twice');
SELECT * FROM take('twice', 'a');
SELECT attempts, error FROM subs.parked;
SELECT es_unpark('twice');
-- a lease that runs out counts, too
SELECT * FROM take('twice', 'a');
SET eventsourcing.clock_offset = '1h';
SELECT * FROM take('twice', 'b');
SET eventsourcing.clock_offset = '2h';
SELECT * FROM take('twice', 'c');
SELECT attempts, error FROM subs.parked;
RESET eventsourcing.clock_offset;
SELECT es_drop_subscription('twice');
SELECT count(*) FROM subs.parked;

-- the backoff doubles, has jitter and a limit
SELECT es_create_subscription('backoff', after => es_safe_position(), max_attempts => 100, backoff => '10 hours', max_backoff => '40 hours');
SELECT es_append('Order-1', 'p2');
CREATE FUNCTION failing(hours int) RETURNS TABLE (attempt int, enough boolean, not_too_much boolean)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT f.attempt INTO attempt FROM es_fetch('backoff', 'a') f;
    PERFORM es_nack('backoff', 'a', (at('{p2}'))[1], 'x');
    SELECT retry_at - now() > hours * interval '30 minutes' - interval '5 minutes',
           retry_at - now() < hours * interval '1 hour' + interval '5 minutes'
      INTO enough, not_too_much
      FROM subs.deliveries WHERE subscription = 'backoff';
    UPDATE subs.deliveries SET retry_at = now() WHERE subscription = 'backoff';
    RETURN NEXT;
END
$$;
SELECT failing(10);
SELECT failing(20);
SELECT failing(40);
SELECT failing(40);
SELECT failing(40);
DROP FUNCTION failing;
SELECT es_drop_subscription('backoff');

-- reset
SELECT * FROM take('mail', 'a');
SELECT es_reset_subscription('mail', (at('{p1}'))[1]);
SELECT * FROM take('mail', 'a');
SELECT es_reset_subscription('mail', -1);
SELECT es_reset_subscription('mail', 1000000);
SELECT es_reset_subscription('mail', es_safe_position());
SELECT * FROM state;

-- another transaction's event that is not settled holds the subscription back,
-- an own one too
BEGIN;
SELECT es_append('Order-1', 'mine');
SELECT * FROM take('mail', 'a');
COMMIT;
SELECT * FROM take('mail', 'a');
SELECT es_ack('mail', 'a', at('{mine}'));

-- an event whose upcaster fails does not stop the others
CREATE FUNCTION broken(data jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE AS $$ SELECT to_jsonb(1 / (data->>'d')::int) $$;
SELECT es_append('Up-1', 'Upped', '{"d": 0}');
SELECT es_append('Up-1', 'Behind');
SELECT es_append('Up-2', 'Upped', '{"d": 1}');
SELECT es_create_upcaster('Upped', 1, 'broken(jsonb)');
SELECT * FROM take('mail', 'a');
SELECT es_ack('mail', 'a', (SELECT array_agg(position) FROM subs.events WHERE stream = 'Up-2'));
SELECT stream, attempts, error FROM subs.deliveries ORDER BY position;
SELECT es_drop_upcaster('Upped', 1);
SET eventsourcing.clock_offset = '1h';
SELECT * FROM take('mail', 'a');
RESET eventsourcing.clock_offset;

-- rights
CREATE ROLE regress_es_consumer;
CREATE ROLE regress_es_reader;
SELECT es_grant('regress_es_reader', 'reader');
SELECT es_grant('regress_es_consumer', 'consumer');
\set VERBOSITY default
SET ROLE regress_es_reader;
SELECT es_fetch('mail', 'a');
SELECT es_create_subscription('mine');
SELECT es_ack('mail', 'a', '{}');
SET ROLE regress_es_consumer;
SELECT es_create_subscription('mine', category => 'Cart');
SELECT stream, type, attempt FROM es_fetch('mine', 'a', 1);
SELECT name, leased FROM subs.subscriptions ORDER BY name;
SELECT * FROM subs.parked;
SELECT * FROM subs.leases;
UPDATE subs.subscriptions SET position = 0;
SELECT es_drop_subscription('mine');
RESET ROLE;
GRANT DELETE ON subs.subscriptions TO regress_es_consumer;
SET ROLE regress_es_consumer;
SELECT es_drop_subscription('mine');

-- row security: a role's own subscription has what it may see
RESET ROLE;
SET eventsourcing.log_path = 'auto';
ALTER TABLE subs.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY cart ON subs.events FOR SELECT TO regress_es_consumer USING (stream LIKE 'Cart-%');
SELECT es_append('Order-1', 'hidden');
SET ROLE regress_es_consumer;
\set VERBOSITY terse
SELECT es_fetch('mail', 'a');
SELECT es_create_subscription('mine');
SELECT stream, type, attempt FROM es_fetch('mine', 'a');
RESET ROLE;
ALTER TABLE subs.events DISABLE ROW LEVEL SECURITY;

-- counters: a session's own here; what was rolled back does not count
\c -
SET client_min_messages = warning;
SET eventsourcing.store = 'subs';
SELECT es_create_subscription('counted', after => es_safe_position(), max_attempts => 2, backoff => '0s');
SELECT es_create_aggregate('Counted', rules => '{"x": {"$inc": {"n": 1}}}', snapshot_every => 3);
SELECT es_append('Counted-1', 'x'), es_append('Counted-1', 'x'), es_append('Counted-1', 'x'), es_append('Counted-1', 'x');
SELECT es_append('Counted-1', 'x', expected_version => 7);
BEGIN;
SELECT es_append('Counted-1', 'x');
ROLLBACK;
SELECT * FROM es_load('Counted-1');
SELECT * FROM take('counted', 'a', 3);
BEGIN;
SELECT es_ack('counted', 'a', (SELECT array_agg(position) FROM es_read('Counted-1', 1, 2)));
ROLLBACK;
SELECT es_ack('counted', 'a', (SELECT array_agg(position) FROM es_read('Counted-1', 1, 2)));
SELECT es_nack('counted', 'a', (SELECT position FROM es_read('Counted-1', 3, 3)), 'x');
SELECT * FROM take('counted', 'a');
SELECT es_nack('counted', 'a', (SELECT position FROM es_read('Counted-1', 3, 3)), 'x');
SELECT * FROM subs.counters;

-- no tags wanted: any event will do
SELECT es_create_subscription('untagged', tags => '{}');
SELECT count(*) > 0 AS any FROM es_fetch('untagged', 'a');

-- what is done leaves nothing, and acknowledging one by one leaves the lease's key
SELECT es_create_subscription('one by one', after => es_safe_position());
SELECT es_append('Order-1', 'k' || g) FROM generate_series(1, 4) g;
SELECT * FROM take('one by one', 'a');
SELECT es_ack('one by one', 'a', at('{k1}'));
SELECT es_ack('one by one', 'a', at('{k2}'));
SELECT position = (at('{k1}'))[1] AS same_key, positions = at('{k3, k4}') AS rest FROM subs.leases WHERE subscription = 'one by one';
-- k3 is taken back, k4 with it: both come again, and nothing is in the way
SELECT es_nack('one by one', 'a', (at('{k3}'))[1], 'x', retry_in => '0s');
SELECT * FROM take('one by one', 'a');
SELECT es_ack('one by one', 'a', at('{k3}'));
SELECT * FROM take('one by one', 'a');
SELECT es_ack('one by one', 'a', at('{k4}'));
SELECT count(*) FROM subs.leases WHERE subscription = 'one by one';
-- a first event that is taken back takes the key with it
SELECT es_append('Order-' || g, 'm' || g) FROM generate_series(1, 3) g;
SELECT * FROM take('one by one', 'a');
SELECT es_nack('one by one', 'a', (at('{m1}'))[1], 'x', retry_in => '0s');
SELECT * FROM take('one by one', 'b');
SELECT consumer, positions = at(CASE consumer WHEN 'a' THEN '{m2, m3}'::text[] ELSE '{m1}' END) AS own
  FROM subs.leases WHERE subscription = 'one by one' ORDER BY 1;

-- what is parked stays there when an event before it, whose lease ran out, comes again
SELECT es_create_subscription('parked behind', after => es_safe_position(), backoff => '0s');
SELECT es_append('Order-7', 'behind' || g) FROM generate_series(1, 3) g;
SELECT * FROM take('parked behind', 'a');
SELECT es_nack('parked behind', 'a', (at('{behind2}'))[1], 'bad', park => true);
SET eventsourcing.clock_offset = '1h';
SELECT * FROM take('parked behind', 'b');
SELECT es_append('Order-7', 'behind4');
SELECT es_ack('parked behind', 'b', at('{behind1}'));
SELECT * FROM take('parked behind', 'b');
SELECT es_unpark('parked behind');
SELECT * FROM take('parked behind', 'b');
RESET eventsourcing.clock_offset;

-- so does what es_nack() put off, until its time, whatever comes again before it
SELECT es_create_subscription('put off', after => es_safe_position(), backoff => '0s');
SELECT es_append('Order-8', 'late' || g) FROM generate_series(1, 4) g;
SELECT * FROM take('put off', 'a');
SELECT es_nack('put off', 'a', (at('{late3}'))[1], 'busy', retry_in => '3h');
SELECT es_nack('put off', 'a', (at('{late2}'))[1], 'busy', retry_in => '4h');
SELECT es_append('Order-9', 'late5');
SET eventsourcing.clock_offset = '1h';
SELECT * FROM take('put off', 'b');
SELECT es_ack('put off', 'b', at('{late1, late5}'));
SELECT * FROM take('put off', 'b');
-- the time of late3 has come, but late2 is before it
SET eventsourcing.clock_offset = '210min';
SELECT * FROM take('put off', 'b');
SET eventsourcing.clock_offset = '5h';
SELECT * FROM take('put off', 'b', 1);
SELECT es_nack('put off', 'b', (at('{late2}'))[1], 'still', retry_in => '0s');
SELECT * FROM take('put off', 'b');
SELECT es_ack('put off', 'b', at('{late2}'));
SELECT * FROM take('put off', 'b');
SELECT es_ack('put off', 'b', at('{late3}'));
SELECT * FROM take('put off', 'b');
RESET eventsourcing.clock_offset;

SELECT es_drop_store('subs', confirm => true);
DROP ROLE regress_es_consumer, regress_es_reader;
DROP FUNCTION take, at, broken;
