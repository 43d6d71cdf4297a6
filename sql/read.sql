-- Reading: a stream, the store by position, versions, positions, the planner.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT es_create_store();

-- an empty store
SELECT * FROM es_read('Order-1');
SELECT * FROM es_read_all();
SELECT es_stream_version('Order-1'), es_stream_version(''), es_stream_version(NULL), es_head_position(), es_safe_position();
SELECT * FROM es.streams;
SELECT * FROM es.open_appends;

SELECT es_append('Order-1', 'Created', '{"i": 1}', metadata => '{"m": 1}', event_id => '00000000-0000-0000-0000-000000000001', tags => '{a,b}'),
       es_append('Order-2', 'Created', '{"i": 1}', tags => '{b}'),
       es_append_events('Order-1', '[{"type": "Paid", "data": {"i": 2}}, {"type": "Packed", "data": {"i": 3}, "tags": ["a"]},
                                     {"type": "Shipped", "data": {"i": 4}, "tags": ["a", "b", "c"]}]'),
       es_append('Orders-1', 'Listed'),
       es_append('Order', 'Renamed'),
       es_append('Customer-1-x', 'Created', tags => '{}'),
       es_append('Order-1', 'Closed', '{"i": 5}');

-- a stream, whole
SELECT position, stream, version, type, data, metadata, event_id, tags, recorded_at IS NOT NULL AS recorded
  FROM es_read('Order-1');
SELECT position, stream, version, type, data, metadata, event_id, tags
  FROM es_read('Order-1') EXCEPT SELECT position, stream, version, type, data, metadata, event_id, tags FROM es.events;
-- bounds
SELECT version FROM es_read('Order-1', 3);
SELECT version FROM es_read('Order-1', 2, 4);
SELECT version FROM es_read('Order-1', 4, 2);
SELECT version FROM es_read('Order-1', 5, 5);
SELECT version FROM es_read('Order-1', 6);
SELECT version FROM es_read('Order-1', -9223372036854775808, 1);
SELECT version FROM es_read('Order-1', 9223372036854775807);
SELECT version FROM es_read('Order-1', to_version => 0);
SELECT version FROM es_read('Order-1', NULL, NULL, NULL, NULL);
-- how many
SELECT version FROM es_read('Order-1', max_count => 2);
SELECT version FROM es_read('Order-1', max_count => 0);
SELECT version FROM es_read('Order-1', max_count => 9223372036854775807);
SELECT version FROM es_read('Order-1', max_count => -1);
\set VERBOSITY sqlstate
SELECT version FROM es_read('Order-1', max_count => -1);
SELECT version FROM es_read(NULL);
\set VERBOSITY default
SELECT version FROM es_read(NULL);
-- backward
SELECT version FROM es_read('Order-1', backward => true);
SELECT version FROM es_read('Order-1', max_count => 2, backward => true);
SELECT version FROM es_read('Order-1', 2, 4, 2, true);
SELECT version FROM es_read('Order-1', 5, max_count => 3, backward => true);
-- streams that are not there, or have odd names
SELECT version FROM es_read('Order-3');
SELECT version FROM es_read('');
SELECT version FROM es_read(repeat('x', 100000));
SELECT stream FROM es_read('Order');
SELECT stream FROM es_read('Customer-1-x');
-- in a target list, laterally, with ordinality, scrolled
SELECT (es_read('Order-1', 2, 3)).type;
SELECT s.stream, e.version, e.type FROM es.streams s, LATERAL es_read(s.stream, max_count => 2) e ORDER BY 1, 2;
SELECT n, version FROM es_read('Order-1', 4) WITH ORDINALITY r (p, s, version, t, d, m, i, g, at, n);
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT version FROM es_read('Order-1');
FETCH LAST c;
FETCH PRIOR c;
FETCH FIRST c;
ROLLBACK;

-- the store: category
SELECT position, stream, version, type FROM es_read_all();
SELECT position, stream FROM es_read_all(category => 'Order');
SELECT position, stream FROM es_read_all(category => 'Customer');
SELECT position, stream FROM es_read_all(category => 'Order-1');
SELECT position, stream FROM es_read_all(category => '');
-- types: any of them
SELECT position, type FROM es_read_all(types => '{Created}');
SELECT position, type FROM es_read_all(types => '{Closed,Created,Nowhere,NULL}');
SELECT position, type FROM es_read_all(types => '{}');
-- tags: all of them
SELECT position, tags FROM es_read_all(tags => '{b}');
SELECT position, tags FROM es_read_all(tags => '{b,a}');
SELECT position, tags FROM es_read_all(tags => '{a,NULL}');
SELECT count(*) FROM es_read_all(tags => '{}');
-- together
SELECT position, type, tags FROM es_read_all(category => 'Order', types => '{Created,Packed}', tags => '{a}');
SELECT position, type FROM es_read_all(category => 'Order', types => '{Created}');
SELECT position, type FROM es_read_all(category => 'Order', tags => '{b}', max_count => 1);
SELECT position, type FROM es_read_all(types => '{Created}', tags => '{b}', after => 1);
SELECT position FROM es_read_all(2, 3);
SELECT position FROM es_read_all(7);
SELECT position FROM es_read_all(8);
SELECT position FROM es_read_all(-1, 1);
SELECT position FROM es_read_all(9223372036854775807);
SELECT position FROM es_read_all(NULL, NULL, NULL, NULL, NULL);
SELECT position FROM es_read_all(max_count => 0);
SELECT position FROM es_read_all(max_count => -1);

-- versions and positions
SELECT es_stream_version('Order-1'), es_stream_version('Order-3'), es_head_position(), es_safe_position();
SELECT stream, category, version, first_at <= last_at AS times, first_position, last_position FROM es.streams ORDER BY stream;

-- one's own open append holds the safe position, and reading by position, back
BEGIN;
SELECT es_safe_position();
SELECT es_append('Order-3', 'Created');
SELECT es_head_position(), es_safe_position();
SELECT position FROM es_read_all(7);
SELECT version FROM es_read('Order-3');
SAVEPOINT s;
SELECT es_append('Order-3', 'Paid');
ROLLBACK TO s;
SELECT es_head_position(), es_safe_position(), es_stream_version('Order-3');
SELECT holds_at, pid = pg_backend_pid() AS ours, gid, since = now() AS since, role = current_user AS role FROM es.open_appends;
COMMIT;
SELECT es_head_position(), es_safe_position();
SELECT position FROM es_read_all(7);
-- what was rolled back leaves a hole, and no trace
BEGIN;
SAVEPOINT s;
SELECT es_append('Order-4', 'Created');
ROLLBACK TO s;
SELECT es_safe_position();
SELECT * FROM es.open_appends;
COMMIT;
SELECT es_head_position(), es_safe_position(), es_stream_version('Order-4');
-- a prepared one goes on holding
BEGIN;
SELECT es_append('Order-4', 'Created');
PREPARE TRANSACTION 'regress_es_read';
SELECT es_append('Order-5', 'Created');
SELECT es_head_position(), es_safe_position(), count(*) FROM es_read_all(9);
SELECT holds_at, pid, gid, role = current_user AS role FROM es.open_appends;
COMMIT PREPARED 'regress_es_read';
SELECT es_head_position(), es_safe_position(), count(*) FROM es_read_all(9);

-- a statement sees what it saw at its start; reading by position sees what is new
SELECT es_append('Order-6', 'Created'), es_stream_version('Order-6'), (SELECT count(*) FROM es_read('Order-6'));
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM es_read_all(9);
SELECT es_safe_position();
COMMIT;
BEGIN READ ONLY;
SELECT count(*) FROM es_read_all(), es_safe_position();
SELECT count(*) FROM es_read('Order-1'), es_head_position();
COMMIT;

-- the planner's estimates
SELECT count(es_append_events('Page-' || i, (SELECT jsonb_agg('{"type": "Read"}'::jsonb) FROM generate_series(1, 100)))) FROM generate_series(1, 50) i;
CREATE TABLE note (stream text, version bigint, note text);
INSERT INTO note SELECT 'Page-' || i % 50, i % 100, 'x' FROM generate_series(1, 20000) i;
CREATE INDEX ON note (stream, version);
ANALYZE note;
ANALYZE es.events;
CREATE FUNCTION estimate(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    RETURN round((plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric, -1);
END
$$;
SELECT estimate($$SELECT * FROM es_read('Page-1')$$) BETWEEN 50 AND 150 AS whole,
       estimate($$SELECT * FROM es_read('Page-1', max_count => 20)$$) AS at_most_20,
       estimate($$SELECT * FROM es_read('Page-1', 11, 40)$$) AS thirty,
       estimate($$SELECT * FROM es_read('Page-1', 40, 11)$$) AS none,
       estimate($$SELECT * FROM es_replay('Page-1', 11, 40)$$) AS replayed,
       estimate($$SELECT * FROM es_read_all()$$) AS page,
       estimate($$SELECT * FROM es_read_all(max_count => 50)$$) AS short_page,
       estimate($$SELECT * FROM es_read_all(max_count => NULL)$$) BETWEEN 5000 AND 5100 AS everything,
       estimate($$SELECT es_read_all()$$) AS page_in_list;
-- few events: look the notes up; many: hash them
CREATE FUNCTION nested_loop(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'Node Type' = 'Nested Loop';
END
$$;
SELECT nested_loop($$SELECT * FROM es_read('Page-1', max_count => 3) e JOIN note n USING (stream, version)$$) AS few,
       nested_loop($$SELECT * FROM es_read_all(max_count => NULL) e JOIN note n USING (stream, version)$$) AS many;
PREPARE page (text, bigint) AS SELECT count(*) FROM es_read($1, max_count => $2);
EXECUTE page('Page-1', 10);
EXPLAIN (COSTS off) EXECUTE page('Page-1', 10);
DROP TABLE note;
DROP FUNCTION estimate, nested_loop;

-- rows that don't fit into work_mem
SET work_mem = '64kB';
SELECT count(*), min(position) > 0 AS positions, count(DISTINCT stream) FROM es_read_all(max_count => NULL);
SELECT count(*) FROM es_read('Page-7') a JOIN es_read('Page-7', backward => true) b USING (version);
RESET work_mem;
SELECT es_drop_store('es', confirm => true);
