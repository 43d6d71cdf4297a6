-- Rights: what each kind of role may do, with every function and every relation.
\set QUIET on
BEGIN;
SELECT * FROM no_plan();
SET client_min_messages = warning;
CREATE ROLE es_owner;
CREATE ROLE es_reader;
CREATE ROLE es_writer;
CREATE ROLE es_consumer;
CREATE ROLE es_outsider;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO es_owner', current_database()); END $$;

SET ROLE es_owner;
SELECT es_create_store();
SELECT es_grant('es_reader', 'reader'), es_grant('es_writer', 'writer'), es_grant('es_consumer', 'consumer');
CREATE SCHEMA own;
CREATE TABLE own.model (stream text PRIMARY KEY);
CREATE TABLE own.customer (id int PRIMARY KEY, name text);
CREATE TABLE own.supplier (id int PRIMARY KEY, name text);
CREATE FUNCTION own.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "Decided"}]'::jsonb $$;
CREATE FUNCTION own.lift(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT data';
SELECT es_append_events('Order-1', '[{"type": "Created"}, {"type": "Paid"}]');
SELECT es_create_aggregate('Order', rules => '{"Created": {"$inc": {"n": 1}}}');
SELECT es_create_decider('Order', 'own.decide(jsonb, text, jsonb)');
SELECT es_create_upcaster('Old', 1, 'own.lift(jsonb)');
SELECT es_create_projection('model', 'INSERT INTO own.model SELECT DISTINCT stream FROM new_events WHERE version = 1', '{own.model}', mode => 'async', replay => false);
SELECT es_create_projection('paused', 'INSERT INTO own.model SELECT DISTINCT stream FROM new_events WHERE version = 1', '{own.model}', mode => 'async', replay => false);
SELECT es_pause_projection('paused');
SELECT es_create_subscription('sub');
SELECT es_create_handler('handler', 'SELECT FROM new_events');
SELECT es_capture('own.supplier', 'Supplier', 'id');
RESET ROLE;

-- Runs a statement as a role and undoes it; returns its SQLSTATE, 00000 where
-- it succeeded.
CREATE FUNCTION pg_temp.attempt(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', 'es_' || role);
    EXECUTE statement;
    RAISE EXCEPTION 'undo' USING ERRCODE = '00XXX';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN '00XXX' THEN '00000' ELSE SQLSTATE END;
END
$$;
CREATE TEMP TABLE role (n int, role text, letter text);
INSERT INTO role VALUES (1, 'outsider', 'x'), (2, 'reader', 'r'), (3, 'writer', 'w'), (4, 'consumer', 'c'), (5, 'owner', 'o');
-- what who may gets is 00000, or a code from behind the check of rights
CREATE TEMP TABLE attempts (function text, may text, statement text, code text DEFAULT '00000');
INSERT INTO attempts VALUES
    -- what tells nothing of a store
    ('es_apply_rules', 'xrwco', $$SELECT es_apply_rules('{}', '{}', ROW(1, 'A-1', 1, 'A', '{}', NULL, NULL, NULL, now())::es_event)$$),
    ('es_cloudevent', 'xrwco', $$SELECT es_cloudevent(ROW(1, 'A-1', 1, 'A', '{}', NULL, NULL, NULL, now())::es_event)$$),
    ('es_counters', 'xrwco', $$SELECT * FROM es_counters()$$),
    ('es_current_store', 'xrwco', $$SELECT es_current_store()$$),
    ('es_diff', 'xrwco', $$SELECT * FROM es_diff('{}', '{"a": 1}')$$),
    ('es_store_exists', 'xrwco', $$SELECT es_store_exists('es')$$),
    ('es_store_tables', 'xrwco', $$SELECT es_store_tables()$$),
    -- reading
    ('es_bisect', 'rwco', $$SELECT es_bisect('Order-1', 'true')$$),
    ('es_cloudevents', 'rwco', $$SELECT * FROM es_cloudevents()$$),
    ('es_head_position', 'rwco', $$SELECT es_head_position()$$),
    ('es_load', 'rwco', $$SELECT * FROM es_load('Order-1')$$),
    ('es_read', 'rwco', $$SELECT * FROM es_read('Order-1')$$),
    ('es_read_all', 'rwco', $$SELECT * FROM es_read_all()$$),
    ('es_replay', 'rwco', $$SELECT * FROM es_replay('Order-1')$$),
    ('es_safe_position', 'rwco', $$SELECT es_safe_position()$$),
    ('es_stream_version', 'rwco', $$SELECT es_stream_version('Order-1')$$),
    ('es_trace', 'rwco', $$SELECT * FROM es_trace('1')$$),
    -- appending
    ('es_append', 'wo', $$SELECT es_append('Order-1', 'A')$$),
    ('es_append_events', 'wo', $$SELECT es_append_events('Order-1', '[{"type": "A"}]')$$),
    ('es_append_events', 'wo', $$SELECT es_append_events('Order-1', '[]')$$),
    ('es_execute', 'wo', $$SELECT es_execute('Order-1', 'decide')$$),
    ('es_given', 'wo', $$SELECT es_given('Order-1', '[{"type": "A"}]')$$),
    ('es_schedule', 'wo', $$SELECT es_schedule(now(), 'Order-1', 'A')$$),
    ('es_cancel', 'wo', $$SELECT es_cancel('key')$$),
    ('es_snapshot', 'wo', $$SELECT es_snapshot('Order-1')$$),
    -- consuming
    ('es_ack', 'co', $$SELECT es_ack('sub', 'me', '{}')$$),
    ('es_create_subscription', 'co', $$SELECT es_create_subscription('another')$$),
    ('es_fetch', 'co', $$SELECT es_fetch('sub', 'me')$$),
    ('es_reset_subscription', 'co', $$SELECT es_reset_subscription('sub', 0)$$),
    ('es_unpark', 'co', $$SELECT es_unpark('sub')$$),
    -- owning
    ('es_advance_watermark', 'o', $$SELECT es_advance_watermark()$$),
    ('es_alter_aggregate', 'o', $$SELECT es_alter_aggregate('Order', 10)$$),
    ('es_alter_projection', 'o', $$SELECT es_alter_projection('model', types => '{A}')$$),
    ('es_capture', 'o', $$SELECT es_capture('own.customer', 'Customer', 'id')$$),
    ('es_create_aggregate', 'o', $$SELECT es_create_aggregate('Order', rules => '{}')$$),
    ('es_create_decider', 'o', $$SELECT es_create_decider('Order', 'own.decide(jsonb, text, jsonb)')$$),
    ('es_create_handler', 'o', $$SELECT es_create_handler('another', 'SELECT FROM new_events')$$),
    ('es_create_index', 'o', $$SELECT es_create_index('type')$$),
    ('es_create_projection', 'o', $$SELECT es_create_projection('another', 'SELECT FROM new_events', '{own.model}')$$),
    ('es_create_store', 'o', $$SELECT es_create_store('another')$$),
    ('es_create_upcaster', 'o', $$SELECT es_create_upcaster('Created', 1, 'own.lift(jsonb)')$$),
    ('es_drop_aggregate', 'o', $$SELECT es_drop_aggregate('Order')$$),
    ('es_drop_projection', 'o', $$SELECT es_drop_projection('model')$$),
    ('es_drop_snapshots', 'o', $$SELECT es_drop_snapshots()$$),
    ('es_drop_store', 'o', $$SELECT es_drop_store('es', true)$$),
    ('es_drop_subscription', 'o', $$SELECT es_drop_subscription('sub')$$),
    ('es_drop_subscription', 'o', $$SELECT es_drop_subscription('handler')$$),
    ('es_drop_upcaster', 'o', $$SELECT es_drop_upcaster('Old', 1)$$),
    ('es_fingerprint', 'o', $$SELECT es_fingerprint('Order')$$),
    ('es_grant', 'o', $$SELECT es_grant('es_outsider', 'reader')$$),
    ('es_import_event', 'o', $$SELECT es_import_event('Order-3', 1, 'A', '{}', now())$$),
    ('es_import_events', 'o', $$SELECT es_import_events('[{"stream": "Order-3", "version": 1, "type": "A", "data": {}, "recorded_at": "2026-01-01"}]')$$),
    ('es_pause_projection', 'o', $$SELECT es_pause_projection('model')$$),
    ('es_rename_type', 'o', $$SELECT es_rename_type('Older', 'Created')$$),
    ('es_repair_sequence', 'o', $$SELECT es_repair_sequence()$$),
    ('es_resume_projection', 'o', $$SELECT es_resume_projection('paused')$$),
    ('es_uncapture', 'o', $$SELECT es_uncapture('own.supplier')$$),
    ('es_upgrade_store', 'o', $$SELECT es_upgrade_store()$$),
    ('es_verify', 'o', $$SELECT * FROM es_verify()$$),
    ('es_verify_projection', 'o', $$SELECT * FROM es_verify_projection('model')$$);
INSERT INTO attempts VALUES
    -- what the others are made of gives nobody a right: it runs as the caller,
    -- who has none to the schema of these tables
    ('es_captured_tables', 'o', $$SELECT es_captured_tables('own.customer')$$),
    ('es_check_key_rights', 'o', $$SELECT es_check_key_rights('own.customer')$$),
    ('es_check_keys', 'o', $$SELECT es_check_keys('own.customer')$$),
    ('es_check_shadow', 'o', $$SELECT es_check_shadow('own.customer', 'own.customer')$$),
    ('es_check_store', 'xrwco', $$SELECT es_check_store('es')$$),
    ('es_check_store_owner', 'o', $$SELECT es_check_store_owner('es')$$),
    ('es_create_shadow', 'o', $$SELECT es_create_shadow('es', 'own.customer', 'shadow_', true, true)$$),
    ('es_create_shadows', 'o', $$SELECT es_create_shadows('es', '{own.customer}', 'shadow_', true, true, true)$$),
    ('es_drop_shadows', 'o', $$SELECT es_drop_shadows('own', '{customer}')$$),
    ('es_events_tables', 'rwco', $$SELECT es_events_tables('es')$$),
    ('es_fillfactor', 'o', $$SELECT es_fillfactor('own.customer')$$),
    ('es_forget_rebuild', 'o', $$SELECT es_forget_rebuild('es', 'model')$$),
    ('es_index_shadow', 'o', $$SELECT es_create_shadow('es', 'own.customer', 'shadow_', true, true), es_index_shadow('es', 'own.customer', 'shadow_', false)$$),
    ('es_install_interchange_views', 'o', $$SELECT es_install_interchange_views('es')$$),
    ('es_install_projection_views', 'o', $$SELECT es_install_projection_views('es')$$),
    ('es_install_projections', 'o', $$SELECT es_install_projections('es')$$),
    ('es_install_store', 'o', $$SELECT es_install_store('es')$$),
    ('es_install_subscription_views', 'o', $$SELECT es_install_subscription_views('es')$$),
    ('es_install_timer_views', 'o', $$SELECT es_install_timer_views('es')$$),
    ('es_log_shadow', 'o', $$SELECT es_log_shadow('own.customer', 'own.customer')$$),
    ('es_serial_columns', 'o', $$SELECT es_serial_columns('own.customer')$$),
    -- who captures a table owns the store, too
    ('es_capture_row', 'o', $$CREATE TABLE pg_temp.mine (id int); CREATE TRIGGER t AFTER INSERT ON pg_temp.mine FOR EACH ROW
                             EXECUTE FUNCTION es_capture_row('es', 'Supplier', 'id'); INSERT INTO pg_temp.mine VALUES (1)$$);
INSERT INTO attempts VALUES
    -- nothing was fetched under that name; no rebuild is due; transactions of its own;
    -- it is behind; there is no layout before the first; the tables are there
    ('es_begin_rebuild', 'o', $$SELECT es_begin_rebuild('es', 'model', true, true)$$, '55000'),
    ('es_rebuild', 'o', $$CALL es_rebuild('model')$$, '25001'),
    ('es_run', 'co', $$CALL es_run()$$, '25001'),
    ('es_wait', 'rwco', $$CALL es_wait('model', timeout => '0')$$, 'ZE010'),
    ('es_nack', 'co', $$SELECT es_nack('sub', 'me', 1, 'error')$$, 'ZE013'),
    ('es_upgrade_layout', 'xrwco', $$SELECT es_upgrade_layout('es', 0)$$, '55000'),
    ('es_create_store_tables', 'o', $$SELECT es_create_store_tables('es')$$, '42P07');
-- as "x r w c o", each with the code that the role gets
SELECT is(string_agg(letter || ' ' || pg_temp.attempt(role, statement), ', ' ORDER BY n),
          string_agg(letter || ' ' || CASE WHEN may LIKE '%' || letter || '%' THEN code ELSE '42501' END, ', ' ORDER BY n),
          function || ': ' || regexp_replace(statement, '\s+', ' ', 'g'))
  FROM attempts, role GROUP BY function, statement ORDER BY function, statement;
SELECT is_empty($$SELECT p.proname FROM pg_proc p
                   JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                   JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing'
                  WHERE p.prorettype <> 'trigger'::regtype AND p.prorettype <> 'internal'::regtype
                    AND p.proname <> 'es_then'  -- is a test itself, and made of these
                    AND NOT EXISTS (SELECT FROM attempts a WHERE a.function = p.proname)$$,
                'every function is in this list');

-- Relations: this, and nothing more, is what es_grant() gives.
SELECT is(string_agg(DISTINCT privilege_type || ' ' || table_name, ', ' ORDER BY privilege_type || ' ' || table_name), wanted, grantee)
  FROM (VALUES
    ('es_reader', 'SELECT counters, SELECT events, SELECT open_appends, SELECT outbox, SELECT progress, SELECT projections, SELECT scheduled, SELECT streams'),
    ('es_writer', 'INSERT events, SELECT counters, SELECT events, SELECT open_appends, SELECT outbox, SELECT progress, SELECT projections, SELECT scheduled, SELECT streams'),
    ('es_consumer', 'INSERT subscriptions, SELECT counters, SELECT events, SELECT open_appends, SELECT outbox, SELECT parked, SELECT progress, SELECT projections, SELECT scheduled, SELECT streams, SELECT subscriptions, UPDATE projections, UPDATE subscriptions'))
    w (grantee, wanted)
  LEFT JOIN information_schema.role_table_grants g USING (grantee)
 WHERE table_schema = 'es' GROUP BY grantee, wanted ORDER BY grantee;
SELECT is_empty($$SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants
                   WHERE table_schema = 'es' AND grantee NOT IN ('es_owner', 'es_reader', 'es_writer', 'es_consumer')$$,
                'nobody else has a right on any relation');
SELECT is_empty($$SELECT grantee, object_name FROM information_schema.role_usage_grants
                   WHERE object_schema = 'es' AND grantee <> 'es_owner'$$, 'nor on the sequence');
-- the marks on views open no way to write
SELECT is(pg_temp.attempt('consumer', statement), code, statement)
  FROM (VALUES ('INSERT INTO es.subscriptions (name) VALUES (''forged'')', '55000'),
               ('UPDATE es.subscriptions SET position = 99', '55000'),
               ('UPDATE es.projections SET position = 99', '55000'),
               ('DELETE FROM es.subscriptions', '55000')) v (statement, code);

-- A right that was taken back is gone, from a session that used it, too.
SELECT is(pg_temp.attempt('reader', 'SELECT * FROM es_read(''Order-1'')'), '00000', 'a reader reads');
REVOKE SELECT ON es.events FROM es_reader;
SELECT is(pg_temp.attempt('reader', 'SELECT * FROM es_read(''Order-1'')'), '42501', 'and does not, when that was taken back');
SELECT is(pg_temp.attempt('reader', 'SELECT * FROM es_load(''Order-1'')'), '42501', 'nor loads');
GRANT es_writer TO es_reader;
SELECT is(pg_temp.attempt('reader', 'SELECT es_append(''Order-1'', ''A'')'), '00000', 'a member of a writer writes');

SELECT * FROM finish();
ROLLBACK;
