-- What a policy hides, no function and no view tells: neither in what it returns,
-- nor in an error, nor by way of a condition that speaks of what it is asked.
-- A role with the rights of a reader, a writer and a consumer tries; the owner, who
-- does the same, sees what there is to be seen.
\set QUIET on
SET client_min_messages = warning;
CREATE ROLE es_landlord;
CREATE ROLE es_tenant;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO es_landlord', current_database()); END $$;

SET ROLE es_landlord;
SELECT es_create_store();
SELECT es_grant('es_tenant', 'writer'), es_grant('es_tenant', 'consumer');
CREATE SCHEMA own;
CREATE TABLE own.model (stream text PRIMARY KEY, note text);
CREATE FUNCTION own.decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "Decided"}]'::jsonb $$;
CREATE FUNCTION own.lift(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT data';
SELECT es_create_upcaster('Noted', 1, 'own.lift(jsonb)');
SELECT es_create_aggregate('Order', rules => '{"Noted": {"$push": {"notes": "$.note"}}}', snapshot_every => 1);
SELECT es_create_decider('Order', 'own.decide(jsonb, text, jsonb)');
SELECT es_create_projection('model', 'INSERT INTO own.model SELECT stream, data->>''note'' FROM new_events ON CONFLICT (stream) DO UPDATE SET note = EXCLUDED.note',
                            '{own.model}', mode => 'async');
SELECT es_append('Order-1', 'Noted', '{"note": "open"}', metadata => '{"tenant": "mine", "correlation_id": "c"}');
SELECT es_append('Order-1', 'Noted', '{"note": "hidden-secret"}', event_id => '00000000-0000-0000-0000-000000000001', tags => '{hidden-secret,red}',
                 metadata => '{"tenant": "other", "correlation_id": "c", "actor": "hidden-secret"}');
SELECT es_append('Order-2', 'hidden-secret', metadata => '{"tenant": "other", "correlation_id": "c"}');
SELECT es_snapshot('Order-1');
SELECT es_create_subscription('sub', max_attempts => 1);
SELECT count(*) FROM es_fetch('sub', 'owner');
SELECT es_nack('sub', 'owner', position, 'hidden-secret', park => true) FROM es.events WHERE stream = 'Order-2';
SELECT es_schedule('2100-01-01', 'Order-1', 'Noted', '{"note": "hidden-secret"}', key => 'hidden-secret');
UPDATE es.projection_cursors SET last_error = 'hidden-secret', failures = 1;
ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON es.events TO es_tenant USING (metadata->>'tenant' = 'mine');
SET ROLE es_tenant;
SELECT es_create_subscription('mine');
RESET ROLE;

-- so far it is committed: what is fetched has to be settled
BEGIN;
SELECT * FROM no_plan();
-- Speaks of what it is given, and costs less than any condition of ours.
CREATE FUNCTION pg_temp.tell(what text) RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS $$
BEGIN
    IF what ~ 'secret' THEN
        RAISE EXCEPTION 'told: %', what;
    END IF;
    RETURN true;
END
$$;
-- What a statement shows to a role: its rows, or its error with all that belongs to it.
CREATE FUNCTION pg_temp.look(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text;
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE format('SELECT string_agg(x::text, E''\n'') FROM (%s) x', statement) INTO seen;
    RAISE EXCEPTION 'undo' USING ERRCODE = '00XXX';
EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE <> '00XXX' THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
        seen := concat_ws(' ', SQLSTATE, message, detail, hint, context);
    END IF;
    RETURN coalesce(seen, 'nothing');
END
$$;

CREATE TEMP TABLE attempts (function text, shows boolean, statement text);
INSERT INTO attempts VALUES
    -- these show it to whom nothing is hidden
    ('es_read', true, $$SELECT * FROM es_read('Order-1')$$),
    ('es_read', true, $$SELECT * FROM es_read('Order-1', 2, 2)$$),
    ('es_read', true, $$SELECT * FROM es_read('Order-1', backward => true)$$),
    ('es_read', true, $$SELECT 1 FROM es_read('Order-1') e WHERE pg_temp.tell(e::text)$$),
    ('es_read_all', true, $$SELECT * FROM es_read_all()$$),
    ('es_read_all', true, $$SELECT * FROM es_read_all(category => 'Order', types => '{Noted}', tags => '{red}')$$),
    ('es_read_all', true, $$SELECT 1 FROM es_read_all(types => '{Noted}') e WHERE pg_temp.tell(e::text)$$),
    ('es_load', true, $$SELECT * FROM es_load('Order-1')$$),
    ('es_load', true, $$SELECT * FROM es_load('Order-1', 2)$$),
    ('es_load', true, $$SELECT * FROM es_load('Order-1', as_of => '2100-01-01')$$),
    ('es_replay', true, $$SELECT * FROM es_replay('Order-1')$$),
    ('es_replay', true, $$SELECT * FROM es_replay('Order-1', 2)$$),
    ('es_bisect', true, $$SELECT es_bisect('Order-1', 'pg_temp.tell(state::text) IS NULL')$$),
    ('es_trace', true, $$SELECT * FROM es_trace('c')$$),
    ('es_cloudevents', true, $$SELECT * FROM es_cloudevents()$$),
    ('es_cloudevents', true, $$SELECT * FROM es_cloudevents(tags => '{red}')$$),
    -- these tell of a version or a position, of a conflict, or of what is the caller's own
    ('es_stream_version', false, $$SELECT es_stream_version('Order-1')$$),
    ('es_head_position', false, $$SELECT es_head_position()$$),
    ('es_safe_position', false, $$SELECT es_safe_position()$$),
    ('es_append', false, $$SELECT es_append('Order-1', 'Noted', metadata => '{"tenant": "mine"}')$$),
    ('es_append', false, $$SELECT es_append('Order-1', 'Noted', metadata => '{"tenant": "other"}')$$),
    ('es_append', false, $$SELECT es_append('Order-1', 'Noted', expected_version => 1)$$),
    ('es_append', false, $$SELECT es_append('Order-1', 'Other', event_id => '00000000-0000-0000-0000-000000000001')$$),
    ('es_append', false, $$SELECT es_append('Order-1', 'Noted', event_id => '00000000-0000-0000-0000-000000000001')$$),
    ('es_append_events', false, $$SELECT es_append_events('Order-1', '[{"type": "Noted"}, {"type": "Noted", "event_id": "00000000-0000-0000-0000-000000000001"}]')$$),
    ('es_append_events', false, $$SELECT es_append_events('Order-1', '[{"type": "Noted", "metadata": {"tenant": "mine"}}]', 2)$$),
    ('es_given', false, $$SELECT es_given('Order-1', '[{"type": "Noted", "metadata": {"tenant": "mine"}}]')$$),
    ('es_execute', false, $$SELECT es_execute('Order-1', 'do', metadata => '{"tenant": "mine"}')$$),
    ('es_execute', false, $$SELECT es_execute('Order-1', 'do')$$),
    ('es_snapshot', false, $$SELECT es_snapshot('Order-1')$$),
    ('es_schedule', false, $$SELECT es_schedule('2100-01-01', 'Order-1', 'Noted')$$),
    ('es_cancel', false, $$SELECT es_cancel('unknown')$$),
    ('es_create_subscription', false, $$SELECT es_create_subscription('another')$$),
    ('es_fetch', false, $$SELECT es_fetch('mine', 'me')$$),
    ('es_fetch', false, $$SELECT es_fetch('sub', 'me')$$),
    ('es_ack', false, $$SELECT es_fetch('mine', 'me'), es_ack('mine', 'me', '{1,2,3}')$$),
    ('es_ack', false, $$SELECT es_ack('sub', 'me', '{1,2,3}')$$),
    ('es_nack', false, $$SELECT es_fetch('mine', 'me'), es_nack('mine', 'me', 1, 'error', park => true)$$),
    ('es_nack', false, $$SELECT es_nack('sub', 'me', 2, 'error')$$),
    ('es_unpark', false, $$SELECT es_unpark('sub')$$),
    ('es_reset_subscription', false, $$SELECT es_reset_subscription('sub', 0), es_fetch('sub', 'me')$$),
    ('es_check_store', false, $$SELECT es_check_store('es')$$),
    ('es_events_tables', false, $$SELECT es_events_tables('es')$$),
    ('es_counters', false, $$SELECT * FROM es_counters()$$),
    ('es_store_exists', false, $$SELECT es_store_exists('es')$$),
    ('es_verify', false, $$SELECT * FROM es_verify()$$),
    ('es_verify_projection', false, $$SELECT * FROM es_verify_projection('model')$$);
SELECT unalike(pg_temp.look('es_tenant', statement), '%secret%', statement) FROM attempts ORDER BY function, statement;
SELECT alike(pg_temp.look('es_landlord', statement), '%secret%', 'to the owner: ' || statement) FROM attempts WHERE shows ORDER BY function, statement;
SELECT is_empty($$SELECT p.proname FROM pg_proc p
                   JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                   JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing'
                  WHERE obj_description(p.oid, 'pg_proc') !~ '^(Internal|Trigger):' AND p.prokind = 'f'
                    -- for the owner alone, as rights.sql has it, or about nothing but their arguments
                    AND p.proname NOT IN ('es_advance_watermark', 'es_alter_aggregate', 'es_alter_projection', 'es_capture', 'es_create_aggregate',
                                          'es_create_decider', 'es_create_handler', 'es_create_index', 'es_create_projection', 'es_create_store',
                                          'es_create_upcaster', 'es_drop_aggregate', 'es_drop_projection', 'es_drop_snapshots', 'es_drop_store',
                                          'es_drop_subscription', 'es_drop_upcaster', 'es_fingerprint', 'es_grant', 'es_import_event',
                                          'es_import_events', 'es_pause_projection', 'es_rename_type', 'es_repair_sequence', 'es_resume_projection',
                                          'es_uncapture', 'es_upgrade_store',
                                          'es_apply_rules', 'es_cloudevent', 'es_current_store', 'es_diff', 'es_then')
                    AND NOT EXISTS (SELECT FROM attempts a WHERE a.function = p.proname)$$,
                'every function is in this list');

-- Every relation that the role may read, as it is, and by a condition on each of its columns.
CREATE TEMP VIEW columns AS
SELECT c.relname, a.attname
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'es'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
   AND has_table_privilege('es_tenant', c.oid, 'SELECT');
SELECT unalike(pg_temp.look('es_tenant', format('SELECT * FROM es.%I', relname)), '%secret%', relname)
  FROM columns GROUP BY relname ORDER BY relname;
SELECT unalike(pg_temp.look('es_tenant', format('SELECT 1 FROM es.%I WHERE pg_temp.tell(%I::text)', relname, attname)), '%secret%', relname || '.' || attname)
  FROM columns ORDER BY relname, attname;
SELECT set_eq($$SELECT relname || '.' || attname FROM columns
                 WHERE pg_temp.look('es_landlord', format('SELECT 1 FROM es.%I WHERE pg_temp.tell(%I::text)', relname, attname)) LIKE '%secret%'$$,
              ARRAY['events.data', 'events.metadata', 'events.tags', 'events.type', 'outbox.payload', 'outbox.type', 'parked.error', 'projections.last_error',
                    'scheduled.data', 'scheduled.key'], 'the owner sees it in these');

SELECT * FROM finish();
ROLLBACK;
SELECT es_drop_store('es', true);
DROP OWNED BY es_landlord, es_tenant CASCADE;
DROP ROLE es_landlord, es_tenant;
