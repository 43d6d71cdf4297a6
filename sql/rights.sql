-- Rights: GRANTs and row security govern, nobody gains any through the store.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_es_owner;
CREATE ROLE regress_es_writer;
CREATE ROLE regress_es_reader;
CREATE ROLE regress_es_consumer;
CREATE ROLE regress_es_nobody;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_es_owner', current_database()); END $$;
CREATE SCHEMA own AUTHORIZATION regress_es_owner;
GRANT USAGE ON SCHEMA own TO PUBLIC;

-- a store of an ordinary role's
\set VERBOSITY sqlstate
SET ROLE regress_es_nobody;
SELECT es_create_store();
\set VERBOSITY default
SET ROLE regress_es_owner;
SELECT es_create_store();
SELECT es_append('Order-1', 'Created', '{"tenant": 1, "price": 3}'), es_append('Order-1', 'Paid', '{"tenant": 1}'),
       es_append('Order-2', 'Created', '{"tenant": 2, "price": 5}');
CREATE FUNCTION own.apply_order(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN state || jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1, 'user', current_user, 'caller', session_user = current_user,
                                       'path', current_setting('search_path'));
END
$$;
REVOKE ALL ON FUNCTION own.apply_order FROM PUBLIC;
SET search_path = own, public;
SELECT es_create_aggregate('Order', 'apply_order(jsonb, es_event)', snapshot_every => 0);
RESET search_path;
-- who may what
SELECT es_grant('regress_es_reader', 'reader'), es_grant('regress_es_writer', 'writer'), es_grant('regress_es_consumer', 'consumer');
SELECT es_grant('regress_es_reader', 'admin');
SELECT es_grant('regress_es_reader', NULL);
SELECT es_grant(NULL, 'reader');
SELECT es_grant('regress_es_nowhere', 'reader');

-- nobody
\set VERBOSITY terse
SET ROLE regress_es_nobody;
SELECT es_append('Order-1', 'Paid');
SELECT es_append_events('Order-1', '[]');
SELECT * FROM es_read('Order-1');
SELECT * FROM es_read_all();
SELECT * FROM es_load('Order-1');
SELECT * FROM es_replay('Order-1');
SELECT es_stream_version('Order-1');
SELECT es_head_position();
SELECT es_safe_position();
SELECT es_fingerprint('Order');
SELECT es_snapshot('Order-1');
SELECT es_grant('regress_es_nobody', 'reader');
SELECT es_create_index('type');
SELECT es_upgrade_store();
SELECT es_drop_store('es');
SELECT es_drop_store('es', true);
SELECT es_create_aggregate('Order', 'own.apply_order(jsonb, es_event)');
SELECT es_drop_aggregate('Order');
SELECT es_drop_snapshots();
SELECT es_install_store('es');
SELECT es_create_store_tables('es');
\set VERBOSITY default
-- a reader
SET ROLE regress_es_reader;
SELECT count(*), es_stream_version('Order-1'), es_head_position(), es_safe_position() FROM es_read('Order-1');
SELECT stream, version FROM es_read_all();
SELECT stream, version FROM es.streams ORDER BY stream;
SELECT * FROM es.open_appends;
SELECT * FROM es_load('Order-1');
SELECT version, state_after ->> 'user' AS by FROM es_replay('Order-1');
SELECT own.apply_order('{}', NULL);
SELECT es_append('Order-1', 'Paid');
SELECT es_append_events('Order-1', '[]');
SELECT es_snapshot('Order-1');
SELECT es_grant('regress_es_nobody', 'reader');
SELECT count(*) FROM es.aggregates;
SELECT count(*) FROM es.snapshots;
SELECT nextval('es.events_position_seq');
DELETE FROM es.events;
-- a writer
SET ROLE regress_es_writer;
SELECT es_append('Order-1', 'Shipped', '{"tenant": 1}', 2), es_append_events('Order-3', '[{"type": "Created", "data": {"tenant": 3}}]', 0);
SELECT * FROM es_load('Order-1');
SELECT es_snapshot('Order-1');
INSERT INTO es.snapshots (stream, version, state, recorded_at, fingerprint) VALUES ('Order-2', 1, '{"forged": true}', now(), '');
UPDATE es.aggregates SET initial = '{"forged": true}';
INSERT INTO es.aggregates VALUES ('Forged');
DELETE FROM es.store;
\set VERBOSITY terse
CREATE TABLE es.mine ();
\set VERBOSITY default
SELECT es_create_aggregate('Order', 'own.apply_order(jsonb, es_event)');
-- the right to INSERT alone makes an appender, of single events, of batches, of known ones, of snapshots
SET ROLE regress_es_owner;
REVOKE SELECT ON es.events FROM regress_es_writer;
SELECT es_create_aggregate('Many', rules => '{"A": {"$inc": {"n": 1}}}', snapshot_every => 2);
SET ROLE regress_es_writer;
SELECT es_append('Many-1', 'A', event_id => '00000000-0000-0000-0000-000000000001'),
       es_append('Many-1', 'A', event_id => '00000000-0000-0000-0000-000000000001'),
       es_append_events('Many-1', '[{"type": "A"}, {"type": "A"}, {"type": "A", "tags": ["a"]}]', 1), es_append_events('Many-1', '[]');
SELECT es_append('Many-1', 'A', expected_version => 1);
SELECT es_append('Many-1', 'B', event_id => '00000000-0000-0000-0000-000000000001');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('Many-1', 'A', expected_version => 4), es_append_events('Many-1', '[{"type": "A"}, {"type": "A"}]', 5);
COMMIT;
SELECT * FROM es_read('Many-1');
SELECT es_stream_version('Many-1');
SELECT * FROM es_load('Many-1');
SET ROLE regress_es_owner;
SELECT * FROM es_load('Many-1');
SELECT stream, version, state FROM es.snapshots ORDER BY stream, version;
GRANT SELECT ON es.events TO regress_es_writer;
-- granted by hand, and taken back
GRANT USAGE ON SCHEMA es TO regress_es_nobody;
GRANT SELECT ON es.events TO regress_es_nobody;
SET ROLE regress_es_nobody;
SELECT version, type FROM es_read('Order-1');
SELECT version FROM es_load('Order-1');
SET ROLE regress_es_owner;
REVOKE SELECT ON es.events FROM regress_es_nobody;
SET ROLE regress_es_nobody;
SELECT version, type FROM es_read('Order-1');
-- a right on some columns is none on the events
SET ROLE regress_es_owner;
GRANT SELECT (stream, version, recorded_at) ON es.events TO regress_es_nobody;
SET ROLE regress_es_nobody;
SELECT es_stream_version('Order-1');
SELECT version, type FROM es_read('Order-1');
SELECT * FROM es_load('Order-1');
RESET ROLE;
REVOKE SELECT (stream, version, recorded_at) ON es.events FROM regress_es_nobody;
REVOKE ALL ON SCHEMA es FROM regress_es_nobody;
-- nor is one on the events without one on the schema
GRANT SELECT, INSERT ON es.events TO regress_es_nobody;
SET ROLE regress_es_nobody;
SELECT es_append('Order-1', 'Paid');
SELECT es_append_events('Order-1', '[{"type": "Paid"}, {"type": "Paid"}]');
SELECT version, type FROM es_read('Order-1');
SELECT version, type FROM es_read_all();
SELECT * FROM es_load('Order-1');
SELECT es_stream_version('Order-1');
RESET ROLE;
REVOKE ALL ON es.events FROM regress_es_nobody;

-- row security: what may be appended and what is seen
SET ROLE regress_es_owner;
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON es.events TO regress_es_reader, regress_es_writer
    USING (data ->> 'tenant' = current_setting('app.tenant', true));
SET app.tenant = '1';
SET ROLE regress_es_writer;
SELECT stream, version FROM es_read_all();
SELECT count(*) FROM es_read('Order-2');
SELECT es_stream_version('Order-2'), es_stream_version('Order-1'), es_head_position();
SELECT stream, version FROM es.streams ORDER BY stream;
SELECT version, state ->> 'n' AS n FROM es_load('Order-2');
SELECT version FROM es_replay('Order-2');
SELECT es_append('Order-1', 'Noted', '{"tenant": "1"}');
SELECT es_append('Order-1', 'Noted', '{"tenant": "2"}');
SELECT es_append('Order-1', 'Noted');
SELECT es_append_events('Order-1', '[{"type": "Noted", "data": {"tenant": "1"}}, {"type": "Noted", "data": {"tenant": "2"}}]');
SELECT es_append_events('Order-1', '[{"type": "Noted", "data": {"tenant": "1"}}, {"type": "Noted", "data": {"tenant": "1"}}]', 4);
-- the version check sees what a policy hides: no second version 1
SELECT es_append('Order-2', 'Noted', '{"tenant": "1"}', 0);
SELECT es_append('Order-2', 'Noted', '{"tenant": "1"}', 1);
SELECT version, type FROM es_read('Order-2');
SELECT version, state ->> 'n' AS n FROM es_load('Order-2');
-- so does the look-up of ids, but it doesn't tell what it saw
SET ROLE regress_es_owner;
SELECT es_append('Order-2', 'Secret', '{"tenant": "2"}', event_id => '00000000-0000-0000-0000-000000000002');
SET ROLE regress_es_writer;
SELECT es_append('Order-2', 'Guess', '{"tenant": "1"}', event_id => '00000000-0000-0000-0000-000000000002');
-- and a fold by another one's view makes no snapshot of it, nor uses one
SET ROLE regress_es_owner;
SELECT es_snapshot('Order-2');
SELECT version, state ->> 'n' AS n FROM es_load('Order-2');
SET ROLE regress_es_writer;
SELECT version, state ->> 'n' AS n FROM es_load('Order-2');
SET app.tenant = '2';
SELECT version, state ->> 'n' AS n FROM es_load('Order-2');
SELECT stream, version FROM es_read_all();
BEGIN;
SET LOCAL row_security = off;
SELECT es_append('Order-2', 'Noted', '{"tenant": "2"}');
ROLLBACK;
BEGIN;
SET LOCAL row_security = off;
SELECT * FROM es_read('Order-2');
ROLLBACK;
-- policies for INSERT alone
SET ROLE regress_es_owner;
DROP POLICY tenant ON es.events;
CREATE POLICY appends ON es.events FOR INSERT TO regress_es_writer WITH CHECK (stream LIKE 'Order-%');
SET ROLE regress_es_writer;
SELECT es_append('Order-4', 'Created', expected_version => 0),
       es_append_events('Order-4', '[{"type": "A"}, {"type": "B"}]', 1),
       es_append('Order-4', 'C', event_id => '00000000-0000-0000-0000-000000000001'),
       es_append('Order-4', 'C', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Customer-1', 'Created');
SELECT count(*) FROM es_read('Order-4');
-- the owner is free, unless forced
SET ROLE regress_es_owner;
SELECT count(*) FROM es_read('Order-4');
ALTER TABLE es.events FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM es_read('Order-4');
SELECT version, state FROM es_load('Order-4');
SELECT es_append('Order-4', 'D');
CREATE POLICY own ON es.events TO regress_es_owner USING (version > 2);
SELECT version, type FROM es_read('Order-4');
SELECT es_append('Order-4', 'D', expected_version => 4), es_stream_version('Order-4');
SELECT es_append('Order-4', 'E', expected_version => 1);
SET ROLE regress_es_writer;
SELECT es_append('Order-4', 'F', expected_version => 5);
SET ROLE regress_es_owner;
ALTER TABLE es.events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE es.events DISABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT version, type FROM es_read('Order-4');
SELECT count(*) AS gaps FROM (SELECT version, row_number() OVER (PARTITION BY stream ORDER BY version) AS n FROM es.events) e WHERE version <> n;

-- code of the owner's runs as the owner, whoever calls, and where it was defined
SELECT version, state ->> 'user' AS "user", state ->> 'caller' AS caller, state ->> 'path' AS path FROM es_load('Order-4');
SELECT current_user = session_user AS back, current_setting('search_path') AS path;
SET ROLE regress_es_owner;
CREATE FUNCTION own.greedy(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE event.data ->> 'do';
    RETURN state || jsonb_build_object('done', event.version);
END
$$;
SELECT es_create_aggregate('Greedy', 'own.greedy(jsonb, es_event)', snapshot_every => 0);
SELECT es_append('Greedy-1', 'A', '{"do": "ALTER ROLE regress_es_owner SUPERUSER"}'),
       es_append('Greedy-2', 'A', '{"do": "SET ROLE regress_es_writer"}'),
       es_append('Greedy-3', 'A', '{"do": "RESET ROLE"}'),
       es_append('Greedy-4', 'A', '{"do": "RESET SESSION AUTHORIZATION"}'),
       es_append('Greedy-5', 'A', '{"do": "CREATE TEMP TABLE t ()"}'),
       es_append('Greedy-6', 'A', '{"do": "SET search_path = nowhere"}'),
       es_append('Greedy-7', 'A', '{"do": "SELECT count(*) FROM pg_authid"}'),
       es_append('Greedy-8', 'A', '{"do": "SET SESSION statement_timeout = 1"}'),
       es_append('Greedy-9', 'A', '{"do": "COMMIT"}');
RESET ROLE;
-- whose wording depends on the version of PostgreSQL
\set VERBOSITY sqlstate
SELECT * FROM es_load('Greedy-1');
\set VERBOSITY default
SELECT * FROM es_load('Greedy-2');
SELECT * FROM es_load('Greedy-3');
SELECT * FROM es_load('Greedy-4');
SELECT * FROM es_load('Greedy-5');
SELECT * FROM es_load('Greedy-6');
SELECT * FROM es_load('Greedy-7');
SELECT * FROM es_load('Greedy-8');
SELECT * FROM es_load('Greedy-9');
SELECT current_setting('search_path') AS path, current_setting('statement_timeout') AS timeout;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_es_owner';

-- what a caller puts in front of the owner's tables, functions and operators
SET ROLE regress_es_owner;
CREATE TABLE own.price (price int);
INSERT INTO own.price VALUES (7);
CREATE FUNCTION own.add_tax(i int) RETURNS int LANGUAGE sql AS 'SELECT i + 1';
CREATE FUNCTION own.priced(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('price', add_tax((SELECT price FROM price)), 'is', event.type = 'A');
END
$$;
SET search_path = pg_temp, own, public;
SELECT es_create_aggregate('Priced', 'priced(jsonb, es_event)', snapshot_every => 0);
RESET search_path;
SELECT es_append('Priced-1', 'A');
RESET ROLE;
CREATE SCHEMA evil AUTHORIZATION regress_es_writer;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SET ROLE regress_es_writer;
CREATE TABLE evil.caught (what text, who name);
GRANT INSERT ON evil.caught TO PUBLIC;
CREATE FUNCTION evil.catch(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO evil.caught VALUES (what, current_user)';
DO $$
DECLARE
    f record;
BEGIN
    FOR f IN VALUES ('unnest(uuid[])', 'SETOF uuid', 'SELECT pg_catalog.unnest($1)'),
                    ('unnest(text[])', 'SETOF text', 'SELECT pg_catalog.unnest($1)'),
                    ('unnest(bigint[])', 'SETOF bigint', 'SELECT pg_catalog.unnest($1)'),
                    ('split_part(text, text, int)', 'text', 'SELECT pg_catalog.split_part($1, $2, $3)'),
                    ('now()', 'timestamptz', 'SELECT pg_catalog.now()'),
                    ('clock_timestamp()', 'timestamptz', 'SELECT pg_catalog.clock_timestamp()'),
                    ('format(text, name)', 'text', 'SELECT pg_catalog.format($1, $2)'),
                    ('quote_ident(name)', 'text', 'SELECT pg_catalog.quote_ident($1::text)'),
                    ('count(bigint)', 'bigint', 'SELECT 0::bigint'),
                    ('es_guard()', 'int', 'SELECT 1'),
                    ('es_current_store()', 'name', 'SELECT ''evil''::name'),
                    ('add_tax(int)', 'int', 'SELECT 666'),
                    ('eq(text, text)', 'boolean', 'SELECT NOT $1 OPERATOR(pg_catalog.=) $2'),
                    ('eq(uuid, uuid)', 'boolean', 'SELECT true'),
                    ('eq(bytea, bytea)', 'boolean', 'SELECT true'),
                    ('ge(bigint, bigint)', 'boolean', 'SELECT true'),
                    ('le(bigint, bigint)', 'boolean', 'SELECT true'),
                    ('gt(bigint, bigint)', 'boolean', 'SELECT true'),
                    ('plus(bigint, bigint)', 'bigint', 'SELECT 7::bigint'),
                    ('contains(text[], text[])', 'boolean', 'SELECT true'),
                    ('cat(jsonb, jsonb)', 'jsonb', 'SELECT ''{}''::jsonb') LOOP
        EXECUTE format('CREATE FUNCTION evil.%s RETURNS %s LANGUAGE sql VOLATILE AS %L',
                       f.column1, f.column2, format('SELECT evil.catch(%L); %s', f.column1, f.column3));
    END LOOP;
    FOR f IN VALUES ('=', 'eq', 'text'), ('=', 'eq', 'uuid'), ('=', 'eq', 'bytea'), ('>=', 'ge', 'bigint'), ('<=', 'le', 'bigint'), ('>', 'gt', 'bigint'),
                    ('+', 'plus', 'bigint'), ('@>', 'contains', 'text[]'), ('||', 'cat', 'jsonb') LOOP
        EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.%s, LEFTARG = %s, RIGHTARG = %3$s)', f.column1, f.column2, f.column3);
    END LOOP;
END
$$;
CREATE TABLE evil.events (LIKE es.events);
CREATE TABLE evil.price (price int);
INSERT INTO evil.price VALUES (666);
CREATE TEMP TABLE price (price int);
INSERT INTO price VALUES (666);
CREATE TEMP TABLE events (LIKE es.events);
SET search_path = pg_temp, evil, public, pg_catalog;
-- the trap works
SELECT 'a' OPERATOR(evil.=) 'a'::text AS a, unnest('{00000000-0000-0000-0000-000000000001}'::uuid[]) AS u;
SELECT count(*) OPERATOR(pg_catalog.>) 0 AS caught FROM evil.caught;
DELETE FROM evil.caught;
-- and nobody steps into it: not the writer, not the owner, not a superuser
SELECT es_append('Priced-1', 'B'), es_append_events('Priced-2', '[{"type": "A", "event_id": "00000000-0000-0000-0000-00000000000a", "tags": ["t"]},
    {"type": "B", "event_id": "00000000-0000-0000-0000-00000000000b"}]', 0),
    es_append_events('Priced-2', '[{"type": "A", "event_id": "00000000-0000-0000-0000-00000000000a"},
    {"type": "B", "event_id": "00000000-0000-0000-0000-00000000000b"}]', 0);
SELECT * FROM es_load('Priced-1');
SELECT version, state_after FROM es_replay('Priced-1');
SELECT stream, version FROM es_read('Priced-1', 2, 2);
SELECT stream, version FROM es_read('Priced-1', backward => true);
SELECT stream, version FROM es_read_all(category => 'Priced', types => '{A}', tags => '{t}');
SELECT es_stream_version('Priced-1'), es_head_position() OPERATOR(pg_catalog.>=) es_safe_position() AS settled, es_snapshot('Priced-1');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append_events('Priced-2', '[{"type": "A", "event_id": "00000000-0000-0000-0000-00000000000c"}, {"type": "B"}]', 2);
SELECT stream, version FROM es_read_all(category => 'Priced', types => '{A}', tags => '{t}');
COMMIT;
SELECT stream, version FROM es.streams WHERE stream OPERATOR(pg_catalog.=) 'Priced-2';
-- the path of the definition, but for where temporary objects come
SET search_path = own, public;
SELECT es_append('Priced-9', 'A');
SELECT state FROM es_load('Priced-9');
SET SESSION AUTHORIZATION DEFAULT;
SET search_path = pg_temp, evil, public, pg_catalog;
SELECT es_append('Priced-1', 'C', '{}', 2, NULL, '00000000-0000-0000-0000-00000000000d'),
       es_append('Priced-1', 'C', '{}', 2, NULL, '00000000-0000-0000-0000-00000000000d');
SELECT * FROM es_load('Priced-1');
SELECT * FROM es_load('Priced-1', 1);
SELECT stream, version FROM es_read_all(category => 'Priced', types => '{A}', tags => '{t}');
SELECT es_grant('regress_es_reader', 'reader'), es_create_index('category'), es_upgrade_store();
SELECT es_create_store('second'), es_drop_store('second', true);
SELECT es_create_aggregate('Other', 'own.priced(jsonb, es_event)');
SELECT es_alter_aggregate('Other', 3), es_drop_aggregate('Other');
SET ROLE regress_es_owner;
SELECT es_drop_snapshots('Priced') OPERATOR(pg_catalog.>) 0 AS dropped, es_snapshot('Priced-2');
RESET ROLE;
RESET search_path;
SELECT what, who FROM evil.caught ORDER BY what, who;
DROP TABLE pg_temp.price, pg_temp.events;
DROP SCHEMA evil CASCADE;

-- a role that got the store, or lost the right to its own function
SET ROLE regress_es_owner;
REVOKE ALL ON FUNCTION own.greedy FROM PUBLIC, regress_es_owner;
RESET ROLE;
SELECT * FROM es_load('Greedy-6');
REASSIGN OWNED BY regress_es_owner TO regress_es_consumer;
SELECT version, state ->> 'user' AS "user" FROM es_load('Order-4');
SET ROLE regress_es_owner;
SELECT es_append('Order-4', 'G');
SELECT es_create_aggregate('Order', 'own.apply_order(jsonb, es_event)');
SET ROLE regress_es_consumer;
SELECT es_append('Order-4', 'G', expected_version => 6);
SELECT es_drop_store('es', true);
RESET ROLE;
DROP SCHEMA own CASCADE;
DROP OWNED BY regress_es_owner, regress_es_writer, regress_es_reader, regress_es_consumer, regress_es_nobody;
DROP ROLE regress_es_owner, regress_es_writer, regress_es_reader, regress_es_consumer, regress_es_nobody;
