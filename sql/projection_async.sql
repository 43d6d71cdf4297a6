-- Projections after commit: es_run(), es_wait(), failures
\set SHOW_CONTEXT never
SELECT es_create_store('async_events');
SET eventsourcing.store = 'async_events';
CREATE TABLE async_totals (stream text PRIMARY KEY, events int, amount bigint);
SELECT es_append('A-1', 'Counted', '{"n": 1}');
SELECT es_append('A-2', 'Counted', '{"n": 20}');
SELECT es_create_projection('totals', $$
    INSERT INTO async_totals AS t SELECT stream, 1, (data ->> 'n')::bigint FROM new_events
    ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount
$$, '{async_totals}', types => '{Counted}', mode => 'async');
SELECT name, mode, state, position, lag, events FROM async_events.projections;
SELECT * FROM async_totals ORDER BY stream;
CALL es_run('totals');
SELECT name, mode, state, position, lag, events FROM async_events.projections;
SELECT * FROM async_totals ORDER BY stream;
CALL es_run();
CALL es_run('none');
SELECT es_append('A-1', 'Counted', '{"n": 300}');
SELECT es_append('A-1', 'Other', '{"n": 300}');
SELECT state, lag, lag_time IS NOT NULL AS lags FROM async_events.projections;

-- What it has not got to yet
CALL es_wait('totals', timeout => '10 milliseconds');
CALL es_wait('totals', 2);
CALL es_wait('none', 2);
CALL es_wait(NULL);
CALL es_wait('totals', 2, '-1 second');
CALL es_wait('totals', 2, NULL);
-- nor does an append to another store count
SELECT es_create_store('async_other');
SET eventsourcing.store = 'async_other';
SELECT es_append('A-1', 'Counted');
SET eventsourcing.store = 'async_events';
CALL es_wait('totals', timeout => '0 seconds');
SELECT es_drop_store('async_other', confirm => true);
-- where nothing can get to yet
CALL es_wait('totals', 1000000, '0 seconds');
BEGIN;
SELECT es_append('A-9', 'Other');
CALL es_wait('totals', timeout => '0 seconds');
ROLLBACK;
CALL es_run();
CALL es_wait('totals');
SELECT * FROM async_totals ORDER BY stream;
SELECT state, lag, events FROM async_events.projections;

-- es_run() commits, so not here
BEGIN;
CALL es_run();
ROLLBACK;
CREATE FUNCTION run_it() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL es_run(); END';
SELECT run_it();
DROP FUNCTION run_it;
DO $$ BEGIN CALL es_run(); END $$;

-- nor can it see what is not committed; the session's default isolation is no matter
SET default_transaction_isolation = 'repeatable read';
SELECT es_append('A-3', 'Counted', '{"n": 1}');
CALL es_run();
SELECT * FROM async_totals ORDER BY stream;
RESET default_transaction_isolation;

-- One with nothing to do is not even locked
SELECT xmax AS before FROM async_events.projection_cursors WHERE name = 'totals' \gset
CALL es_run();
SELECT xmax = :'before' AS untouched FROM async_events.projection_cursors WHERE name = 'totals';

-- A failure: what is before it is taken in, it is noted, others go on
CREATE TABLE async_log (n serial, type text);
SELECT es_create_projection('log', 'INSERT INTO async_log (type) SELECT type FROM new_events ORDER BY position',
    '{async_log}', mode => 'async', granularity => 'batch', replay => false);
SELECT es_append('A-4', 'Counted', '{"n": 1}');
SELECT es_append('A-5', 'Counted', '{"n": 2}');
SELECT es_append('A-5', 'Counted', '{"n": "two"}');
SELECT es_append('A-5', 'Counted', '{"n": 3}');
CALL es_run();
SELECT name, state, lag, failures, events, last_error FROM async_events.projections ORDER BY name;
SELECT * FROM async_totals WHERE stream IN ('A-4', 'A-5') ORDER BY stream;
SELECT type FROM async_log ORDER BY n;
-- not due yet, but by name, and again later
SET eventsourcing.clock_offset = '-1h';
CALL es_run();
RESET eventsourcing.clock_offset;
SELECT failures FROM async_events.projections WHERE name = 'totals';
CALL es_run('totals');
SET eventsourcing.clock_offset = '1h';
CALL es_run();
RESET eventsourcing.clock_offset;
SELECT state, failures, retry_at > now() AS again FROM async_events.projections WHERE name = 'totals';
CALL es_wait('totals', timeout => '0 seconds');
SELECT es_pause_projection('totals');
SELECT state, failures, retry_at FROM async_events.projections WHERE name = 'totals';
CALL es_wait('totals', timeout => '0 seconds');
SELECT es_alter_projection('totals', script => $$
    INSERT INTO async_totals AS t SELECT stream, 1, 1000 FROM new_events
    ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount
$$);
SELECT es_resume_projection('totals');
SELECT state, failures, last_error FROM async_events.projections WHERE name = 'totals';
CALL es_run();
SELECT name, state, lag, failures, events, last_error FROM async_events.projections ORDER BY name;
SELECT * FROM async_totals WHERE stream IN ('A-4', 'A-5') ORDER BY stream;

-- The event to blame is found, whatever the granularity
SELECT es_append_events('B-' || i, '[{"type": "Logged"}, {"type": "Logged"}]') FROM generate_series(1, 30) i;
SELECT es_append('B-7', 'Bad');
SELECT es_append('B-8', 'Logged');
ALTER TABLE async_log ADD CHECK (type <> 'Bad');
CALL es_run('log');
SELECT state, lag, last_error LIKE '%event "Bad", version 3 of stream "B-7"%' AS blamed FROM async_events.projections WHERE name = 'log';
SELECT count(*) FROM async_log;
ALTER TABLE async_log DROP CONSTRAINT async_log_type_check;
CALL es_run('log');
SELECT state, lag, last_error FROM async_events.projections WHERE name = 'log';
SELECT count(*) FROM async_log;

-- A table that is gone fails its own projection alone
DROP TABLE async_log;
SELECT es_append('A-6', 'Counted');
CALL es_run();
SELECT name, state, lag, last_error FROM async_events.projections ORDER BY name;
SELECT es_drop_projection('log');

-- An upcaster that fails is a failure of the projections that read its events,
-- after what comes before them
CREATE TABLE async_upcast (stream text, version bigint);
CREATE FUNCTION async_lift(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN jsonb_build_object('n', (data ->> 'n')::int); END $$;
SELECT es_create_projection('upcast', 'INSERT INTO async_upcast SELECT stream, version FROM new_events',
    '{async_upcast}', types => '{Lifted}', mode => 'async', granularity => 'batch');
SELECT es_append('C-1', 'Lifted', '{"n": "1"}');
SELECT es_append('C-1', 'Lifted', '{"n": "2"}');
SELECT es_append('C-1', 'Lifted', '{"n": "three"}');
SELECT es_append('C-1', 'Lifted', '{"n": "4"}');
SELECT es_append('C-1', 'Counted', '{"n": 1}');
SELECT es_create_upcaster('Lifted', 1, 'async_lift(jsonb)');
-- created after it, and so run after it
SELECT es_create_projection('after', 'INSERT INTO async_upcast SELECT stream || '' after'', version FROM new_events',
    '{async_upcast}', types => '{Counted}', mode => 'async', replay => false);
SELECT es_append('C-1', 'Counted', '{"n": 1}');
SET client_min_messages = error;
CALL es_run();
RESET client_min_messages;
SELECT name, state, lag, failures, split_part(last_error, E'\n', 1) AS last_error
  FROM async_events.projections WHERE name IN ('upcast', 'after') ORDER BY name;
SELECT * FROM async_upcast ORDER BY stream, version;
CREATE OR REPLACE FUNCTION async_lift(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT data';
CALL es_run('upcast');
SELECT name, state, lag, failures, last_error FROM async_events.projections WHERE name = 'upcast';
SELECT * FROM async_upcast WHERE stream = 'C-1' ORDER BY version;
SELECT es_drop_projection('upcast');
SELECT es_drop_projection('after');
SELECT es_drop_upcaster('Lifted', 1);
DROP FUNCTION async_lift;
DROP TABLE async_upcast;

-- The script of one that has no events is not even parsed: this one would fail
CREATE TABLE async_gone (n int);
SELECT es_create_projection('gone', 'INSERT INTO async_gone SELECT 1 FROM new_events', '{async_gone}', types => '{Seldom}', mode => 'async');
DROP TABLE async_gone;
SELECT es_append('A-5', 'Other');
CALL es_run('gone');
SELECT state, lag, last_error FROM async_events.projections WHERE name = 'gone';
SELECT es_append('A-5', 'Seldom');
SET client_min_messages = error;
CALL es_run('gone');
RESET client_min_messages;
SELECT state, lag, left(last_error, 36) AS last_error FROM async_events.projections WHERE name = 'gone';
SELECT es_drop_projection('gone');

-- Rows that are locked, and changed or deleted then, are so by one transaction id: none
-- becomes a MultiXact, which costs everybody who comes upon what is left of the row
CHECKPOINT;
SELECT next_multixact_id AS before FROM pg_control_checkpoint() \gset
SELECT es_append('A-5', 'Counted', '{"n": 1}');
SELECT es_schedule(now(), 'A-5', 'Other', key => 'due');
CALL es_run();
SELECT state, lag FROM async_events.projections;
SELECT * FROM async_events.scheduled;
CHECKPOINT;
SELECT next_multixact_id = :'before' AS none FROM pg_control_checkpoint();

-- Paused and resumed
SELECT es_pause_projection('totals');
SELECT es_append('A-6', 'Counted');
CALL es_run();
CALL es_run('totals');
SELECT state, lag FROM async_events.projections;
SELECT es_resume_projection('totals');
CALL es_run();
SELECT state, lag FROM async_events.projections;
SELECT * FROM async_totals WHERE stream = 'A-6';

-- An inline one needs nobody to run it
SELECT es_create_projection('inline', 'SELECT 1 FROM new_events', '{async_totals}');
SELECT es_append('A-6', 'Counted');
CALL es_run('inline');
CALL es_wait('inline');
CALL es_wait('inline', 1000000, '0 seconds');
SELECT es_pause_projection('inline');
SELECT es_append('A-6', 'Counted');
CALL es_wait('inline', timeout => '0 seconds');
SELECT es_resume_projection('inline');
CALL es_wait('inline', timeout => '0 seconds');

RESET eventsourcing.store;
SELECT es_drop_store('async_events', confirm => true);
DROP TABLE async_totals;
