-- Row security that is forced upon the owner, too, holds for what he asks as
-- himself, and not for what the store does in his name: whichever was done first in
-- the session, so that its plan is at hand.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
\set SHOW_CONTEXT never
CREATE ROLE regress_es_forced;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_es_forced', current_database()); END $$;
SET ROLE regress_es_forced;
SELECT es_create_store('forced');
SET eventsourcing.store = 'forced';
CREATE SCHEMA forced_models;
CREATE TABLE forced_models.seen (version bigint);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}, {"type": "A"}]');
ALTER TABLE forced.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE forced.events FORCE ROW LEVEL SECURITY;
CREATE POLICY later ON forced.events USING (version > 1) WITH CHECK (true);
SELECT es_create_projection('seen', 'INSERT INTO forced_models.seen SELECT version FROM new_events', '{forced_models.seen}', types => '{A,B}', mode => 'async');
SELECT es_create_aggregate('Order', rules => '{"A": {"$inc": {"a": 1}}}', snapshot_every => 0);
-- first as himself
SELECT version FROM es_read_all(types => '{A,B}');
CALL es_run('seen');
SELECT version FROM forced_models.seen ORDER BY version;
-- then in his name
SELECT es_append('Order-1', 'B');
CALL es_run('seen');
SELECT version FROM es_read_all(types => '{A,B}');
-- the same without a filter, where that is by SQL, too
SET eventsourcing.log_path = 'spi';
SELECT version FROM es_read('Order-1');
SELECT version, state FROM es_load('Order-1');
SELECT es_snapshot('Order-1');
SELECT version FROM es_read('Order-1');
SELECT es_head_position(), es_stream_version('Order-1');
-- but what a function of his reads while it is run in his name is read by him,
-- also where it is called in the middle of the reading
CREATE TABLE forced_models.secret (n int);
INSERT INTO forced_models.secret VALUES (1);
ALTER TABLE forced_models.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE forced_models.secret FORCE ROW LEVEL SECURITY;
CREATE FUNCTION forced_models.apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('secrets', (SELECT count(*) FROM forced_models.secret));
END
$$;
SELECT es_create_aggregate('Other', 'forced_models.apply(jsonb, es_event)', snapshot_every => 1);
SELECT es_append_events('Other-1', (SELECT jsonb_agg(jsonb_build_object('type', 'A')) FROM generate_series(1, 2001)));
SELECT version, state FROM forced.snapshots WHERE stream = 'Other-1';
-- the version check and the look-up of ids see what is hidden from him
SELECT es_append('Solo-1', 'A', event_id => '00000000-0000-0000-0000-000000000001');
SELECT count(*) FROM es_read('Solo-1');
SELECT es_append('Solo-1', 'A', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('Solo-1', 'B', expected_version => 1);
RESET eventsourcing.log_path;
-- and so does a comparison of read models
ALTER TABLE forced_models.seen ENABLE ROW LEVEL SECURITY;
ALTER TABLE forced_models.seen FORCE ROW LEVEL SECURITY;
CREATE POLICY blind ON forced_models.seen USING (false) WITH CHECK (true);
SELECT count(*) FROM forced_models.seen;
SELECT relation, difference, "row" FROM es_verify_projection('seen');
-- a handler skips for good what is hidden from him
CREATE TABLE forced_models.handled (version bigint);
SELECT es_create_handler('handled', 'INSERT INTO forced_models.handled SELECT version FROM new_events', category => 'Order');
CALL es_run('handled');
CREATE POLICY all_of_them ON forced.events USING (true);
CALL es_run('handled');
SELECT version FROM forced_models.handled ORDER BY version;
SELECT count(*) FROM es_read('Order-1');
RESET ROLE;
SET client_min_messages = warning;
SELECT es_drop_store('forced', true);
RESET eventsourcing.store;
DROP SCHEMA forced_models CASCADE;
DROP OWNED BY regress_es_forced;
DROP ROLE regress_es_forced;
