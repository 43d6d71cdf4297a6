-- Events from an ordinary table.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT es_create_store('capture');
SET eventsourcing.store = 'capture';
CREATE TABLE customer (id int PRIMARY KEY, name text, email text, "Odd ""Column" numeric, dropped int);
ALTER TABLE customer DROP COLUMN dropped;
INSERT INTO customer VALUES (1, 'Ann', 'ann@example.com', 1.50), (2, 'Bob', NULL, NULL);
SELECT es_capture('customer', 'Customer', 'id');
INSERT INTO customer VALUES (3, 'Cy', 'cy@example.com', 7);
UPDATE customer SET email = 'bob@example.com', "Odd ""Column" = 2 WHERE id = 2;
UPDATE customer SET email = email;
UPDATE customer SET name = NULL WHERE id = 1;
UPDATE customer SET id = 4 WHERE id = 3;
DELETE FROM customer WHERE id = 1;
SELECT position, stream, version, type, data FROM es_read_all() ORDER BY position;
-- Loading a stream gives the row.
SELECT to_jsonb(c) = l.state AS same FROM customer c, es_load('Customer-' || c.id) l ORDER BY c.id;
SELECT state FROM es_load('Customer-1');
-- Upserts, COPY, and a rollback.
INSERT INTO customer VALUES (2, 'Bea') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
COPY customer (id, name) FROM stdin;
10	Dan
11	Eve
\.
BEGIN;
DELETE FROM customer;
SELECT count(*) FROM es_read('Customer-10');
ROLLBACK;
SELECT position, stream, version, type, data FROM es_read_all(9) ORDER BY position;
TRUNCATE customer;
-- The store is the one of the capture, whatever the setting says then.
SELECT es_create_store('capture_other');
SET eventsourcing.store = 'capture_other';
INSERT INTO customer VALUES (20, 'Fay');
SELECT es_head_position();
SET eventsourcing.store = 'capture';
CREATE TABLE captured (stream text);
SELECT es_create_projection('captured', 'INSERT INTO captured SELECT stream FROM new_events', '{captured}', replay => false);
SET eventsourcing.store = 'no_store';
INSERT INTO customer VALUES (21, 'Flo');
SET eventsourcing.store = 'capture';
SELECT * FROM captured;
SELECT es_drop_projection('captured');
SELECT es_stream_version('Customer-20');

-- What cannot be.
SELECT es_capture('customer', 'Customer', 'id');
SELECT es_capture('customer', 'Customer', 'nope');
SELECT es_capture(NULL, 'Customer', 'id');
ALTER TABLE customer DROP CONSTRAINT customer_pkey;
ALTER TABLE customer ALTER id DROP NOT NULL;
INSERT INTO customer VALUES (NULL, 'Nobody');
ALTER TABLE customer RENAME id TO number;
INSERT INTO customer VALUES (30, 'Gus');
ALTER TABLE customer RENAME number TO id;

-- Writers of the table need no rights on the store, and nobody gains any.
CREATE ROLE capture_clerk;
GRANT INSERT ON customer TO capture_clerk;
GRANT CREATE ON SCHEMA public TO capture_clerk;
SET ROLE capture_clerk;
INSERT INTO customer VALUES (40, 'Hal');
CREATE TABLE forgery (id int);
CREATE TRIGGER forge AFTER INSERT ON forgery FOR EACH ROW EXECUTE FUNCTION es_capture_row('capture', 'Customer', 'id');
INSERT INTO forgery VALUES (1);
-- the hint names the role that runs the tests
\set VERBOSITY terse
SELECT es_capture('forgery', 'Customer', 'id');
\set VERBOSITY default
RESET ROLE;
SELECT es_stream_version('Customer-40');

SET ROLE capture_clerk;
SELECT es_uncapture('customer');
RESET ROLE;
SELECT es_uncapture('customer');
SELECT es_uncapture('customer');
INSERT INTO customer VALUES (50, 'Ida');
SELECT es_stream_version('Customer-50');

-- What the database computes is in the events, and what did not change is not,
-- also where it is stored out of line.
CREATE TABLE wide (id int PRIMARY KEY, price numeric, gross numeric GENERATED ALWAYS AS (price * 2) STORED, doc text, tags text[], at date);
ALTER TABLE wide ALTER doc SET STORAGE EXTERNAL;
SELECT es_capture('wide', 'Wide', 'id');
INSERT INTO wide VALUES (1, 1.50, DEFAULT, repeat('x', 100000), '{a,b}', '2026-01-02');
UPDATE wide SET price = 2.50;
UPDATE wide SET doc = repeat('x', 100000);
UPDATE wide SET doc = 'short', tags = NULL;
SELECT version, type, data - 'doc' AS data, length(data->>'doc') AS doc FROM es_read('Wide-1') ORDER BY version;
-- A row that was deleted and comes again is the row, and not deleted.
DELETE FROM wide;
SELECT state->'deleted' AS deleted FROM es_load('Wide-1');
INSERT INTO wide (id, price) VALUES (1, 7);
SELECT to_jsonb(w) = l.state AS same FROM wide w, es_load('Wide-1') l;
-- A trigger that changes the row again comes after.
CREATE FUNCTION capture_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE wide SET at = '2026-02-03' WHERE id = NEW.id AND at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER "1_touch" AFTER INSERT ON wide FOR EACH ROW EXECUTE FUNCTION capture_touch();
INSERT INTO wide (id, price) VALUES (2, 8);
SELECT version, type, data->'at' AS at FROM es_read('Wide-2') ORDER BY version;
-- Bulk loads.
ALTER TABLE wide DISABLE TRIGGER "1_touch";
INSERT INTO wide (id, price) SELECT i, i FROM generate_series(1001, 4000) i;
UPDATE wide SET price = price + 1 WHERE id > 1000;
DELETE FROM wide WHERE id > 2000;
SELECT type, count(*), count(DISTINCT stream) FROM es_read_all(max_count => 100000, category => 'Wide') WHERE stream > 'Wide-1000' GROUP BY type ORDER BY type;
SELECT bool_and(to_jsonb(w) = l.state) AS same, count(*) FROM wide w, es_load('Wide-' || w.id) l;

-- Partitioned tables: rows that move, and TRUNCATE of a part of it.
CREATE TABLE parted (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_east PARTITION OF parted FOR VALUES IN ('east');
CREATE TABLE parted_west (n int, region text NOT NULL, id int NOT NULL);
INSERT INTO parted VALUES (1, 'east', 1);
SELECT es_capture('parted', 'Parted', 'id');
ALTER TABLE parted ATTACH PARTITION parted_west FOR VALUES IN ('west');
INSERT INTO parted VALUES (2, 'west', 2);
UPDATE parted SET region = 'west' WHERE id = 1;
UPDATE parted_west SET n = 3;
SELECT stream, version, type, data FROM es_read_all(category => 'Parted') ORDER BY position;
SELECT to_jsonb(p) = l.state AS same FROM parted p, es_load('Parted-' || p.id) l ORDER BY p.id;
TRUNCATE parted_east;
TRUNCATE parted;
SELECT es_uncapture('parted');
TRUNCATE parted, parted_east;

-- Tables that inherit are others.
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2);
SELECT es_capture('parent', 'Parent', 'id');

-- Where rows would be missed, it refuses.
CREATE TABLE hidden (id int);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_capture('hidden', 'Hidden', 'id');
ROLLBACK;
CREATE ROLE capture_owner;
GRANT CREATE ON SCHEMA public TO capture_owner;
ALTER TABLE hidden OWNER TO capture_owner;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
DO $$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO capture_owner', current_database());
END $$;
SET ROLE capture_owner;
SELECT es_create_store('capture_theirs');
SET eventsourcing.store = 'capture_theirs';
SELECT es_capture('hidden', 'Hidden', 'id');
SELECT es_drop_store('capture_theirs', true);
RESET ROLE;
SET eventsourcing.store = 'capture';
DO $$
BEGIN
    EXECUTE format('REVOKE CREATE ON DATABASE %I FROM capture_owner', current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM capture_owner;
DROP TABLE hidden, child, parent, parted, wide;
DROP ROLE capture_owner;

-- The stream of a row does not depend on the session's settings, nor on whether
-- the row was there before
CREATE TABLE by_day (key date);
CREATE TABLE by_time (key timestamptz);
CREATE TABLE by_flag (key boolean);
CREATE TABLE by_code (key char(4));
CREATE TABLE by_share (key float8);
INSERT INTO by_day VALUES ('2026-02-01');
INSERT INTO by_time VALUES ('2026-02-01 12:00+00');
INSERT INTO by_flag VALUES (true);
INSERT INTO by_code VALUES ('ab');
INSERT INTO by_share VALUES (0.1);
BEGIN;
SET LOCAL datestyle = 'German';
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL extra_float_digits = -5;
SELECT es_capture('by_day', 'Key', 'key'), es_capture('by_time', 'Key', 'key'), es_capture('by_flag', 'Key', 'key'),
       es_capture('by_code', 'Key', 'key'), es_capture('by_share', 'Key', 'key');
COMMIT;
DELETE FROM by_day;
DELETE FROM by_time;
DELETE FROM by_flag;
DELETE FROM by_code;
BEGIN;
SET LOCAL datestyle = 'German';
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL extra_float_digits = -5;
INSERT INTO by_day VALUES ('2026-02-01');
INSERT INTO by_time VALUES ('2026-02-01 12:00+00');
DELETE FROM by_share;
COMMIT;
SELECT stream, array_agg(type ORDER BY version) FROM capture.events WHERE stream LIKE 'Key-%' GROUP BY stream ORDER BY stream;
SELECT es_uncapture('by_flag');
DELETE FROM by_flag;
INSERT INTO by_flag VALUES (NULL);
SELECT es_capture('by_flag', 'Key', 'key');
DROP TABLE by_day, by_time, by_flag, by_code, by_share;

-- columns named like what the import calls the table, one of them a row itself
CREATE TYPE pair AS (t int, key int);
CREATE TABLE aliased (key int PRIMARY KEY, t pair, "table" text);
INSERT INTO aliased VALUES (1, '(2,3)', 'x');
SELECT es_capture('aliased', 'Aliased', 'key');
INSERT INTO aliased VALUES (2, '(2,3)', 'x');
SELECT stream, data FROM es_read_all(category => 'Aliased');
DROP TABLE aliased;
DROP TYPE pair;

-- an event about each event would have no end
SET eventsourcing.store = 'capture';
SELECT es_capture('capture.events', 'Event', 'position');
SELECT es_capture('capture_other.snapshots', 'Snapshot', 'stream');

DROP TABLE customer, forgery;
DROP FUNCTION capture_touch();
SELECT es_drop_store('capture', true), es_drop_store('capture_other', true);
REVOKE CREATE ON SCHEMA public FROM capture_clerk;
DROP ROLE capture_clerk;
