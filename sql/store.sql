-- Stores: creating, granting, indexing, upgrading, renaming, dropping them.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
\set SHOW_CONTEXT never

-- without a store
SELECT es_append('Order-1', 'OrderCreated');
SELECT * FROM es_read('Order-1');
SELECT es_grant('pg_monitor', 'reader');
-- what could not be created either is not what the hint proposes
SET eventsourcing.store = '';
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_grant('pg_monitor', 'reader');
SET eventsourcing.store = 'pg_store';
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_grant('pg_monitor', 'reader');
RESET eventsourcing.store;
SELECT es_create_index('type');
SELECT es_upgrade_store();
SELECT es_drop_store('es');
SELECT es_upgrade_store(NULL);
SELECT es_drop_store(NULL, true);

-- a schema that is there, but is no store
CREATE SCHEMA es;
SELECT es_stream_version('Order-1');
SELECT es_drop_store('es', confirm => true);

-- is made one
SELECT es_create_store();
SELECT es_create_store();
SELECT es_append('Order-1', 'OrderCreated');
SELECT n.nspname, c.relname, c.relkind
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'es' AND c.relname IN ('events', 'streams', 'aggregates', 'open_appends', 'store')
 ORDER BY c.relname;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'es' AND tablename = 'events' ORDER BY indexname;

-- nothing of a store belongs to the extension
SELECT count(*) FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   AND d.classid = 'pg_class'::regclass
   AND d.objid IN (SELECT oid FROM pg_class WHERE relnamespace = 'es'::regnamespace);

-- names
SELECT es_create_store(NULL);
SELECT es_create_store('');
SELECT es_create_store('pg_store');
SELECT es_create_store('Odd "name''s", {es} %s %1$I');
SET eventsourcing.store = 'Odd "name''s", {es} %s %1$I';
SELECT es_append('Order-1', 'OrderCreated', expected_version => 0);
SELECT es_grant('pg_monitor', 'writer'), es_create_index('category'), es_create_index('type'), es_create_index('tags');
SELECT stream, category, version FROM "Odd ""name's"", {es} %s %1$I".streams;
SELECT version, type FROM es_read('Order-1');
SELECT position, stream FROM es_read_all();
BEGIN;
SELECT es_append('Order-1', 'OrderPaid');
SELECT holds_at, pid = pg_backend_pid() AS ours FROM "Odd ""name's"", {es} %s %1$I".open_appends;
COMMIT;
SELECT es_upgrade_store('Odd "name''s", {es} %s %1$I');
SELECT es_drop_store('Odd "name''s", {es} %s %1$I', confirm => true);
SELECT es_append('Order-1', 'OrderCreated');

-- a name that is too long is cut, for the setting as for a schema
SELECT es_create_store(repeat('n', 61) || U&'\00e4\00e4');
DO $$ BEGIN PERFORM set_config('eventsourcing.store', repeat('n', 61) || U&'\00e4\00e4', false); END $$;
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_current_store() = repeat('n', 61) || U&'\00e4' AS cut;
SELECT es_drop_store(es_current_store(), confirm => true);

-- junk in the setting
SET eventsourcing.store = '';
SELECT es_append('Order-1', 'OrderCreated');
SET eventsourcing.store = 'es.events; DROP TABLE es.events';
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_create_index('type');
SET eventsourcing.store = 'pg_catalog';
SELECT * FROM es_read('Order-1');
EXPLAIN (COSTS off) SELECT * FROM es_read('Order-1');
RESET eventsourcing.store;
SET eventsourcing.stroe = 'es';

-- two stores don't see each other
SELECT es_create_store('other');
BEGIN;
SET LOCAL eventsourcing.store = 'other';
SELECT es_append('Order-1', 'ElsewhereCreated', expected_version => 0, event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Order-1', 'ElsewhereChanged');
SELECT es_stream_version('Order-1'), es_head_position(), es_safe_position();
SET LOCAL eventsourcing.store = 'es';
SELECT es_stream_version('Order-1'), es_head_position(), es_safe_position();
SELECT es_append('Order-1', 'OrderPaid', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_safe_position();
COMMIT;
SELECT position, stream, version, type FROM es.events ORDER BY position;
SELECT position, stream, version, type FROM other.events ORDER BY position;

-- a function with a store of its own
CREATE FUNCTION other_version(stream text) RETURNS bigint LANGUAGE sql
    SET eventsourcing.store = 'other' RETURN es_stream_version(stream);
SELECT other_version('Order-1'), es_stream_version('Order-1');
DROP FUNCTION other_version;

-- renamed, replaced, swapped
ALTER SCHEMA other RENAME TO another;
SET eventsourcing.store = 'other';
SELECT es_stream_version('Order-1');
SET eventsourcing.store = 'another';
SELECT es_stream_version('Order-1'), es_append('Order-1', 'ElsewhereChanged', expected_version => 2);
ALTER SCHEMA another RENAME TO swap;
ALTER SCHEMA es RENAME TO another;
ALTER SCHEMA swap RENAME TO es;
SELECT type FROM es_read('Order-1');
SET eventsourcing.store = 'es';
SELECT type FROM es_read('Order-1');
SELECT es_drop_store('another', confirm => true);

-- dropped and made anew under an open mind
SELECT es_drop_store('es');
SELECT es_drop_store('es', confirm => NULL);
SELECT es_drop_store('es', true);
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_create_store('es');
SELECT es_stream_version('Order-1'), es_append('Order-1', 'OrderCreated', expected_version => 0), es_head_position();
BEGIN;
SELECT es_drop_store('es', true);
SELECT es_append('Order-1', 'OrderCreated');
ROLLBACK;
BEGIN;
SELECT es_drop_store('es', true);
SELECT es_create_store('es');
SELECT es_append('Order-9', 'OrderCreated', expected_version => 0);
ROLLBACK;
SELECT es_append('Order-1', 'OrderPaid', expected_version => 1);
SELECT es_stream_version('Order-9');

-- tables that are not what they should be: an error, and no worse
BEGIN;
DROP VIEW es.outbox;
ALTER TABLE es.events ALTER data TYPE text;
SELECT es_append('Order-1', 'OrderPaid');
ROLLBACK;
BEGIN;
ALTER TABLE es.events ALTER version DROP NOT NULL;
SELECT * FROM es_read('Order-1');
ROLLBACK;
BEGIN;
ALTER TABLE es.events RENAME position TO place;
SELECT * FROM es_read_all();
ROLLBACK;
BEGIN;
ALTER TABLE es.aggregates ALTER initial TYPE text;
SELECT es_load('Order-1');
ROLLBACK;
BEGIN;
ALTER TABLE es.events ADD COLUMN note text;
SELECT es_append('Order-1', 'OrderPaid', expected_version => 2);
SELECT type FROM es_read('Order-1');
ROLLBACK;
BEGIN;
UPDATE es.store SET layout = 99;
ALTER TABLE es.events SET (fillfactor = 100);
SELECT es_append('Order-1', 'OrderPaid');
ROLLBACK;
BEGIN;
UPDATE es.store SET layout = 0;
ALTER TABLE es.events SET (fillfactor = 100);
SELECT es_append('Order-1', 'OrderPaid');
ROLLBACK;
BEGIN;
ALTER SEQUENCE es.events_position_seq RENAME TO gone;
CREATE TABLE es.events_position_seq (last_value bigint);
SELECT es_safe_position();
ROLLBACK;

-- hand-made tables in place of a store's, by somebody who may create a schema
CREATE ROLE regress_es_evil;
CREATE SCHEMA evil AUTHORIZATION regress_es_evil;
SET ROLE regress_es_evil;
SET eventsourcing.store = 'evil';
CREATE VIEW evil.store AS SELECT 1 AS layout;
CREATE VIEW evil.events AS SELECT 1 AS position;
CREATE SEQUENCE evil.events_position_seq;
CREATE TABLE evil.aggregates (category int, apply int, initial int);
SELECT es_append('Order-1', 'OrderCreated');
SELECT es_drop_store('evil');
DROP VIEW evil.store;
CREATE TABLE evil.store (layout int NOT NULL);
INSERT INTO evil.store VALUES (1);
SELECT es_append('Order-1', 'OrderCreated');
DROP VIEW evil.events;
CREATE TABLE evil.events (position int8 NOT NULL, version int8 NOT NULL, recorded_at int NOT NULL,
    stream int NOT NULL, type int NOT NULL, data int NOT NULL, metadata int, event_id int, tags int);
INSERT INTO evil.events VALUES (1, 1, 1, 1, 1, 1, 1, 1, 1);
SELECT * FROM es_read_all();
SELECT es_load('Order-1');
RESET ROLE;
RESET eventsourcing.store;
DROP SCHEMA evil CASCADE;
DROP ROLE regress_es_evil;

-- indexes for who reads by rare things
SELECT es_create_index(NULL);
SELECT es_create_index('stream');
-- one that was built CONCURRENTLY and failed
SELECT es_append('Order-0', 'OrderCreated'), es_append('Order-0', 'OrderCreated');
CREATE UNIQUE INDEX CONCURRENTLY events_type_position_idx ON es.events (type);
SELECT es_create_index('type');
DROP INDEX es.events_type_position_idx;
SELECT es_create_index('category'), es_create_index('type'), es_create_index('tags'), es_create_index('streams');
SELECT es_create_index('category'), es_create_index('type'), es_create_index('tags'), es_create_index('streams');
SELECT indexdef FROM pg_indexes
 WHERE schemaname = 'es' AND indexname IN ('events_category_position_idx', 'events_type_position_idx', 'events_tags_idx', 'events_first_idx')
 ORDER BY indexname;
SELECT count(es_append('Order-' || i, 'OrderCreated', tags => '{common}')) FROM generate_series(1, 5000) i;
SELECT es_append('Rare-1', 'RareHappened', tags => '{common,rare}');
ANALYZE es.events;
-- the queries of es_read_all()
EXPLAIN (COSTS off) SELECT * FROM es.events WHERE position > 0 AND position <= 9999 ORDER BY position LIMIT 1000;
EXPLAIN (COSTS off) SELECT * FROM es.events WHERE position > 0 AND position <= 9999
    AND split_part(stream, '-', 1) = 'Rare' ORDER BY position LIMIT 1000;
EXPLAIN (COSTS off) SELECT * FROM es.events WHERE position > 0 AND position <= 9999
    AND type = ANY ('{RareHappened}') ORDER BY position LIMIT 1000;
EXPLAIN (COSTS off) SELECT * FROM es.events WHERE position > 0 AND position <= 9999
    AND tags @> '{rare}' ORDER BY position LIMIT 1000;
SELECT stream, type, tags FROM es_read_all(category => 'Rare');
SELECT stream, type, tags FROM es_read_all(types => '{RareHappened}');
SELECT stream, type, tags FROM es_read_all(tags => '{rare}');
-- a session goes on using them, however often it asks, and for frequent values the positions
CREATE VIEW scans AS SELECT relname, pg_stat_get_xact_numscans(oid) AS scans FROM pg_class
 WHERE relnamespace = 'es'::regnamespace
   AND relname IN ('events_category_position_idx', 'events_type_position_idx', 'events_tags_idx');
BEGIN;
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT * FROM scans;
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, category => 'Rare');
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, types => '{RareHappened}');
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, tags => '{rare}');
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, 1, category => 'Order');
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, 1, types => '{OrderCreated}');
SELECT count(*) FROM generate_series(1, 10) i, LATERAL es_read_all(i, 1, tags => '{common}');
SELECT relname, s.scans - b.scans AS scans FROM scans s JOIN before b USING (relname) ORDER BY relname;
COMMIT;
DROP VIEW scans;
-- a page of the list of streams, and one stream by its name, are index probes
EXPLAIN (COSTS off) SELECT * FROM es.streams WHERE stream = 'Order-77';
EXPLAIN (COSTS off) SELECT * FROM es.streams WHERE stream > 'Order-77' ORDER BY stream LIMIT 10;
DROP INDEX es.events_first_idx;
EXPLAIN (COSTS off) SELECT * FROM es.streams WHERE stream > 'Order-77' ORDER BY stream LIMIT 10;

-- what DROP EXTENSION takes, and es_upgrade_store() brings back
\set VERBOSITY terse
DROP EXTENSION eventsourcing;
\set VERBOSITY default
DROP EXTENSION eventsourcing CASCADE;
SELECT count(*) FROM es.events;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'es.events'::regclass AND NOT tgisinternal ORDER BY 1;
CREATE EXTENSION eventsourcing;
SELECT es_append('Order-1', 'OrderPaid');
SELECT es_upgrade_store();
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'es.events'::regclass AND NOT tgisinternal
    AND tgname LIKE 'es\_guard%' ORDER BY 1;
SELECT es_append('Order-1', 'OrderPaid', expected_version => 4);
DELETE FROM es.events;
-- also where they were merely disabled
ALTER TABLE es.events DISABLE TRIGGER USER;
SELECT es_upgrade_store();
DELETE FROM es.events;

-- an extension in another schema, with an odd name
DROP EXTENSION eventsourcing CASCADE;
CREATE SCHEMA "Ext ""1";
CREATE SCHEMA "Ext 1";
CREATE EXTENSION eventsourcing SCHEMA "Ext ""1";
CREATE EXTENSION eventsourcing SCHEMA "Ext 1";
SELECT "Ext 1".es_upgrade_store();
SELECT "Ext 1".es_append('Order-1', 'OrderPaid', expected_version => 5);
SELECT version, type FROM "Ext 1".es_read('Order-1', from_version => 6);
CREATE FUNCTION apply_order(state jsonb, event "Ext 1".es_event) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_set(state, '{version}', to_jsonb(event.version)) $$;
SELECT "Ext 1".es_create_aggregate('Order', 'apply_order(jsonb, "Ext 1".es_event)');
SELECT * FROM "Ext 1".es_load('Order-1');
SELECT version, state_before, state_after FROM "Ext 1".es_replay('Order-1', 5);
TRUNCATE es.events;
ALTER EXTENSION eventsourcing SET SCHEMA public;
-- a store can be made in the extension's schema, but doesn't take the extension with it
SELECT "Ext 1".es_create_store('Ext 1');
SELECT "Ext 1".es_drop_store('Ext 1', true);
DROP EXTENSION eventsourcing CASCADE;
DROP SCHEMA "Ext ""1", "Ext 1" CASCADE;
CREATE EXTENSION eventsourcing;
SELECT es_upgrade_store();
SELECT es_drop_store('es', true);
