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
SELECT es_capture('forgery', 'Customer', 'id');
RESET ROLE;
SELECT es_stream_version('Customer-40');

SELECT es_uncapture('customer');
SELECT es_uncapture('customer');
INSERT INTO customer VALUES (50, 'Ida');
SELECT es_stream_version('Customer-50');
DROP TABLE customer, forgery;
SELECT es_drop_store('capture', true), es_drop_store('capture_other', true);
REVOKE CREATE ON SCHEMA public FROM capture_clerk;
DROP ROLE capture_clerk;
