-- What an attacker tries: a role of its own with a store of its own, a writer, a
-- reader, a consumer.  docs/security.md has the promises.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_es_shop;
CREATE ROLE regress_es_eve;
CREATE ROLE regress_es_admin SUPERUSER;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_es_shop, regress_es_eve', current_database()); END $$;
SET ROLE regress_es_shop;
SELECT es_create_store();
CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
CREATE TABLE shop.orders (stream text PRIMARY KEY, n bigint);
SELECT es_create_projection('orders', 'INSERT INTO shop.orders SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = orders.n + 1', '{shop.orders}');
SELECT es_append('Order-1', 'Created', '{"n": 1}');
SELECT es_grant('regress_es_eve', 'writer');

-- eve's own store, with a trap wherever she can put one
SET ROLE regress_es_eve;
SELECT es_create_store('evil');
CREATE SCHEMA notes;
GRANT USAGE ON SCHEMA notes TO PUBLIC;
CREATE TABLE notes.caught (what text, who name);
GRANT INSERT ON notes.caught TO PUBLIC;
CREATE FUNCTION evil.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notes.caught VALUES (TG_TABLE_NAME, current_user);
    PERFORM set_config('search_path', 'evil, public', false);
    PERFORM set_config('gin_fuzzy_search_limit', '77', false);
    RETURN NEW;
END
$$;
DO $$
DECLARE
    t name;
BEGIN
    FOREACH t IN ARRAY '{events,snapshots,leases,deliveries,subscription_cursors,timers,projection_cursors,rebuilds,handlers}'::name[] LOOP
        EXECUTE format('CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON evil.%I FOR EACH ROW EXECUTE FUNCTION evil.trap()', t);
    END LOOP;
END
$$;
CREATE FUNCTION evil.note(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO notes.caught VALUES (what, current_user)';
CREATE FUNCTION evil.apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('apply'); RETURN state; END $$;
CREATE FUNCTION evil.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('decide'); RETURN '[]'; END $$;
CREATE FUNCTION evil.lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('lift'); RETURN data; END $$;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
RESET ROLE;
GRANT CREATE ON SCHEMA public TO regress_es_eve;
SET ROLE regress_es_eve;
CREATE TABLE public.evil_copy (stream text, n bigint);
CREATE TABLE public.evil_notes (stream text, n bigint);
SET eventsourcing.store = evil;
SELECT es_create_aggregate('A', 'evil.apply(jsonb, es_event)', snapshot_every => 1);
SELECT es_create_decider('A', 'evil.decide(jsonb, text, jsonb)');
SELECT es_create_upcaster('Old', 1, 'evil.lift(jsonb)');
SELECT es_create_projection('noting', 'INSERT INTO public.evil_notes SELECT stream, 1 FROM new_events WHERE evil.note(''projection'') IS NULL', '{evil_notes}', mode => 'async', granularity => 'batch');
SELECT es_create_projection('model', 'INSERT INTO public.evil_copy SELECT stream, 1 FROM new_events', '{evil_copy}', mode => 'async', granularity => 'batch');
SELECT es_create_handler('handler', 'SELECT evil.note(''handler'') FROM new_events');
SELECT es_create_subscription('subscription');
RESET gin_fuzzy_search_limit;
SELECT es_append('A-1', 'Old', metadata => '{"schema": 1}');
SELECT es_schedule(now() - interval '1 second', 'A-1', 'Scheduled', key => 'timer');
-- a superuser reads, consumes and runs it: whatever runs, runs as eve, and leaves nothing behind
TRUNCATE notes.caught;
SET ROLE regress_es_admin;
RESET gin_fuzzy_search_limit;
SET search_path = public;
SELECT version FROM es_load('A-1');
SELECT count(*) FROM es_replay('A-1');
SELECT count(*) FROM es_read('A-1');
SELECT count(*) FROM es_read_all();
SELECT es_execute('A-1', 'do nothing');
SELECT es_snapshot('A-1');
SELECT count(*) FROM es_fetch('subscription', 'admin');
SELECT es_nack('subscription', 'admin', 1, 'error', retry_in => '0s');
SELECT count(*) FROM es_fetch('subscription', 'admin');
SELECT es_ack('subscription', 'admin', '{1}');
SELECT es_reset_subscription('subscription', 0);
CALL es_run();
CALL es_rebuild('model');
SELECT count(*) FROM es_verify_projection('model');
SELECT count(*) FROM es_bisect('A-1', 'false');
SELECT count(*) FROM es_verify() WHERE problem <> 'a setting breaks a promise';
SELECT es_upgrade_store('evil');
SELECT es_schedule(now(), 'A-1', 'Scheduled', key => 'timer');
SELECT es_cancel('timer');
SHOW search_path;
SHOW gin_fuzzy_search_limit;
RESET search_path;
SELECT count(*) > 0 AS caught, bool_and(who = 'regress_es_eve') AS only_herself FROM notes.caught;

-- what is deferred would run at the commit, as the caller
SET ROLE regress_es_eve;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON evil.leases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.trap();
SET ROLE regress_es_admin;
SELECT count(*) FROM es_fetch('subscription', 'admin');
SET ROLE regress_es_eve;
DROP TRIGGER later ON evil.leases;

-- a timer in the name of another role: the event is appended as eve, if the other could
UPDATE evil.timers SET role = 'regress_es_admin';
SELECT es_schedule(now() - interval '1 second', 'Forged-1', 'Scheduled', key => 'admin'), es_schedule(now() - interval '1 second', 'Forged-2', 'Scheduled', key => 'shop');
UPDATE evil.timers SET role = CASE key WHEN 'admin' THEN 'regress_es_admin' ELSE 'regress_es_shop' END::name;
TRUNCATE notes.caught;
CALL es_run();
SELECT DISTINCT what, who FROM notes.caught WHERE what = 'events';
SELECT stream FROM es.events WHERE stream LIKE 'Forged-%';
SELECT stream FROM evil.events WHERE stream LIKE 'Forged-%';
SELECT key, error FROM evil.timers ORDER BY key;
-- where row security asks who appends, the owner has to be able to be that role
SET ROLE regress_es_shop;
RESET eventsourcing.store;
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON es.events TO regress_es_eve USING (metadata ->> 'by' = current_user) WITH CHECK (stream LIKE 'Eve-%');
SET ROLE regress_es_eve;
SELECT es_schedule(now() - interval '1 second', 'Eve-1', 'Scheduled', key => 'eve');
RESET ROLE;
GRANT regress_es_eve TO regress_es_shop;
SET ROLE regress_es_eve;
SELECT es_schedule(now() - interval '1 second', 'Eve-1', 'Scheduled', key => 'eve'), es_schedule(now() - interval '1 second', 'Order-1', 'Forged', key => 'order');
SET ROLE regress_es_shop;
CALL es_run();
SELECT key, error FROM es.timers ORDER BY key;
SELECT stream, type FROM es.events ORDER BY position;
SELECT es_cancel('order');
RESET ROLE;
REVOKE regress_es_eve FROM regress_es_shop;

-- what a policy hides, errors and views don't tell
SET ROLE regress_es_shop;
SELECT es_append('Order-2', 'Secret', '{"card": "4711"}', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_create_handler('failing', 'SELECT 1 / (data ->> ''zero'')::int FROM new_events', types => '{Bad}', max_attempts => 1);
SELECT es_append('Order-3', 'Bad', '{"zero": "secret"}');
CALL es_run();
SELECT subscription, stream, error FROM es.parked;
SELECT es_grant('regress_es_eve', 'consumer');
CREATE TABLE shop.zeros (n int);
SELECT es_create_projection('zeros', 'INSERT INTO shop.zeros SELECT (data ->> ''zero'')::int FROM new_events', '{shop.zeros}', types => '{Bad}', mode => 'async');
SELECT es_create_aggregate('Eve', rules => '{"Bad": {"$inc": {"n": "$.zero"}}}', snapshot_every => 2);
SELECT es_append('Eve-9', 'Bad', '{"zero": "secret"}');
SET ROLE regress_es_eve;
SELECT count(*) FROM es_read('Order-2');
SELECT version, state FROM es_load('Order-2');
SELECT version FROM es_replay('Order-2');
SELECT es_stream_version('Order-2');
SELECT * FROM es_trace('2');
SELECT count(*) FROM es_cloudevents();
SELECT count(*) FROM es.streams;
SELECT es_append('Order-2', 'Other', '{"card": "1"}', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Order-2', 'Secret', '{"card": "1"}', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Order-2', 'Guess', expected_version => 7);
SELECT es_fetch('failing', 'eve');
SELECT * FROM es.parked;
SELECT es_append('Eve-9', 'Good');
CALL es_run('zeros');
SELECT name, last_error FROM es.projections ORDER BY name;
SET ROLE regress_es_shop;
CALL es_run('zeros');
SELECT name, last_error FROM es.projections ORDER BY name;
SELECT es_drop_projection('zeros'), es_drop_aggregate('Eve');
ALTER TABLE es.events DISABLE ROW LEVEL SECURITY;

-- a projection over the table of somebody else: what the definition says was checked, and written by hand since
SET ROLE regress_es_eve;
SET eventsourcing.store = evil;
UPDATE evil.projection_definitions SET tables = '{shop.orders}', script = 'SELECT 1 FROM new_events' WHERE name = 'model';
CALL es_rebuild('model');
SELECT count(*) FROM es_verify_projection('model');
UPDATE evil.projection_definitions SET tables = '{pg_catalog.pg_namespace}' WHERE name = 'model';
CALL es_rebuild('model');
UPDATE evil.projection_definitions SET tables = '{NULL, NULL}' WHERE name = 'model';
CALL es_rebuild('model');
UPDATE evil.projection_definitions SET tables = '{{evil_copy}, {evil_copy}}' WHERE name = 'model';
CALL es_rebuild('model');
SELECT es_drop_projection('model');
SELECT * FROM shop.orders;
RESET ROLE;
SELECT * FROM shop.orders ORDER BY stream;

-- bookkeeping written by hand must not take the server down
SET ROLE regress_es_eve;
SELECT count(*) > 0 FROM es_fetch('subscription', 'eve');
UPDATE evil.leases SET streams = '{1}', attempts = '{}';
SELECT es_ack('subscription', 'eve', '{1}');
UPDATE evil.leases SET streams = '{NULL, NULL, NULL}';
SELECT count(*) FROM es_fetch('subscription', 'other');
UPDATE evil.leases SET positions = '{{1, 2}, {3, 4}}', streams = '{{1, 2}, {3, 4}}', attempts = NULL, leased_until = '-infinity';
SELECT count(*) FROM es_fetch('subscription', 'other');
DELETE FROM evil.leases;
UPDATE evil.aggregates SET apply = NULL;
SELECT es_load('A-1');
UPDATE evil.aggregates SET rules = '{"A": {"$nothing": 1}}';
SELECT es_load('A-1');
UPDATE evil.aggregates SET rules = NULL, apply = 'pg_catalog.jsonb_in(cstring)';
SELECT es_load('A-1');
UPDATE evil.aggregates SET apply = 'pg_catalog.jsonb_concat(jsonb, jsonb)';
SELECT es_load('A-1');
UPDATE evil.aggregates SET apply = 'evil.apply(jsonb, es_event)', search_path = '"';
SELECT es_load('A-1');
UPDATE evil.aggregates SET search_path = 'evil, pg_temp';
UPDATE evil.deciders SET decide = 'pg_catalog.jsonb_in(cstring)';
UPDATE evil.upcasters SET function = 'pg_catalog.jsonb_in(cstring)';
UPDATE evil.timers SET attempts = -2147483648;
SELECT es_execute('A-1', 'x');
SELECT count(*) FROM es_read('A-1');
UPDATE evil.upcasters SET from_schema = 2147483647;
SELECT count(*) FROM es_read('A-1');
DELETE FROM evil.upcasters;

-- a store that nobody made
CREATE SCHEMA fake;
CREATE TABLE fake.store (layout int NOT NULL) PARTITION BY LIST (layout);
CREATE TABLE fake.events (LIKE evil.events);
CREATE SEQUENCE fake.events_position_seq;
SET eventsourcing.store = fake;
SELECT es_append('A-1', 'A');
DROP TABLE fake.store;
CREATE TABLE fake.store (layout int NOT NULL);
INSERT INTO fake.store VALUES (1);
DROP SEQUENCE fake.events_position_seq;
CREATE TABLE fake.events_position_seq ();
SELECT es_append('A-1', 'A');
DROP TABLE fake.events_position_seq;
CREATE SEQUENCE fake.events_position_seq;
SELECT es_append('A-1', 'A');
DO $$
DECLARE
    t name;
BEGIN
    FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'evil'::regnamespace AND relkind = 'r'
                                          AND relname NOT IN ('store', 'events', 'aggregates') LOOP
        EXECUTE format('CREATE TABLE fake.%I (LIKE evil.%1$I)', t);
    END LOOP;
END
$$;
CREATE VIEW fake.aggregates AS SELECT a.*, evil.note('view') IS NULL FROM evil.aggregates a;
SELECT es_load('A-1');
SET ROLE regress_es_admin;
SELECT es_verify();
SELECT es_upgrade_store('fake');
SET ROLE regress_es_eve;
DROP VIEW fake.aggregates;
CREATE DOMAIN fake.category AS text;
CREATE TABLE fake.aggregates (LIKE evil.aggregates);
ALTER TABLE fake.aggregates ALTER category TYPE fake.category;
SET ROLE regress_es_admin;
SELECT es_verify();
SELECT es_upgrade_store('fake');
RESET eventsourcing.store;
SET ROLE regress_es_eve;
DROP SCHEMA fake CASCADE;

-- a store in the schema of another, and a part that changed hands
CREATE SCHEMA trap;
SET ROLE regress_es_admin;
SELECT es_create_store('trap');
SET ROLE regress_es_eve;
SELECT es_create_store('trap');
SET ROLE regress_es_admin;
ALTER TABLE trap.events OWNER TO regress_es_shop;
SET eventsourcing.store = trap;
SELECT es_append('A-1', 'A');
SELECT es_verify();
SELECT es_upgrade_store('trap');
ALTER TABLE trap.events OWNER TO regress_es_eve;
ALTER TABLE trap.upcasters OWNER TO regress_es_shop;
SELECT es_append('A-1', 'A');
SELECT es_drop_store('trap', true);
ALTER TABLE trap.upcasters OWNER TO regress_es_admin;
SELECT es_append('A-1', 'A');
RESET eventsourcing.store;

-- a function that another role can make anew
SET ROLE regress_es_shop;
CREATE FUNCTION shop.apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN state; END $$;
SELECT es_create_aggregate('Order', 'shop.apply(jsonb, es_event)', snapshot_every => 0);
SELECT version FROM es_load('Order-1');
RESET ROLE;
ALTER SCHEMA shop OWNER TO regress_es_eve;
SET ROLE regress_es_eve;
DROP FUNCTION shop.apply;
CREATE FUNCTION shop.apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('shop'); RETURN state; END $$;
GRANT EXECUTE ON FUNCTION shop.apply TO PUBLIC;
SELECT version FROM es_load('Order-1');
SET ROLE regress_es_shop;
SELECT es_create_aggregate('Order', 'shop.apply(jsonb, es_event)');
SELECT es_create_decider('Order', 'evil.decide(jsonb, text, jsonb)');
SELECT es_create_upcaster('A', 1, 'evil.lift(jsonb)');
SELECT es_drop_aggregate('Order');
SELECT count(*) FROM notes.caught WHERE what = 'shop';
RESET ROLE;
SELECT what, who FROM notes.caught WHERE what = 'shop';

-- functions of the same name beside ours, which fit better to a literal
SET ROLE regress_es_eve;
CREATE FUNCTION public.es_install_projections(text) RETURNS void LANGUAGE sql AS $$ SELECT evil.note('install') $$;
CREATE FUNCTION public.es_forget_rebuild(text, text) RETURNS void LANGUAGE sql AS $$ SELECT evil.note('forget') $$;
CREATE FUNCTION public.es_begin_rebuild(text, text, boolean, boolean) RETURNS void LANGUAGE sql AS $$ SELECT evil.note('begin') $$;
RESET ROLE;
CREATE TABLE public.copy (stream text, n bigint);
ALTER TABLE public.copy OWNER TO regress_es_shop;
SET ROLE regress_es_shop;
SELECT es_create_projection('copy', 'INSERT INTO public.copy SELECT stream, 1 FROM new_events', '{copy}', granularity => 'batch');
CALL es_rebuild('copy');
SELECT count(*) FROM es_verify_projection('copy');
SELECT es_drop_projection('copy');
RESET ROLE;
SELECT what, who FROM notes.caught WHERE what IN ('install', 'forget', 'begin');
DROP FUNCTION public.es_install_projections(text), public.es_forget_rebuild(text, text), public.es_begin_rebuild(text, text, boolean, boolean);

-- the store that a caller names is not the one that the owner's code works on
CREATE TABLE public.seen (stream text, store text);
ALTER TABLE public.seen OWNER TO regress_es_shop;
CREATE TABLE public.taken (id int PRIMARY KEY);
ALTER TABLE public.taken OWNER TO regress_es_shop;
GRANT INSERT ON public.taken TO regress_es_eve;
SET ROLE regress_es_shop;
SELECT es_create_projection('seen', 'INSERT INTO public.seen SELECT stream, current_setting(''eventsourcing.store'') FROM new_events', '{seen}', types => '{Created}');
SELECT es_capture('taken', 'Captured', 'id');
SET ROLE regress_es_eve;
SET eventsourcing.store = evil;
INSERT INTO public.taken VALUES (1);
RESET eventsourcing.store;
SET ROLE regress_es_shop;
SELECT * FROM public.seen WHERE stream = 'Captured-1';

-- triggers of es_capture() that somebody else made
RESET ROLE;
CREATE TABLE public.admins (id int);
ALTER TABLE public.admins OWNER TO regress_es_admin;
GRANT INSERT, TRIGGER ON public.admins TO regress_es_eve;
SET ROLE regress_es_eve;
CREATE TRIGGER capture AFTER INSERT ON public.admins FOR EACH ROW EXECUTE FUNCTION es_capture_row('evil', 'A', 'id');
INSERT INTO public.admins VALUES (1);
CREATE TRIGGER acapture AFTER INSERT ON public.admins FOR EACH ROW EXECUTE FUNCTION es_capture_row('es', 'A', 'id');
INSERT INTO public.admins VALUES (1);
SET eventsourcing.store = evil;
SELECT es_capture('admins', 'A', 'id');
RESET eventsourcing.store;

-- past the guard
SELECT es_append('Order-1', 'Paid');
\set VERBOSITY terse
INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (999, 1, now(), 'Forged-1', 'A', '{}');
COPY es.events FROM STDIN;
\.
UPDATE es.events SET type = 'Forged';
DELETE FROM es.events;
TRUNCATE es.events;
CREATE RULE forge AS ON INSERT TO es.events DO INSTEAD NOTHING;
CREATE TRIGGER forge BEFORE INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION evil.trap();
ALTER TABLE es.events DISABLE TRIGGER ALL;
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
DROP TRIGGER es_guard_insert ON es.events;
SET session_replication_role = replica;
CREATE INDEX ON es.events (evil.trap());
CREATE TABLE child () INHERITS (es.events);
ALTER TABLE es.events ATTACH PARTITION evil.events DEFAULT;
BEGIN; LOCK TABLE es.events IN ACCESS EXCLUSIVE MODE; ROLLBACK;
SELECT setval('es.events_position_seq', 1);
SELECT es_guard();
SELECT es_project();
SELECT es_import_event('Order-9', 1, 'A', '{}', now());
SELECT es_import_events('[]');
SELECT es_repair_sequence();
SELECT es_advance_watermark();
SELECT es_install_store('es');
SELECT es_install_projections('es');
SELECT es_create_store_tables('es');
SELECT es_create_shadow('es', 'es.events', 'x_', false, false);
SELECT es_drop_shadows('es', '{events}');
SELECT es_forget_rebuild('es', 'orders');
\set VERBOSITY default
-- versions, positions and times that the caller would like
SELECT es_append_events('Order-1', '[{"type": "A", "position": 1}]');
SELECT es_append_events('Order-1', '[{"type": "A", "version": 9}]');
SELECT es_append_events('Order-1', '[{"type": "A", "recorded_at": "2000-01-01"}]');
SELECT es_append('Order-1', 'A', expected_version => 9223372036854775807);
SELECT es_append('Order-1', 'A', expected_version => -9223372036854775808);
-- the owner can take the guards away, but not without es_verify() telling
SET ROLE regress_es_shop;
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
CREATE RULE forge AS ON DELETE TO es.events DO INSTEAD NOTHING;
SELECT relation, problem FROM es_verify() WHERE problem <> 'a setting breaks a promise';
DROP RULE forge ON es.events;
CREATE RULE forge AS ON INSERT TO es.events DO INSTEAD NOTHING;
SELECT es_append('Order-1', 'Lost');
SELECT es_append_events('Order-1', '[{"type": "Lost"}, {"type": "Lost"}]');
DROP RULE forge ON es.events;
SELECT es_append('Order-1', 'Found'), es_append_events('Order-1', '[{"type": "Found"}, {"type": "Found"}]');
SELECT es_upgrade_store('es');
SELECT relation, problem FROM es_verify() WHERE problem <> 'a setting breaks a promise';

-- names are names, whatever is in them
RESET ROLE;
CREATE FUNCTION pg_temp.make(name text) RETURNS void LANGUAGE plpgsql AS $try$
BEGIN
    PERFORM es_create_store(name);
    PERFORM set_config('eventsourcing.store', name, true);
    PERFORM es_create_aggregate(split_part(name, '-', 1), rules => jsonb_build_object(name, jsonb_build_object('$set', jsonb_build_object('v', '$$version'))), snapshot_every => 1);
    PERFORM es_append(name || '-' || name, name, jsonb_build_object(name, name), tags => ARRAY[name]);
    EXECUTE format('CREATE TABLE model.%I (stream text PRIMARY KEY, t text)', 'model of ' || name);
    PERFORM es_create_projection(name, format('INSERT INTO model.%I SELECT stream, type FROM new_events', 'model of ' || name),
                                 ARRAY[format('model.%I', 'model of ' || name)::regclass], types => ARRAY[name]);
END
$try$;
CREATE FUNCTION pg_temp.try(name text) RETURNS text LANGUAGE plpgsql AS $try$
BEGIN
    PERFORM set_config('eventsourcing.store', name, true);
    PERFORM es_create_subscription(name, category => split_part(name, '-', 1), types => ARRAY[name], tags => ARRAY[name]);
    PERFORM es_fetch(name, name);
    PERFORM es_nack(name, name, 1, name, park => true);
    PERFORM es_unpark(name, name || '-' || name);
    PERFORM es_create_handler(name || '!', 'SELECT 1 FROM new_events', category => split_part(name, '-', 1));
    PERFORM es_schedule(now(), name, name, key => name);
    PERFORM es_cancel(name);
    PERFORM es_rename_type(name || ' old', name);
    PERFORM es_pause_projection(name), es_resume_projection(name);
    PERFORM es_alter_projection(name, rebuild => true);
    PERFORM es_verify_projection(name);
    PERFORM es_drop_snapshots(split_part(name, '-', 1));
    PERFORM es_upgrade_store(name);
    IF EXISTS (SELECT FROM es_verify() WHERE problem <> 'a setting breaks a promise') THEN
        RETURN 'es_verify() complains';
    END IF;
    RETURN (es_load(name || '-' || name)).version;
END
$try$;
CREATE SCHEMA model;
CREATE TEMP TABLE names (name text);
INSERT INTO names VALUES ('a b'), ('a"b'), ('a''b'), ('a\b'), ('{es}'), ('%s'), ('%1$I'), ('$1'), ('"; DROP TABLE x; --'), (''');--'), ('SELECT'),
                         (E'a\nb'), ('ümlaut'), ('$$'), ('x.y'), (',pg_temp');
SELECT count(pg_temp.make(name)) FROM names;
SELECT name, pg_temp.try(name) FROM names;
RESET eventsourcing.store;
SELECT es_append(E'a\x01b', 'A'), es_append('Order-1', repeat('x', 512)), es_append(repeat('y', 512), 'A');
SELECT es_append('Order-1', repeat('x', 513));
SELECT es_append(repeat('y', 513), 'A');
SELECT es_append('', 'A');

-- what is too much
SELECT es_append('Order-1', 'A', ('{"a": ' || repeat('[', 100000) || repeat(']', 100000) || '}')::jsonb);
SELECT es_create_aggregate('Deep', rules => ('{"A": {"$set": {"a": ' || repeat('{"b": ', 101) || '1' || repeat('}', 101) || '}}}')::jsonb);
SELECT es_create_aggregate('Deep', rules => jsonb_build_object('A', jsonb_build_object('$set', jsonb_build_object(repeat('a.', 200) || 'a', 1))));
SELECT count(*) FROM es_read('Order-1', max_count => 9223372036854775807);
SELECT count(*) > 0 FROM es_read_all(max_count => 9223372036854775807);
SELECT es_create_subscription('all');
SELECT count(*) > 0 FROM es_fetch('all', 'c', 2147483647, interval '178000000 years');
SELECT es_ack('all', 'c', '{}'), es_ack('all', 'c', ARRAY[9223372036854775807]);
SELECT es_nack('all', 'c', 1, 'x', interval '178000000 years');
SELECT es_create_subscription(repeat('n', 513));
SELECT es_create_handler(repeat('n', 513), 'SELECT FROM new_events');
CREATE TABLE model.limit (stream text);
SELECT es_create_projection(repeat('n', 513), 'INSERT INTO model.limit SELECT stream FROM new_events', '{model.limit}');
-- the last position that there is, and none behind it
SELECT setval('es.events_position_seq', 140737488355326);
SELECT es_append('Last-1', 'A');
SELECT position, es_safe_position(), es_head_position() FROM es_read_all(140737488355326);
\set VERBOSITY sqlstate
SELECT es_append('Last-1', 'B');
\set VERBOSITY default
SELECT es_stream_version('Last-1'), es_safe_position();

SELECT count(es_drop_store(name, true)) FROM names;
DROP SCHEMA model CASCADE;
DROP OWNED BY regress_es_shop, regress_es_eve, regress_es_admin CASCADE;
DROP ROLE regress_es_shop, regress_es_eve, regress_es_admin;
