-- The log is append-only, for everybody and whatever the command.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT es_create_store();
SELECT es_append('Order-1', 'Created'), es_append('Order-1', 'Paid');
CREATE ROLE regress_es_writer;
CREATE ROLE regress_es_owner;
SELECT es_grant('regress_es_writer', 'writer');

-- a superuser, who is the owner too
INSERT INTO es.events VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
UPDATE es.events SET data = '{"forged": true}';
UPDATE es.events SET data = '{"forged": true}' WHERE false;
DELETE FROM es.events;
DELETE FROM es.events WHERE stream = 'nowhere';
DELETE FROM ONLY es.events;
TRUNCATE es.events;
TRUNCATE es.events, es.snapshots CASCADE;
COPY es.events FROM stdin;
100	3	2026-01-01	Order-1	Forged	{}	\N	\N	\N
\.
MERGE INTO es.events e USING (VALUES ('Order-1', 3)) v (stream, version) ON e.stream = v.stream AND e.version = v.version
    WHEN NOT MATCHED THEN INSERT VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
MERGE INTO es.events e USING (VALUES ('Order-1', 2)) v (stream, version) ON e.stream = v.stream AND e.version = v.version
    WHEN MATCHED THEN UPDATE SET type = 'Forged';
MERGE INTO es.events e USING (VALUES ('Order-1', 2)) v (stream, version) ON e.stream = v.stream AND e.version = v.version
    WHEN MATCHED THEN DELETE;
INSERT INTO es.events SELECT * FROM es.events WHERE false;
INSERT INTO es.events VALUES (100, 1, now(), 'Order-1', 'Forged', '{}') ON CONFLICT DO NOTHING;
INSERT INTO es.events VALUES (100, 1, now(), 'Order-1', 'Forged', '{}')
    ON CONFLICT (stream, version) DO UPDATE SET type = EXCLUDED.type;
WITH gone AS (DELETE FROM es.events RETURNING *) SELECT count(*) FROM gone;
CREATE VIEW events_view AS SELECT * FROM es.events;
DELETE FROM events_view;
INSERT INTO events_view VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
DROP VIEW events_view;
\set VERBOSITY sqlstate
INSERT INTO es.events VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
UPDATE es.events SET data = '{}';
DELETE FROM es.events;
TRUNCATE es.events;
\set VERBOSITY default

-- a role with every right on the table, and one with a writer's
GRANT ALL ON es.events TO regress_es_owner;
GRANT USAGE ON SCHEMA es TO regress_es_owner;
SET ROLE regress_es_owner;
INSERT INTO es.events VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
UPDATE es.events SET data = '{}';
DELETE FROM es.events;
TRUNCATE es.events;
SELECT es_append('Order-1', 'Packed', expected_version => 2);
SET ROLE regress_es_writer;
INSERT INTO es.events VALUES (100, 3, now(), 'Order-1', 'Forged', '{}');
UPDATE es.events SET data = '{}';
DELETE FROM es.events;
TRUNCATE es.events;
SELECT nextval('es.events_position_seq');
SELECT setval('es.events_position_seq', 1);
SELECT es_append('Order-1', 'Shipped', expected_version => 3);
RESET ROLE;

-- the door is shut again after an append, after one that failed, and in its triggers
SELECT es_append('Order-1', 'Delivered');
INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
SELECT es_append('Order-1', 'Delivered', expected_version => 1);
INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
    END IF;
    RETURN new;
END
$$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
-- named to fire before the guard and after it
CREATE TRIGGER a_refuse BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION refuse();
BEGIN;
SAVEPOINT s;
SELECT es_append('Order-1', 'Refused');
ROLLBACK TO s;
ALTER TABLE es.events DISABLE TRIGGER a_refuse;
INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT s;
SELECT es_append('Order-1', 'Refused');
ROLLBACK TO s;
ALTER TABLE es.events DISABLE TRIGGER a_refuse;
INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
ROLLBACK;
DROP TRIGGER a_refuse ON es.events;
CREATE TRIGGER a_forge BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION forge();
SELECT es_append('Order-2', 'Created');
DROP TRIGGER a_forge ON es.events;
CREATE TRIGGER z_forge BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION forge();
SELECT es_append('Order-2', 'Created');
DROP TRIGGER z_forge ON es.events;
CREATE TRIGGER forge BEFORE INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION forge();
SELECT es_append('Order-2', 'Created');
DROP TRIGGER forge ON es.events;
CREATE TRIGGER forge AFTER INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION forge();
SELECT es_append('Order-2', 'Created');
SELECT es_append_events('Order-2', '[{"type": "Created"}, {"type": "Paid"}]');
DROP TRIGGER forge ON es.events;
-- a policy in the way
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON es.events TO regress_es_writer USING (false) WITH CHECK (false);
SET ROLE regress_es_writer;
SELECT es_append('Order-2', 'Created');
INSERT INTO es.events VALUES (100, 6, now(), 'Order-1', 'Forged', '{}');
RESET ROLE;
DROP POLICY none ON es.events;
ALTER TABLE es.events DISABLE ROW LEVEL SECURITY;
-- an INSERT elsewhere is nobody's business, even by a trigger ahead of the guard
CREATE TABLE noted (note text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO noted VALUES (TG_WHEN || ' ' || TG_LEVEL);
    RETURN new;
END
$$;
CREATE TRIGGER a_note BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION note();
SELECT es_append_events('Order-2', '[{"type": "Created"}, {"type": "Paid"}, {"type": "Packed"}]', 0);
SELECT note FROM noted ORDER BY note;
DROP TRIGGER a_note ON es.events;
DROP TRIGGER note ON es.events;
DROP TABLE noted;
DROP FUNCTION note, forge, refuse;
-- the guard elsewhere, and as a plain function
SELECT es_guard();
CREATE TABLE other (i int);
CREATE TRIGGER guard BEFORE INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION es_guard();
INSERT INTO other VALUES (1);
DROP TABLE other;

-- a restore and a logical subscriber can load rows, and change none
SET session_replication_role = replica;
INSERT INTO es.events VALUES (nextval('es.events_position_seq'), 1, now(), 'Loaded-1', 'Created', '{}');
COPY es.events FROM stdin;
1000	2	2026-01-01	Loaded-1	Paid	{}	\N	\N	\N
\.
UPDATE es.events SET type = 'Forged';
DELETE FROM es.events;
TRUNCATE es.events;
RESET session_replication_role;
INSERT INTO es.events VALUES (1001, 3, now(), 'Loaded-1', 'Forged', '{}');
SELECT stream, version, type FROM es.events ORDER BY stream, version;

-- the owner can take the guard away, and put it back
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
BEGIN;
DELETE FROM es.events WHERE stream = 'Loaded-1';
ROLLBACK;
SELECT es_upgrade_store();
DELETE FROM es.events WHERE stream = 'Loaded-1';
SELECT es_drop_store('es', confirm => true);
DROP ROLE regress_es_writer, regress_es_owner;
