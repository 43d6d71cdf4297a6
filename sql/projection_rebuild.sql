-- Projections: es_rebuild(), es_verify_projection()
\set SHOW_CONTEXT never
SELECT es_create_store('rebuild_events');
SET eventsourcing.store = 'rebuild_events';
CREATE SCHEMA rebuilt;
SET search_path = rebuilt, public;

-- A table with all that a table can have
CREATE TABLE customers (
    dropped int,
    id      text COLLATE "C" PRIMARY KEY,
    orders  int NOT NULL DEFAULT 0 CHECK (orders >= 0),
    gone    text,
    note    text,
    twice   int GENERATED ALWAYS AS (orders * 2) STORED,
    touched text
) WITH (fillfactor = 50);
ALTER TABLE customers DROP COLUMN dropped, DROP COLUMN gone, ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE INDEX customers_by_orders ON customers (orders DESC) WHERE orders > 1;
CREATE UNIQUE INDEX customers_lower ON customers (lower(id));
CREATE TABLE orders (
    n        int GENERATED ALWAYS AS IDENTITY,
    m        serial,
    customer text NOT NULL REFERENCES customers ON DELETE CASCADE,
    stream   text NOT NULL,
    state    text NOT NULL DEFAULT 'placed',
    CONSTRAINT orders_stream_key UNIQUE (stream),
    EXCLUDE USING btree (m WITH =)
);
CREATE INDEX ON orders (customer);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.touched := 'by trigger';
    RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW big_customers AS SELECT id, orders FROM rebuilt.customers WHERE orders > 1;
CREATE VIEW order_names AS SELECT stream, state FROM orders;
CREATE TABLE letters (customer text REFERENCES customers);
-- a function with statements of its own, which sessions keep plans of
CREATE FUNCTION count_order(customer text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rebuilt.customers c SET orders = c.orders + 1 WHERE c.id = customer;
END $$;

SELECT es_create_projection('shop', $$
    INSERT INTO customers (id, note) SELECT data ->> 'customer', repeat(data ->> 'customer', 2000)
      FROM new_events WHERE type = 'Placed'
    ON CONFLICT ON CONSTRAINT customers_pkey DO NOTHING;
    INSERT INTO orders (customer, stream) SELECT data ->> 'customer', stream FROM new_events WHERE type = 'Placed';
    SELECT count_order(data ->> 'customer') FROM new_events WHERE type = 'Placed';
    UPDATE order_names SET state = 'shipped' FROM new_events n WHERE n.type = 'Shipped' AND order_names.stream = n.stream;
    DELETE FROM customers c USING new_events n WHERE n.type = 'Forgotten' AND c.id = n.data ->> 'customer'
$$, '{customers,orders}');
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        PERFORM es_append('Order-' || i, 'Placed', jsonb_build_object('customer', 'c' || i % 7));
        IF i % 3 = 0 THEN
            PERFORM es_append('Order-' || i, 'Shipped');
        END IF;
    END LOOP;
    PERFORM es_append('Order-100', 'Forgotten', '{"customer": "c5"}');
END $$;
INSERT INTO letters VALUES ('c1');
PREPARE total AS
    SELECT count(*), sum(orders), sum(length(note)), sum(twice), count(touched),
           (SELECT count(*) FROM orders), (SELECT count(*) FROM order_names WHERE state = 'shipped'),
           (SELECT count(*) FROM big_customers) FROM customers;
EXECUTE total;
SELECT * FROM es_verify_projection('shop');

-- Drift, and what mends it
UPDATE customers SET note = NULL, orders = 17 WHERE id = 'c1';
DELETE FROM orders WHERE stream = 'Order-3';
INSERT INTO orders (customer, stream) VALUES ('c2', 'Invented');
SELECT relation, difference, row - 'note' AS row, length(row ->> 'note') AS note FROM es_verify_projection('shop');
SELECT 'customers'::regclass::oid AS customers, pg_relation_filenode('customers') AS file,
       'customers_pkey'::regclass::oid AS index, pg_relation_filenode('customers_pkey') AS index_file \gset
CALL es_rebuild('shop', batch_size => 7);
SELECT 'customers'::regclass = :customers::regclass AS same_table, pg_relation_filenode('customers') <> :file AS other_file,
       'customers_pkey'::regclass = :index::regclass AS same_index, pg_relation_filenode('customers_pkey') <> :index_file AS other_index_file;
EXECUTE total;
SELECT * FROM es_verify_projection('shop');
SELECT count(*) FROM pg_class WHERE relname ~ '^(rebuild|verify)_\d';
SELECT count(*) FROM rebuild_events.progress;
SELECT c.reltoastrelid::regclass::text = 'pg_toast.pg_toast_' || c.oid AS toast FROM pg_class c WHERE oid = 'customers'::regclass;

-- It goes on as before, and again
SELECT es_append('Order-101', 'Placed', '{"customer": "c1"}');
EXECUTE total;
SET enable_seqscan = off;
SELECT id, orders, twice, touched FROM customers WHERE id = 'c1';
SELECT state FROM orders WHERE stream = 'Order-99';
RESET enable_seqscan;
INSERT INTO orders (customer, stream) VALUES ('nobody', 'x');
INSERT INTO orders (customer, stream) VALUES ('c1', 'Order-1');
INSERT INTO letters VALUES ('c5');
CALL es_rebuild('shop');
EXECUTE total;
DROP TABLE letters;

-- A row that others refer to must be there
CREATE TABLE letters (customer text REFERENCES customers);
INSERT INTO letters VALUES ('c1');
SELECT es_alter_projection('shop', types => '{Shipped}', rebuild => true);
SELECT altered FROM rebuild_events.projections;
CALL es_rebuild('shop');
SELECT count(*) FROM pg_class WHERE relname ~ '^(rebuild|verify)_\d';
EXECUTE total;
SELECT altered FROM rebuild_events.projections;
DELETE FROM letters;

-- Altered with a rebuild: first nothing, then all at once
SELECT es_alter_projection('shop', types => '{Placed,Other}', rebuild => true);
SELECT es_append('Order-102', 'Placed', '{"customer": "c5"}');
SELECT es_append('Order-102', 'Shipped');
EXECUTE total;
CALL es_rebuild('shop');
EXECUTE total;
SELECT es_append('Order-101', 'Shipped');
EXECUTE total;
SELECT altered, types FROM rebuild_events.projections;
SELECT * FROM es_verify_projection('shop');

-- What a rebuild must not do
CALL es_rebuild('none');
CALL es_rebuild('shop', 0);
CALL es_rebuild(NULL);
BEGIN;
CALL es_rebuild('shop');
ROLLBACK;
SELECT * FROM es_verify_projection('none');
CREATE TABLE audit (what text);
CREATE FUNCTION audit() RETURNS void LANGUAGE sql AS $$ INSERT INTO rebuilt.audit VALUES ('x') $$;
CREATE FUNCTION wipe() RETURNS void LANGUAGE plpgsql AS $$ BEGIN TRUNCATE rebuilt.customers CASCADE; END $$;
CREATE TABLE nothing (n int);
CREATE TABLE empty (n int);
SELECT es_create_projection('audited', 'SELECT audit() FROM new_events', '{nothing}', types => '{Audited}', mode => 'async');
SELECT es_create_projection('wiped', 'SELECT wipe() FROM new_events', '{empty}', types => '{Audited}', mode => 'async');
SELECT es_append('Audit', 'Audited');
CALL es_run('audited');
CALL es_rebuild('audited');
CALL es_rebuild('wiped');
SELECT * FROM es_verify_projection('audited');
SELECT count(*) FROM audit;
EXECUTE total;
SELECT es_drop_projection('audited');
SELECT es_drop_projection('wiped');
-- a table that two projections write to
SELECT es_create_projection('one', 'INSERT INTO nothing SELECT 1 FROM new_events', '{nothing}', types => '{Audited}');
SELECT es_create_projection('two', 'INSERT INTO nothing SELECT 2 FROM new_events', '{nothing}', types => '{Audited}');
CALL es_rebuild('one');
SELECT * FROM nothing ORDER BY n;
SELECT count(*) FROM pg_class WHERE relname ~ '^(rebuild|verify)_\d';
SELECT es_drop_projection('two');
CALL es_rebuild('one');
SELECT * FROM nothing ORDER BY n;
SELECT es_drop_projection('one');
-- a script that fails half way
SELECT es_alter_projection('shop', rebuild => true, types => '{Shipped,Placed}', script => $$
    INSERT INTO customers (id, orders) SELECT stream, 1 / (version - 1) FROM new_events
$$);
CALL es_rebuild('shop');
EXECUTE total;
SELECT count(*) FROM pg_class WHERE relname ~ '^(rebuild|verify)_\d';
SELECT * FROM rebuild_events.rebuilds;

-- After commit: the cursor goes along; a script that only inserts has its other indexes made late
CREATE TABLE seen (stream text, version bigint, type text);
CREATE INDEX seen_type ON seen (type);
SELECT es_create_projection('seen', 'INSERT INTO seen SELECT stream, version, type FROM new_events', '{seen}',
    mode => 'async', granularity => 'batch', replay => false);
SELECT es_append('Seen', 'Seen');
CALL es_run('seen');
SELECT count(*) FROM seen;
SELECT difference, count(*) FROM es_verify_projection('seen') GROUP BY 1;
CALL es_rebuild('seen', batch_size => 20);
SELECT count(*), count(DISTINCT (stream, version)) FROM seen;
SELECT state, lag FROM rebuild_events.projections WHERE name = 'seen';
SET enable_seqscan = off;
SELECT count(*) FROM seen WHERE type = 'Shipped';
RESET enable_seqscan;
SELECT es_append('Seen', 'Seen');
CALL es_run('seen');
SELECT count(*), count(DISTINCT (stream, version)) FROM seen;
SELECT * FROM es_verify_projection('seen');

-- One that updates its rows is filled without WAL and with room in its pages, and comes out as if written at once
CREATE TABLE counts (
    stream  text PRIMARY KEY,
    before  text REFERENCES counts,
    events  int NOT NULL,
    note    text NOT NULL
) WITH (fillfactor = 90, autovacuum_enabled = false);
ALTER TABLE counts ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE INDEX counts_events ON counts (events);
SELECT es_create_projection('counts', $$
    INSERT INTO counts SELECT stream, CASE WHEN stream <> 'Count-1' THEN 'Count-1' END, 1, repeat('x', 3000) FROM new_events
    ON CONFLICT (stream) DO UPDATE SET events = counts.events + 1
$$, '{counts}', types => '{Counted}', mode => 'async', granularity => 'stream');
SELECT count(es_append_events('Count-' || i, (SELECT jsonb_agg('{"type": "Counted"}'::jsonb) FROM generate_series(1, 20))))
  FROM generate_series(1, 100) i;
CALL es_run('counts');
CALL es_rebuild('counts', batch_size => 500);
SELECT pg_relation_size('counts') AS size, pg_relation_size('counts_pkey') AS index_size,
       pg_relation_size(reltoastrelid) AS toast_size FROM pg_class WHERE oid = 'counts'::regclass \gset
SELECT count(*), sum(events), sum(length(note)) FROM counts;
SELECT c.relpersistence, t.relpersistence AS toast, i.relpersistence AS index, j.relpersistence AS late_index, c.relrewrite,
       t.relrewrite AS toast_rewrite, t.relname = 'pg_toast_' || c.oid AS toast_name, c.reloptions
  FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid JOIN pg_class i ON i.oid = 'counts_pkey'::regclass
  JOIN pg_class j ON j.oid = 'counts_events'::regclass WHERE c.oid = 'counts'::regclass;
VACUUM FULL counts;
SELECT pg_relation_size('counts') = :size AS size, pg_relation_size('counts_pkey') = :index_size AS index_size,
       pg_relation_size(reltoastrelid) = :toast_size AS toast_size FROM pg_class WHERE oid = 'counts'::regclass;
SELECT * FROM es_verify_projection('counts');
ALTER TABLE counts SET UNLOGGED;
CALL es_rebuild('counts');
SELECT relpersistence FROM pg_class WHERE oid = 'counts'::regclass;
SELECT count(*), sum(events), sum(length(note)) FROM counts;
SELECT es_drop_projection('counts');

-- One that failed, or is paused, is brought up to date too
SELECT es_pause_projection('shop');
SELECT es_alter_projection('shop', types => '{Seen}', script => 'INSERT INTO customers (id) SELECT version FROM new_events');
SELECT es_append('Seen', 'Seen');
CALL es_rebuild('shop');
SELECT id FROM customers ORDER BY id;
SELECT state, lag FROM rebuild_events.projections WHERE name = 'shop';
SELECT es_append('Seen', 'Seen');
SELECT es_resume_projection('shop');
SELECT id FROM customers ORDER BY id;
SELECT * FROM es_verify_projection('shop');

-- Names that need quotes
CREATE SCHEMA "Re ""built""";
SET search_path = "Re ""built""", public;
CREATE COLLATION "Own" FROM "C";
CREATE TABLE "Mother's" ("Stream" text COLLATE "Own" PRIMARY KEY, "n""" int CHECK ("n""" > 0), touched text, x text);
CREATE TABLE "Child" (position bigint PRIMARY KEY, stream text REFERENCES "Mother's" ON DELETE CASCADE);
CREATE INDEX "By n" ON "Mother's" ("n""" DESC) WHERE "Stream" <> '';
CREATE TRIGGER touch BEFORE INSERT ON "Mother's" FOR EACH ROW EXECUTE FUNCTION rebuilt.touch();
SELECT es_create_projection('its "name"', $$
    INSERT INTO "Mother's" SELECT stream, 1, NULL, '"column"' FROM new_events
    ON CONFLICT ("Stream") DO UPDATE SET "n""" = "Mother's"."n""" + 1;
    INSERT INTO "Child" SELECT position, stream FROM new_events;
    DELETE FROM "Mother's" USING new_events e WHERE "Stream" = e.stream AND e.type = 'Forgotten'
$$, '{"\"Mother''s\"","\"Child\""}', types => '{Shipped,Placed,Forgotten}');
UPDATE "Mother's" SET "n""" = 99 WHERE "Stream" = 'Order-3';
SELECT * FROM es_verify_projection('its "name"');
CALL es_rebuild('its "name"');
SELECT * FROM es_verify_projection('its "name"');
SELECT count(*), sum("n""") AS n, count(touched) AS touched, (SELECT count(*) FROM "Child") AS children FROM "Mother's";
SET enable_seqscan = off;
SELECT "Stream" FROM "Mother's" WHERE "n""" = 2 AND "Stream" <> '' ORDER BY 1 LIMIT 1;
RESET enable_seqscan;
DROP INDEX "By n";
CREATE INDEX "By n" ON "Mother's" ("n""");
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"By n"'::regclass;
CALL es_rebuild('its "name"');
SELECT es_drop_projection('its "name"');
SET client_min_messages = warning;
DROP SCHEMA "Re ""built""" CASCADE;
RESET client_min_messages;
SET search_path = rebuilt, public;

-- Where and how rows are stored
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_rebuilt LOCATION '';
CREATE TABLE stored (
    stream  text PRIMARY KEY USING INDEX TABLESPACE regress_rebuilt,
    note    text,
    n       int
) WITH (toast.autovacuum_enabled = off, autovacuum_enabled = off);
ALTER TABLE stored ALTER stream SET COMPRESSION pglz, ALTER note SET STORAGE EXTERNAL;
CREATE INDEX stored_n ON stored (n) TABLESPACE regress_rebuilt;
CREATE INDEX stored_note ON stored (md5(note));
SELECT es_create_projection('stored', $$
    INSERT INTO stored SELECT stream, repeat('x', 3000) FROM new_events ON CONFLICT DO NOTHING
$$, '{stored}', types => '{Seen}');
CALL es_rebuild('stored');
SELECT indexname, tablespace FROM pg_indexes WHERE tablename = 'stored' ORDER BY 1;
SELECT max(pg_column_size(note)) AS size, c.reloptions, t.reloptions AS toast
  FROM stored, pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = 'stored'::regclass GROUP BY 2, 3;
SELECT es_drop_projection('stored');
DROP TABLE stored;
DROP TABLESPACE regress_rebuilt;

-- A foreign key from a table that the store's owner may not read
CREATE ROLE regress_rebuild_owner;
CREATE ROLE regress_rebuild_other;
CREATE SCHEMA owned AUTHORIZATION regress_rebuild_owner;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_rebuild_owner', current_database()); END $$;
SET ROLE regress_rebuild_owner;
SELECT es_create_store('rebuild_owned');
SET eventsourcing.store = 'rebuild_owned';
SET search_path = owned, public;
CREATE TABLE seen (stream text PRIMARY KEY);
SELECT es_create_projection('seen', 'INSERT INTO seen SELECT stream FROM new_events ON CONFLICT DO NOTHING', '{seen}');
SELECT es_append('Seen-1', 'Seen');
RESET ROLE;
CREATE TABLE others (stream text, own text REFERENCES seen);
ALTER TABLE others OWNER TO regress_rebuild_other;
INSERT INTO others VALUES ('Seen-1', 'Seen-1');
SET ROLE regress_rebuild_owner;
CALL es_rebuild('seen');
SELECT count(*) FROM pg_class WHERE relname ~ '^(rebuild|verify)_\d';
RESET ROLE;
GRANT SELECT (own) ON others TO regress_rebuild_owner;
SET ROLE regress_rebuild_owner;
CALL es_rebuild('seen');
RESET ROLE;
ALTER TABLE others ENABLE ROW LEVEL SECURITY;
SET ROLE regress_rebuild_owner;
CALL es_rebuild('seen');
SELECT count(*) FROM seen;
RESET ROLE;
SELECT es_drop_store('rebuild_owned', confirm => true);
SET client_min_messages = warning;
DROP SCHEMA owned CASCADE;
RESET client_min_messages;
DROP OWNED BY regress_rebuild_owner;
DROP ROLE regress_rebuild_owner, regress_rebuild_other;
SET eventsourcing.store = 'rebuild_events';
SET search_path = rebuilt, public;

-- A table that was dropped and made again isn't the projection's; this session planned the script before, another didn't
SELECT es_create_projection('inline', 'INSERT INTO nothing SELECT position FROM new_events', '{nothing}', types => '{Nothing}');
SELECT es_append('Nothing', 'Nothing');
BEGIN;
ALTER TABLE seen RENAME TO was;
CREATE TABLE seen (stream text, version bigint, type text);
DROP TABLE nothing;
CREATE TABLE nothing (n int);
COMMIT;
SELECT es_append('Nothing', 'Nothing');
CALL es_run('seen');
SELECT last_error FROM rebuild_events.projections WHERE name = 'seen';
\set VERBOSITY sqlstate
CALL es_rebuild('seen');
SELECT * FROM es_verify_projection('seen');
\set VERBOSITY default
\c -
\set SHOW_CONTEXT never
SET search_path = rebuilt, public;
SET eventsourcing.store = 'rebuild_events';
SELECT es_append('Nothing', 'Nothing');
SELECT count(*) FROM nothing;
SELECT es_drop_projection('inline');
CALL es_run('seen');
SELECT count(*) FROM seen;
-- it gets its table back
DROP TABLE seen;
ALTER TABLE was RENAME TO seen;
CALL es_run('seen');
SELECT * FROM es_verify_projection('seen');
-- dropped for good
DROP TABLE seen;
CREATE TABLE seen (stream text, version bigint, type text);
\set VERBOSITY sqlstate
CALL es_rebuild('seen');
SELECT * FROM es_verify_projection('seen');
\set VERBOSITY default
SELECT * FROM rebuild_events.progress;

RESET search_path;
RESET eventsourcing.store;
SELECT es_drop_store('rebuild_events', confirm => true);
SET client_min_messages = warning;
DROP SCHEMA rebuilt CASCADE;

-- a function that returns rows, whose body the planner could put into the script
CREATE SCHEMA rebuilt;
SET search_path = rebuilt, public;
SELECT es_create_store('rebuild_functions');
SET eventsourcing.store = 'rebuild_functions';
SELECT es_append('A-1', 'X', '{"n": 1}'), es_append('A-1', 'X', '{"n": 2}'), es_append('A-1', 'X', '{"n": 3}');
CREATE TABLE sums (stream text, version bigint, sum bigint);
CREATE FUNCTION sum_before(s text) RETURNS TABLE (sum bigint) LANGUAGE sql STABLE AS
  $$ SELECT sum FROM sums WHERE stream = s ORDER BY version DESC LIMIT 1 $$;
SELECT es_create_projection('sums', tables => '{sums}', script => $$
  INSERT INTO sums SELECT e.stream, e.version, coalesce(b.sum, 0) + (e.data ->> 'n')::bigint
  FROM new_events e LEFT JOIN LATERAL sum_before(e.stream) b ON true $$);
TABLE sums;
SELECT * FROM es_verify_projection('sums');
CALL es_rebuild('sums');
TABLE sums;
RESET search_path;
RESET eventsourcing.store;
SELECT es_drop_store('rebuild_functions', confirm => true);
DROP SCHEMA rebuilt CASCADE;
