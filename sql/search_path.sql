-- Nothing of the caller's search_path is used where a call works as the store's
-- owner: a schema in front of pg_catalog has doubles of the operators and
-- aggregates in there, and of some functions, which raise, and of a collation.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA hostile;
CREATE COLLATION hostile."C" FROM pg_catalog."C";
SET check_function_bodies = off;
DO $do$
DECLARE
    body text := $$ LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hostile''; END' $$;
    o record;
    n int := 0;
BEGIN
    FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
               FROM pg_operator
              WHERE oprkind = 'b' AND oprnamespace = 'pg_catalog'::regnamespace
                AND 'p' NOT IN (SELECT typtype FROM pg_type WHERE oid IN (oprleft, oprright, oprresult))
    LOOP
        n := n + 1;
        EXECUTE format('CREATE FUNCTION hostile.o%s(%s, %s) RETURNS %s %s', n, o.l, o.r, o.result, body);
        EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.o%s)',
                       o.oprname, o.l, o.r, n);
    END LOOP;
    FOR o IN SELECT proname, oidvectortypes(proargtypes) AS arguments, proretset, prorettype::regtype AS result
               FROM pg_proc
              WHERE pronamespace = 'pg_catalog'::regnamespace
                AND (prokind = 'a' AND pronargs > 0 OR
                     proname IN ('clock_timestamp', 'gen_random_uuid', 'now', 'power', 'regexp_replace', 'split_part', 'timezone'))
                AND 'p' NOT IN (SELECT typtype FROM pg_type WHERE oid = ANY (proargtypes::oid[] || prorettype))
    LOOP
        EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s%s %s', o.proname, o.arguments,
                       CASE WHEN o.proretset THEN 'SETOF ' ELSE '' END, o.result, body);
    END LOOP;
    EXECUTE 'CREATE FUNCTION hostile.unnest(anyarray) RETURNS SETOF anyelement' || body;
    EXECUTE 'CREATE FUNCTION hostile.concat(VARIADIC text[]) RETURNS text' || body;
    EXECUTE 'CREATE FUNCTION hostile.to_jsonb(anyelement) RETURNS jsonb' || body;
    EXECUTE 'CREATE FUNCTION hostile.jsonb_build_object(VARIADIC text[]) RETURNS jsonb' || body;
    EXECUTE 'CREATE FUNCTION hostile.count() RETURNS bigint' || body;
    EXECUTE 'CREATE FUNCTION hostile.array_agg(anynonarray) RETURNS anyarray' || body;
END
$do$;
RESET check_function_bodies;
CREATE TABLE orders (stream text PRIMARY KEY, n int);
CREATE TABLE orders_later (LIKE orders INCLUDING ALL);
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE FUNCTION lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql RETURN data;
CREATE FUNCTION decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql RETURN '[{"type": "A"}]'::jsonb;

SELECT public.es_create_store();
SET search_path = hostile, pg_catalog;
SELECT 1 = 1;
SELECT min(1::bigint);
\t on
-- Everything that the extension has, with both ways into the log.
SELECT public.es_create_aggregate('Order', rules => '{"A": {"$inc": {"n": 1}}}', snapshot_every => 2);
RESET search_path;
SELECT es_create_decider('Order', 'public.decide(jsonb, text, jsonb)');
SELECT es_create_upcaster('B', 1, 'public.lift(jsonb)');
SELECT es_create_projection('orders', tables => '{orders}', script => $$
    INSERT INTO orders SELECT stream, 1 FROM new_events WHERE version = 1 ON CONFLICT DO NOTHING$$);
SELECT es_create_projection('later', mode => 'async', tables => '{orders_later}', script => $$
    INSERT INTO orders_later SELECT stream, 1 FROM new_events ON CONFLICT DO NOTHING$$);
SELECT es_create_handler('handler', script => 'SELECT count(*) FROM new_events', backoff => '0s');
SET search_path = hostile, pg_catalog;
SELECT public.es_rename_type('Old', 'New');
SELECT public.es_create_subscription('consumer', category => 'Order', types => '{A,B}', backoff => '0s');
SELECT public.es_create_subscription('one', backoff => '0s');
SET eventsourcing.log_path = 'spi';
SELECT public.es_append('Order-1', 'A', '{}', 0, '{"correlation_id": "c"}', '00000000-0000-0000-0000-000000000001', '{a,b}');
SELECT public.es_append('Order-1', 'A', event_id => '00000000-0000-0000-0000-000000000001');
SELECT public.es_append_events('Order-1', '[{"type": "A"}, {"type": "B", "tags": ["a"]}]', 1);
SELECT public.es_execute('Order-1', 'do', '{}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT public.es_append_events('Order-1', '[{"type": "A"}, {"type": "A"}]', 4);
SELECT version FROM public.es_read_all(2, 10, 'Order', '{A}', '{a}');
ROLLBACK;
SELECT version FROM public.es_read('Order-1', 2, 3);
SELECT version FROM public.es_read('Order-1', backward => true, max_count => 1);
SELECT version FROM public.es_read_all(0, 1, 'Order', '{A}', '{a}');
SELECT public.es_stream_version('Order-1'), public.es_head_position(), public.es_safe_position();
SELECT version FROM public.es_load('Order-1');
RESET eventsourcing.log_path;
SELECT public.es_append('Order-2', 'A', '{}', 0, event_id => '00000000-0000-0000-0000-000000000001');
SELECT public.es_append('Order-2', 'A', event_id => '00000000-0000-0000-0000-000000000001');
SELECT version FROM public.es_load('Order-2', 1);
SELECT version FROM public.es_replay('Order-1', 2);
SELECT public.es_snapshot('Order-1');
SELECT public.es_bisect('Order-1', 'true');
SELECT path FROM public.es_diff('{"a": 1}', '{"a": 2}');
SELECT version FROM public.es_trace('c');
SELECT version FROM public.es_cloudevents(0, 1) c (v), LATERAL (SELECT 1) l (version);
-- subscriptions
SELECT position, attempt FROM public.es_fetch('consumer', 'c', 2);
SELECT public.es_ack('consumer', 'c', '{1}');
SELECT public.es_ack('consumer', 'c', '{1}');
SELECT public.es_nack('consumer', 'c', 3, 'error', '0s');
SELECT position, attempt FROM public.es_fetch('consumer', 'c', 2);
SELECT public.es_nack('consumer', 'c', 3, 'error', park => true);
SELECT public.es_unpark('consumer', 'Order-1');
SELECT position, attempt FROM public.es_fetch('consumer', 'c', 9);
SELECT public.es_reset_subscription('consumer', 0);
SELECT position, attempt FROM public.es_fetch('one', 'c', 9, '1ms');
RESET search_path;
SET eventsourcing.clock_offset = '1h';
SET search_path = hostile, pg_catalog;
SELECT position, attempt FROM public.es_fetch('one', 'c', 1);
SELECT public.es_drop_subscription('consumer');
-- running, timers
SELECT public.es_schedule('2000-01-01', 'Order-3', 'A', key => 'k');
SELECT public.es_schedule('3000-01-01', 'Order-3', 'A', key => 'l');
SELECT public.es_cancel('l');
CALL public.es_run();
CALL public.es_wait('later');
CALL public.es_wait('handler');
-- projections
SELECT public.es_pause_projection('orders');
SELECT public.es_resume_projection('orders');
SELECT public.es_alter_projection('orders', types => '{A}', rebuild => true);
CALL public.es_rebuild('orders');
SELECT * FROM public.es_verify_projection('orders');
SELECT public.es_drop_projection('orders');
-- capture, import, administration
SELECT public.es_capture('public.customer', 'Customer', 'id');
INSERT INTO public.customer VALUES (1, 'Ada');
UPDATE public.customer SET name = 'Eve';
DELETE FROM public.customer;
SELECT public.es_uncapture('public.customer');
SELECT public.es_import_event('Order-4', 1, 'A', '{}', '2000-01-01');
SELECT public.es_import_events('[]');
SELECT FROM public.es_verify() OFFSET 100;
SELECT public.es_repair_sequence();
SELECT public.es_create_index('category'), public.es_create_index('type'), public.es_create_index('tags'), public.es_create_index('correlation');
SELECT public.es_alter_aggregate('Order', snapshot_every => 3);
SELECT public.es_drop_snapshots('Order');
SELECT public.es_drop_upcaster('B', 1);
SELECT public.es_drop_aggregate('Order');
SELECT public.es_upgrade_store();
SELECT public.es_grant('public', 'reader');
SELECT public.es_drop_store('es', true);
RESET search_path;
DROP SCHEMA hostile CASCADE;
DROP TABLE orders, orders_later, customer;
DROP FUNCTION lift, decide;
