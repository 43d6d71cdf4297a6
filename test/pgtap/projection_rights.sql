-- Whose rights a projection runs with, and what it cannot do with them.  Events
-- are appended by a role that has no right on any read model, and by a superuser,
-- whom a script must not profit from.
BEGIN;
SELECT plan(44);
CREATE ROLE shop_owner;
CREATE ROLE shop_writer;
CREATE ROLE shop_other;
CREATE ROLE shop_boss SUPERUSER;
GRANT CREATE ON DATABASE :"DBNAME" TO shop_owner;
GRANT USAGE ON SCHEMA public TO shop_writer;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
SET ROLE shop_owner;
SELECT es_create_store('shop_es');
SELECT es_create_store('shop_es_2');
SET eventsourcing.store = 'shop_es';
SET search_path = shop, public;
SELECT es_grant('shop_writer', 'writer');
CREATE TABLE orders (stream text PRIMARY KEY, events int NOT NULL DEFAULT 1, who text);
CREATE TABLE guarded (stream text, who text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded USING (stream NOT LIKE 'Secret%');
SELECT es_create_projection('orders', types => '{Placed}', tables => '{orders}', script => $$
    INSERT INTO orders AS o (stream, who) SELECT stream, current_user FROM new_events
    ON CONFLICT (stream) DO UPDATE SET events = o.events + 1
$$);
SELECT es_create_projection('guarded', types => '{Guarded}', tables => '{guarded}', script => $$
    INSERT INTO guarded SELECT stream, current_user FROM new_events
$$);

-- An appender needs no right on the read model.
SET ROLE shop_writer;
SELECT throws_ok('SELECT * FROM shop.orders', '42501', NULL, 'the writer may not read the read model,');
SELECT lives_ok($$SELECT es_append('Order-1', 'Placed')$$, 'and appends');
SELECT lives_ok($$SELECT es_append('Order-1', 'Placed')$$, 'again');
SELECT is(current_user, 'shop_writer', 'he is himself again');
SELECT throws_ok($$SELECT es_create_projection('x', 'SELECT 1', '{pg_class}')$$, '42501', NULL, 'he may not create a projection,');
SELECT throws_ok($$SELECT es_alter_projection('orders', 'SELECT 1')$$, '42501', NULL, 'alter,');
SELECT throws_ok($$SELECT es_pause_projection('orders')$$, '42501', NULL, 'pause,');
SELECT throws_ok($$SELECT es_resume_projection('orders')$$, '42501', NULL, 'resume,');
SELECT throws_ok($$SELECT es_drop_projection('orders')$$, '42501', NULL, 'drop,');
SELECT throws_ok($$CALL es_rebuild('orders')$$, '42501', NULL, 'rebuild,');
SELECT throws_ok($$SELECT * FROM es_verify_projection('orders')$$, '42501', NULL, 'verify it,');
SELECT throws_ok($$CALL es_run()$$, '42501', NULL, 'nor run what runs after commit');
SELECT throws_ok($$UPDATE shop_es.projection_cursors SET position = 0$$, '42501', NULL, 'nor write its cursor');
SELECT throws_ok($$UPDATE shop_es.projections SET state = 'x'$$, NULL, NULL, 'nor the view');

-- Whatever he puts into his way: his own tables and functions are not found.
SET ROLE shop_boss;
SELECT es_append('Order-1', 'Placed');
CREATE TEMP TABLE orders (stream text PRIMARY KEY, events int, who text);
SELECT lives_ok($$SELECT es_append('Order-1', 'Placed')$$, 'a temporary table of the same name does not matter');
SELECT is((SELECT count(*) FROM pg_temp.orders), 0::bigint, 'it stays empty');
SELECT results_eq('SELECT events, who FROM shop.orders', $$VALUES (4, 'shop_owner')$$,
    'whoever appends, the script runs as the owner');
DROP TABLE pg_temp.orders;

-- Row security on a read model is for its owner, too, where it is forced.
SELECT lives_ok($$SELECT es_append('Open-1', 'Guarded')$$, 'a row that the policy allows');
SELECT throws_ok($$SELECT es_append('Secret-1', 'Guarded')$$, 'ZE009', NULL, 'a row that it does not allow fails the append');
SET ROLE shop_owner;
SELECT is((SELECT count(*) FROM es_verify_projection('guarded')), 0::bigint, 'verified past row security');

-- A superuser appends: nothing of what the script calls gets his rights.
SET ROLE shop_owner;
CREATE FUNCTION try(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE what
        WHEN 'set role' THEN SET ROLE shop_boss;
        WHEN 'reset role' THEN RESET ROLE;
        WHEN 'session authorization' THEN SET SESSION AUTHORIZATION shop_boss;
        WHEN 'reset session authorization' THEN RESET SESSION AUTHORIZATION;
        WHEN 'set_config' THEN PERFORM set_config('role', 'shop_boss', false);
        WHEN 'commit' THEN COMMIT;
        WHEN 'rollback' THEN ROLLBACK;
        WHEN 'disable' THEN ALTER TABLE shop_es.events DISABLE TRIGGER ALL;
        WHEN 'alter' THEN ALTER TABLE shop_es.aggregates ADD COLUMN x int;
        WHEN 'truncate' THEN TRUNCATE shop_es.snapshots;
        WHEN 'update' THEN UPDATE shop_es.projection_cursors SET position = 0;
        WHEN 'delete' THEN DELETE FROM shop_es.projection_definitions;
        WHEN 'insert' THEN INSERT INTO shop_es.snapshots VALUES ('A-1', 1, '{}', now(), now(), '');
        WHEN 'lock' THEN LOCK TABLE shop_es.events IN ACCESS EXCLUSIVE MODE;
        WHEN 'grant' THEN GRANT shop_boss TO shop_owner;
        WHEN 'append' THEN PERFORM es_append('Sneaked-1', 'Sneaked');
        WHEN 'append to another' THEN
            SET LOCAL eventsourcing.store = 'shop_es_2';
            PERFORM es_append('Sneaked-1', 'Sneaked');
        WHEN 'schedule' THEN PERFORM es_schedule(now(), 'Sneaked-1', 'Sneaked');
        WHEN 'drop' THEN PERFORM es_drop_projection('orders');
        WHEN 'temporary' THEN CREATE TEMP TABLE gotcha (n int);
        ELSE RAISE EXCEPTION 'what?';
    END CASE;
END $$;
SELECT es_create_projection('try', types => '{Try}', tables => '{orders}',
    script => $$SELECT try(data ->> 'what') FROM new_events$$);
SET ROLE shop_boss;
CREATE FUNCTION refused(what text, why text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT public.throws_ok(format('SELECT es_append(%L, %L, jsonb_build_object(%L, %L))', 'Try-1', 'Try', 'what', what),
        'ZE009', format('projection "try" failed: %s', why), 'refused: ' || what);
END $$;
SELECT refused(w.what, w.why) FROM (VALUES
    ('set role', 'cannot set parameter "role" within security-definer function'),
    ('reset role', 'cannot set parameter "role" within security-definer function'),
    ('session authorization', 'cannot set parameter "session_authorization" within security-definer function'),
    ('reset session authorization', 'cannot set parameter "session_authorization" within security-definer function'),
    ('set_config', 'cannot set parameter "role" within security-definer function'),
    ('commit', 'invalid transaction termination'),
    ('rollback', 'invalid transaction termination'),
    ('disable', 'projection "try" must not run ALTER TABLE'),
    ('alter', 'projection "try" must not run ALTER TABLE'),
    ('truncate', 'projection "try" must not run TRUNCATE TABLE'),
    ('update', 'projection "try" must not change "shop_es.projection_cursors", which belongs to the event store'),
    ('delete', 'projection "try" must not change "shop_es.projection_definitions", which belongs to the event store'),
    ('insert', 'projection "try" must not change "shop_es.snapshots", which belongs to the event store'),
    ('lock', 'projection "try" must not run LOCK TABLE'),
    ('grant', 'projection "try" must not run GRANT ROLE'),
    ('append', 'projection "try" must not append events'),
    ('append to another', 'projection "try" must not append events'),
    ('schedule', 'projection "try" must not append events'),
    ('drop', 'projection "try" must not change "shop_es.rebuilds", which belongs to the event store'),
    ('temporary', 'projection "try" must not run CREATE TABLE')) w (what, why);
SELECT is(current_user, 'shop_boss', 'the appender is himself');
SELECT is((SELECT count(*) FROM shop_es.events WHERE type NOT IN ('Placed', 'Guarded')), 0::bigint, 'nothing was appended');

-- A SECURITY DEFINER function gives what its owner gave away, and not one right more.
SET ROLE shop_other;
RESET ROLE;
CREATE TABLE public.secrets (n int);
CREATE FUNCTION shop.definer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    ALTER TABLE shop_es.events DISABLE TRIGGER ALL;
END $$;
SET ROLE shop_owner;
SELECT es_create_projection('definer', 'SELECT definer() FROM new_events', '{orders}', types => '{Definer}');
SET ROLE shop_writer;
SELECT throws_ok($$SELECT es_append('Try-1', 'Definer')$$, 'ZE009', NULL, 'refused: in a SECURITY DEFINER function, too');

-- Triggers of a read model that are put off to the commit would run as whoever commits.
SET ROLE shop_owner;
CREATE TABLE late (stream text REFERENCES orders DEFERRABLE INITIALLY DEFERRED);
SELECT es_create_projection('late', 'INSERT INTO late SELECT stream FROM new_events', '{late}', types => '{Late}');
SET ROLE shop_boss;
SELECT throws_ok($$SELECT es_append('Order-1', 'Late')$$, 'ZE009', NULL, 'refused: a deferred constraint');

SELECT * FROM finish();
ROLLBACK;
