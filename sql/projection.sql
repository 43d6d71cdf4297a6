-- Projections: scripts, inline, created over a history, paused and resumed
\set SHOW_CONTEXT never
CREATE SCHEMA shop;
SELECT es_create_store('shop_events');
SET eventsourcing.store = 'shop_events';
SET search_path = shop, public;
CREATE TABLE orders (
    id     text PRIMARY KEY,
    events int NOT NULL,
    cents  bigint NOT NULL CHECK (cents < 1000)
);
CREATE TABLE order_log (position bigint, stream text, version bigint, type text, note text);

-- A script is checked when the projection is created
SELECT es_create_projection('bad', 'INSERT INTO orders SELEC 1', '{orders}');
SELECT es_create_projection('bad', 'INSERT INTO orders (id) SELECT straem FROM new_events', '{orders}');
SELECT es_create_projection('bad', 'INSERT INTO orders SELECT stream, 1, 1 FROM new_events ON CONFLICT (cents) DO NOTHING', '{orders}');
SELECT es_create_projection('bad', 'SELECT 1; COMMIT', '{orders}');
SELECT es_create_projection('bad', 'SET ROLE postgres', '{orders}');
SELECT es_create_projection('bad', 'SELECT * INTO copy FROM new_events', '{orders}');
SELECT es_create_projection('bad', 'COPY orders TO STDOUT', '{orders}');
SELECT es_create_projection('bad', ' ', '{orders}');
SELECT es_create_projection('bad', 'SELECT $1 FROM new_events', '{orders}');
SELECT es_create_projection('bad', 'WITH gone AS (DELETE FROM shop_events.events RETURNING *) SELECT * FROM gone', '{orders}');
SELECT es_create_projection('bad', 'UPDATE shop_events.aggregates SET initial = ''{}''', '{orders}');
SELECT es_create_projection('bad', 'SELECT es_append(stream, type) FROM new_events', '{orders}');
SELECT es_create_projection('bad', 'INSERT INTO order_log (stream) SELECT stream FROM new_events', '{orders}');
SELECT es_create_projection('bad', 'DELETE FROM new_events', '{orders}');

-- and so are the other arguments
CREATE VIEW order_ids AS SELECT id FROM orders;
CREATE TEMP TABLE temporary (id text);
CREATE TABLE parted (id text) PARTITION BY LIST (id);
SELECT es_create_projection('', 'SELECT 1', '{orders}');
SELECT es_create_projection('bad', 'SELECT 1', '{}');
SELECT es_create_projection('bad', 'SELECT 1', '{orders,NULL}');
SELECT es_create_projection('bad', 'SELECT 1', '{order_ids}');
SELECT es_create_projection('bad', 'SELECT 1', '{temporary}');
SELECT es_create_projection('bad', 'SELECT 1', '{parted}');
CREATE TABLE heir () INHERITS (orders);
SELECT es_create_projection('bad', 'SELECT 1', '{orders}');
DROP TABLE heir;
SELECT es_create_projection('bad', 'SELECT 1', '{pg_class}');
SELECT es_create_projection('bad', 'SELECT 1', '{orders,orders}');
SELECT es_create_projection('bad', 'SELECT 1', '{shop_events.events}');
SELECT es_create_projection('bad', 'SELECT 1', '{orders}', mode => 'later');
SELECT es_create_projection('bad', 'SELECT 1', '{orders}', granularity => 'row');
SELECT es_create_projection('bad', 'SELECT 1', '{orders}', types => '{}');
SELECT es_create_projection('bad', NULL, '{orders}');
SELECT es_create_projection('bad', 'SELECT 1', NULL);
SELECT count(*) FROM shop_events.projections;

-- Created over a history, which it takes in; then inline
SELECT es_append('Order-1', 'Placed', '{"cents": 100}');
SELECT es_append_events('Order-2', '[{"type": "Placed", "data": {"cents": 5}}, {"type": "Added", "data": {"cents": 7}}]');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop_events.events'::regclass AND tgname = 'es_project';
SELECT es_create_projection('orders', $$
    INSERT INTO orders AS o (id, events, cents)
    SELECT stream, 1, (data ->> 'cents')::bigint FROM new_events
    ON CONFLICT (id) DO UPDATE SET events = o.events + 1, cents = o.cents + EXCLUDED.cents
$$, '{orders}', types => '{Placed,Added,Removed}');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop_events.events'::regclass AND tgname = 'es_project';
SELECT es_create_projection('orders', 'SELECT 1', '{orders}');
SELECT * FROM orders ORDER BY id;
SELECT es_append('Order-1', 'Added', '{"cents": 11}', expected_version => 1);
SELECT es_append_events('Order-3', '[{"type": "Placed", "data": {"cents": 1}}, {"type": "Noted"},
    {"type": "Added", "data": {"cents": 2}}, {"type": "Added", "data": {"cents": 3}}]');
SELECT es_append('Order-1', 'Noted');
SELECT * FROM orders ORDER BY id;

-- The columns of new_events, and several statements
SELECT es_create_projection('log', $$
    INSERT INTO order_log SELECT position, stream, version, type, data ->> 'note' FROM new_events;
    UPDATE order_log l SET note = 'marked' FROM new_events n
     WHERE l.position = n.position AND n.tags @> '{mark}' AND n.metadata ->> 'by' = 'ada'
       AND n.event_id IS NOT NULL AND n.recorded_at <= clock_timestamp()
       AND (n::es_event).stream = l.stream
$$, '{order_log}', replay => false);
SELECT * FROM order_log;
SELECT es_append('Order-4', 'Noted', '{"note": "a"}');
SELECT es_append('Order-4', 'Noted', '{"note": "b"}', metadata => '{"by": "ada"}', tags => '{x,mark}',
    event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Order-4', 'Noted', '{"note": "b"}', metadata => '{"by": "ada"}', tags => '{x,mark}',
    event_id => '00000000-0000-0000-0000-000000000001');
SELECT stream, version, type, note FROM order_log ORDER BY position;

-- Whatever it does, it fails or succeeds together with the append
SELECT es_append('Order-1', 'Added', '{"cents": 900}');
SELECT es_append_events('Order-3', '[{"type": "Added", "data": {"cents": 2}}, {"type": "Added", "data": {"cents": "much"}}]');
SELECT es_stream_version('Order-1'), es_stream_version('Order-3');
BEGIN;
SELECT es_append('Order-5', 'Placed', '{"cents": 1}');
ROLLBACK;
SELECT * FROM orders ORDER BY id;
SELECT count(*) FROM order_log;

-- A search_path of the caller's does not matter
SET search_path = pg_catalog;
SELECT public.es_append('Order-6', 'Placed', '{"cents": 6}');
SET search_path = shop, public;
SELECT * FROM orders WHERE id = 'Order-6';

-- Within REPEATABLE READ it sees rows that are newer than the snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('Order-6', 'Added', '{"cents": 1}');
SELECT es_append('Order-6', 'Added', '{"cents": 1}');
COMMIT;
SELECT * FROM orders WHERE id = 'Order-6';

-- A projection cannot append behind the check's back
CREATE FUNCTION sneak(stream text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN es_append('Sneaked-' || stream, 'Sneaked');
END $$;
SELECT es_create_projection('sneak', 'SELECT sneak(stream) FROM new_events', '{order_log}', types => '{Sneak}');
SELECT es_append('Order-1', 'Sneak');
SELECT es_drop_projection('sneak');

-- Paused, it leaves appends alone and misses nothing
SELECT es_pause_projection('orders');
SELECT es_pause_projection('orders');
SELECT es_append('Order-7', 'Placed', '{"cents": 70}');
SELECT es_append('Order-7', 'Added', '{"cents": 7}');
SELECT name, mode, granularity, state, lag, last_error FROM shop_events.projections ORDER BY name;
SELECT * FROM orders WHERE id = 'Order-7';
SELECT es_resume_projection('orders');
SELECT es_resume_projection('orders');
SELECT es_append('Order-7', 'Added', '{"cents": 1}');
SELECT * FROM orders WHERE id = 'Order-7';
SELECT name, state, lag FROM shop_events.projections ORDER BY name;

-- in the transaction that appended, too
BEGIN;
SELECT es_append('Order-8', 'Placed', '{"cents": 1}');
SELECT es_pause_projection('orders');
SELECT es_append('Order-8', 'Added', '{"cents": 20}');
SELECT * FROM orders WHERE id = 'Order-8';
SELECT es_resume_projection('orders');
SELECT es_append('Order-8', 'Added', '{"cents": 300}');
COMMIT;
SELECT * FROM orders WHERE id = 'Order-8';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_pause_projection('orders');
SELECT es_resume_projection('orders');
ROLLBACK;

-- Changed from the next event on
SELECT es_alter_projection('orders', script => 'INSERT INTO order_log (note) SELECT stream FROM new_events');
SELECT es_alter_projection('orders', script => 'UPDATE orders SET events = events + 100 FROM new_events WHERE id = stream');
SELECT es_append('Order-8', 'Added', '{"cents": 300}');
SELECT es_alter_projection('orders', types => '{Other}');
SELECT es_append('Order-8', 'Added', '{"cents": 300}');
SELECT es_alter_projection('orders', types => '{}');
SELECT es_append('Order-8', 'Whatever');
SELECT * FROM orders WHERE id = 'Order-8';

-- The table of a projection that is altered or gone
ALTER TABLE orders RENAME COLUMN events TO count;
SELECT es_append('Order-8', 'Added', '{"cents": 1}');
ALTER TABLE orders RENAME COLUMN count TO events;
ALTER TABLE orders ADD COLUMN more int DEFAULT 3;
SELECT es_append('Order-8', 'Added', '{"cents": 1}');
SELECT * FROM orders WHERE id = 'Order-8';
DROP TABLE order_log;
SELECT es_append('Order-8', 'Added', '{"cents": 1}');
SELECT es_drop_projection('log');
SELECT es_append('Order-8', 'Added', '{"cents": 1}');

-- Dropped: the table stays, the trigger goes with the last one
SELECT es_drop_projection('orders');
SELECT es_drop_projection('orders');
SELECT es_pause_projection('orders');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop_events.events'::regclass AND tgname = 'es_project';
SELECT * FROM orders WHERE id = 'Order-8';

-- Rounds: one event of each stream at a time, in order
CREATE TABLE rounds (n int GENERATED ALWAYS AS IDENTITY, events text, streams int);
SELECT es_create_projection('rounds', $$
    INSERT INTO rounds (events, streams)
    SELECT string_agg(stream || '@' || version, ' ' ORDER BY position), count(DISTINCT stream) FROM new_events
$$, '{rounds}', granularity => 'stream', types => '{Placed,Added}');
SELECT events, streams FROM rounds ORDER BY n;
TRUNCATE rounds;
SELECT es_append_events('Round-1', '[{"type": "Added"}, {"type": "Added"}, {"type": "Noted"}]');
SELECT events, streams FROM rounds ORDER BY n;
SELECT es_drop_projection('rounds');
TRUNCATE rounds;
SELECT es_create_projection('rounds', 'INSERT INTO rounds (streams) SELECT count(*) FROM new_events',
    '{rounds}', granularity => 'batch');
SELECT es_append_events('Round-1', '[{"type": "Added"}, {"type": "Added"}, {"type": "Noted"}]');
SELECT streams FROM rounds ORDER BY n LIMIT 1;
SELECT streams FROM rounds ORDER BY n DESC LIMIT 1;

-- Beside triggers of the user's, all fire in the order of their names
CREATE TABLE fired (n int GENERATED ALWAYS AS IDENTITY, who text);
GRANT INSERT ON fired TO PUBLIC;
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fired (who) VALUES (TG_NAME);
    RETURN NULL;
END $$;
SELECT es_drop_projection('rounds');
SELECT es_create_projection('fired', 'INSERT INTO fired (who) SELECT type FROM new_events', '{fired}', replay => false);
SELECT es_append('Fire-1', 'alone');
CREATE TRIGGER a_fire AFTER INSERT ON shop_events.events FOR EACH STATEMENT EXECUTE FUNCTION fire();
CREATE TRIGGER z_fire AFTER INSERT ON shop_events.events FOR EACH STATEMENT EXECUTE FUNCTION fire();
SELECT es_append_events('Fire-1', '[{"type": "between"}, {"type": "and"}]');
DROP TRIGGER a_fire ON shop_events.events;
DROP TRIGGER z_fire ON shop_events.events;
-- the trigger's function is for the events alone
CREATE TABLE shop_events.astray ();
CREATE TRIGGER astray AFTER INSERT ON shop_events.astray REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION es_project();
INSERT INTO shop_events.astray DEFAULT VALUES;
DROP TABLE shop_events.astray;
-- a replica of another server gets its read models from there
SET session_replication_role = replica;
SELECT es_append('Fire-1', 'replica');
RESET session_replication_role;
ALTER TABLE shop_events.events ENABLE REPLICA TRIGGER es_project;
SELECT es_append('Fire-1', 'origin');
ALTER TABLE shop_events.events ENABLE ALWAYS TRIGGER es_project;
SELECT es_append('Fire-1', 'always');
SET session_replication_role = replica;
SELECT es_append('Fire-1', 'always, also');
RESET session_replication_role;
SELECT who FROM fired ORDER BY n;

RESET search_path;
RESET eventsourcing.store;
SELECT es_drop_store('shop_events', confirm => true);
DROP SCHEMA shop CASCADE;
