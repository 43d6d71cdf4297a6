-- Folding by an apply function: definitions, es_load, es_replay.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT es_create_store();
SELECT es_append_events('Cart-1', '[{"type": "Added", "data": {"item": "pen", "price": 3}}, {"type": "Added", "data": {"item": "ink", "price": 5}},
    {"type": "Looked"}, {"type": "Removed", "data": {"item": "pen", "price": 3}}, {"type": "Paid", "metadata": {"actor": "Ann"}}]');

CREATE FUNCTION cart_sql(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE event.type
           WHEN 'Added' THEN state || jsonb_build_object('total', coalesce((state ->> 'total')::int, 0) + (event.data ->> 'price')::int)
           WHEN 'Removed' THEN state || jsonb_build_object('total', (state ->> 'total')::int - (event.data ->> 'price')::int)
           WHEN 'Paid' THEN state || jsonb_build_object('paid_by', event.metadata -> 'actor', 'at', event.version)
           ELSE state END
$$;
CREATE FUNCTION cart_plpgsql(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql STRICT AS $$
BEGIN
    IF event.type = 'Added' THEN
        RETURN jsonb_set(state, '{total}', to_jsonb(coalesce((state ->> 'total')::int, 0) + (event.data ->> 'price')::int));
    ELSIF event.type = 'Removed' THEN
        RETURN jsonb_set(state, '{total}', to_jsonb((state ->> 'total')::int - (event.data ->> 'price')::int));
    ELSIF event.type = 'Paid' THEN
        state['paid_by'] := event.metadata -> 'actor';
        state['at'] := to_jsonb(event.version);
    END IF;
    RETURN state;
END
$$;

-- without a definition
SELECT * FROM es_load('Cart-1');
SELECT * FROM es_replay('Cart-1');
SELECT * FROM es_load(NULL);
SELECT * FROM es_replay(NULL);
SELECT * FROM es_load('');
SELECT * FROM es_load(repeat('x', 600));

-- what is no definition
SELECT es_create_aggregate('Cart');
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)', '{}');
SELECT es_create_aggregate(NULL, 'cart_sql(jsonb, es_event)');
SELECT es_create_aggregate('', 'cart_sql(jsonb, es_event)');
SELECT es_create_aggregate('Cart-1', 'cart_sql(jsonb, es_event)');
SELECT es_create_aggregate(repeat('x', 513), 'cart_sql(jsonb, es_event)');
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)', initial => NULL);
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)', snapshot_every => NULL);
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)', snapshot_every => -1);
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)', code_version => NULL);
SELECT es_create_aggregate('Cart', 'nowhere(jsonb, es_event)');
SELECT es_create_aggregate('Cart', 0::regprocedure);
SELECT es_create_aggregate('Cart', 1::regprocedure);
SELECT es_create_aggregate('Cart', 'jsonb_concat(jsonb, jsonb)');
SELECT es_create_aggregate('Cart', 'jsonb_typeof(jsonb)');
CREATE FUNCTION wrong_result(state jsonb, event es_event) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
CREATE FUNCTION wrong_set(state jsonb, event es_event) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION wrong_order(event es_event, state jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION wrong_more(state jsonb, event es_event, more int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION wrong_event(state jsonb, event record) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN state; END';
CREATE PROCEDURE wrong_kind(state jsonb, event es_event) LANGUAGE sql AS 'SELECT 1';
SELECT es_create_aggregate('Cart', 'wrong_result(jsonb, es_event)');
SELECT es_create_aggregate('Cart', 'wrong_set(jsonb, es_event)');
SELECT es_create_aggregate('Cart', 'wrong_order(es_event, jsonb)');
SELECT es_create_aggregate('Cart', 'wrong_more(jsonb, es_event, int)');
SELECT es_create_aggregate('Cart', 'wrong_event(jsonb, record)');
SELECT es_create_aggregate('Cart', 'wrong_kind(jsonb, es_event)');
DROP FUNCTION wrong_result, wrong_set, wrong_order, wrong_more, wrong_event;
DROP PROCEDURE wrong_kind;
SELECT count(*) FROM es.aggregates;
CREATE ROLE regress_es_other;
SELECT es_grant('regress_es_other', 'writer');
SET ROLE regress_es_other;
\set VERBOSITY terse
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)');
\set VERBOSITY default
RESET ROLE;

-- SQL
SELECT es_create_aggregate('Cart', 'cart_sql(jsonb, es_event)');
SELECT category, kind, snapshot_every, code_version, apply, rules, initial FROM es.aggregates;
SELECT * FROM es_load('Cart-1');
SELECT to_version, l.* FROM unnest(ARRAY[0, 1, 2, 3, 4, 5, 6, 9223372036854775807, NULL]) to_version, es_load('Cart-1', to_version) l;
SELECT * FROM es_load('Cart-1', -1);
SELECT * FROM es_load('Cart-2');
SELECT * FROM es_load('Cart');
SELECT (es_load('Cart-1')).version;
SELECT version, type, data, metadata, recorded_at IS NOT NULL AS recorded, state_before, state_after FROM es_replay('Cart-1');
SELECT version, state_before, state_after FROM es_replay('Cart-1', 3, 4);
SELECT version, state_before, state_after FROM es_replay('Cart-1', from_version => 5);
SELECT version, state_before, state_after FROM es_replay('Cart-1', to_version => 1);
SELECT version FROM es_replay('Cart-1', 4, 3);
SELECT version FROM es_replay('Cart-1', 6);
SELECT version FROM es_replay('Cart-1', 0, 1);
SELECT version FROM es_replay('Cart-1', -1);
SELECT version FROM es_replay('Cart-1', 1, -1);
SELECT version FROM es_replay('Cart-1', NULL, NULL);
SELECT version FROM es_replay('Cart-2');
-- each state is the next one's before
SELECT count(*) FROM (SELECT state_before, lag(state_after) OVER (ORDER BY version) AS state FROM es_replay('Cart-1')) r
 WHERE state_before <> state;
-- PL/pgSQL, strict, gives the same
CREATE TEMP TABLE by_sql AS SELECT * FROM es_replay('Cart-1');
SELECT es_create_aggregate('Cart', 'cart_plpgsql(jsonb, es_event)');
SELECT * FROM es_load('Cart-1');
SELECT count(*) FROM (TABLE by_sql EXCEPT SELECT * FROM es_replay('Cart-1')) d;
DROP TABLE by_sql;

-- as it was at a time: the events' own
SELECT es_append('Time-1', 'Tick');
SELECT es_append('Time-1', 'Tick');
SELECT es_append('Time-1', 'Tick');
CREATE FUNCTION ticks(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(state::int + 1)';
SELECT es_create_aggregate('Time', 'ticks(jsonb, es_event)', initial => '0');
SELECT l.* FROM es_read('Time-1') e, LATERAL es_load('Time-1', as_of => e.recorded_at) l ORDER BY e.version;
SELECT l.* FROM es_read('Time-1') e, LATERAL es_load('Time-1', as_of => e.recorded_at - interval '1 microsecond') l ORDER BY e.version;
SELECT * FROM es_load('Time-1', as_of => 'infinity');
SELECT * FROM es_load('Time-1', as_of => '-infinity');
SELECT * FROM es_load('Time-1', as_of => now() + interval '1 hour');
SELECT * FROM es_load('Time-1', to_version => 2, as_of => 'infinity');
SELECT * FROM es_load('Time-1', to_version => 2, as_of => '-infinity');

-- initial states of any kind; a definition anew takes the old one's place
SELECT es_append('Last-1', 'A', '1'), es_append('Last-1', 'B', '[2]'), es_append('Last-1', 'C', 'null');
CREATE FUNCTION last_data(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_build_array(state, event.data)';
SELECT es_create_aggregate('Last', 'last_data(jsonb, es_event)', initial => 'null');
SELECT * FROM es_load('Last-1');
SELECT * FROM es_load('Last-2');
SELECT version, state_before, state_after FROM es_replay('Last-1');
SELECT es_create_aggregate('Last', 'last_data(jsonb, es_event)', initial => '"x"');
SELECT * FROM es_load('Last-1');
SELECT es_create_aggregate('Last', 'last_data(jsonb, es_event)', initial => '[]');
SELECT * FROM es_load('Last-1');
SELECT * FROM es_load('Last-2');

-- a function that returns NULL, or raises: an error that says where
\set SHOW_CONTEXT errors
CREATE FUNCTION returns_null(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT CASE WHEN event.version < 4 THEN jsonb_set(state, '{v}', to_jsonb(event.version)) END $$;
SELECT es_create_aggregate('Cart', 'returns_null(jsonb, es_event)');
SELECT * FROM es_load('Cart-1', 3);
SELECT * FROM es_load('Cart-1');
SELECT * FROM es_replay('Cart-1');
CREATE FUNCTION raises(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event.type = 'Removed' THEN
        RAISE 'cannot remove' USING ERRCODE = 'P0042', DETAIL = 'The detail.', HINT = 'The hint.';
    END IF;
    RETURN state;
END
$$;
SELECT es_create_aggregate('Cart', 'raises(jsonb, es_event)');
SELECT * FROM es_load('Cart-1', 3);
SELECT * FROM es_load('Cart-1');
\set VERBOSITY sqlstate
SELECT * FROM es_load('Cart-1');
SELECT es_create_aggregate('Cart', 'returns_null(jsonb, es_event)');
SELECT * FROM es_load('Cart-1');
SELECT * FROM es_load('Nowhere-1');
\set VERBOSITY default
-- caught, and on we go
DO $$
BEGIN
    PERFORM es_load('Cart-1');
EXCEPTION WHEN null_value_not_allowed THEN
    RAISE WARNING 'caught as %, search_path %', current_user = session_user, current_setting('search_path');
END
$$;
SELECT es_append('Cart-1', 'Closed');

-- a function that was dropped, made anew, renamed, replaced
DROP FUNCTION cart_sql;
SELECT es_create_aggregate('Cart', 'cart_plpgsql(jsonb, es_event)');
SELECT * FROM es_load('Cart-1');
DROP FUNCTION cart_plpgsql;
SELECT * FROM es_load('Cart-1');
CREATE FUNCTION cart_plpgsql(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('new', event.version) $$;
SELECT * FROM es_load('Cart-1');
CREATE OR REPLACE FUNCTION cart_plpgsql(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('newer', event.version) $$;
SELECT * FROM es_load('Cart-1');
ALTER FUNCTION cart_plpgsql RENAME TO renamed;
SELECT * FROM es_load('Cart-1');
ALTER FUNCTION renamed RENAME TO cart_plpgsql;
SELECT * FROM es_load('Cart-1');
DROP FUNCTION cart_plpgsql;
CREATE FUNCTION cart_plpgsql(state jsonb, event es_event) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT * FROM es_load('Cart-1');
DROP FUNCTION cart_plpgsql;
CREATE FUNCTION cart_plpgsql(state jsonb, event es_event) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT state';
SELECT * FROM es_load('Cart-1');
DROP FUNCTION cart_plpgsql;
CREATE PROCEDURE cart_plpgsql(state jsonb, event es_event) LANGUAGE sql AS 'SELECT 1';
SELECT * FROM es_load('Cart-1');
DROP PROCEDURE cart_plpgsql;
-- a fold within a fold, and without end
\set SHOW_CONTEXT never
CREATE FUNCTION nested(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_array(event.version, (es_load('Time-1')).state, (SELECT count(*) FROM es_replay('Time-1')));
END
$$;
SELECT es_create_aggregate('Cart', 'nested(jsonb, es_event)');
SELECT * FROM es_load('Cart-1');
CREATE FUNCTION endless(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN (es_load(event.stream)).state;
END
$$;
SELECT es_create_aggregate('Cart', 'endless(jsonb, es_event)');
\set VERBOSITY sqlstate
SELECT * FROM es_load('Cart-1');
\set VERBOSITY default

-- all of an event's columns arrive, toasted ones too
CREATE FUNCTION columns(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('position', event.position > 0, 'stream', event.stream, 'version', event.version, 'type', event.type,
                              'data', length(event.data::text), 'metadata', event.metadata, 'event_id', event.event_id, 'tags', event.tags,
                              'recorded_at', event.recorded_at IS NOT NULL)
$$;
SELECT es_append('Wide-1', 'A', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 10000) i), metadata => '{"m": 1}',
                 event_id => '00000000-0000-0000-0000-000000000001', tags => '{a,b}'),
       es_append('Wide-1', 'B');
SELECT es_create_aggregate('Wide', 'columns(jsonb, es_event)');
SELECT version, state_after FROM es_replay('Wide-1');

-- long streams, states that grow, more than a batch
SELECT es_append_events('Long-1', (SELECT jsonb_agg(jsonb_build_object('type', 'A', 'data', jsonb_build_object('i', i)) ORDER BY i) FROM generate_series(1, 20000) i));
CREATE FUNCTION sum_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN to_jsonb(state::numeric + (event.data ->> 'i')::numeric);
END
$$;
SELECT es_create_aggregate('Long', 'sum_up(jsonb, es_event)', initial => '0', snapshot_every => 0);
SELECT * FROM es_load('Long-1');
SELECT * FROM es_load('Long-1', 1000);
SELECT * FROM es_load('Long-1', 1001);
SELECT count(*), sum((state_after::numeric - state_before::numeric)), max(version) FROM es_replay('Long-1');
CREATE FUNCTION collect(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || (event.data -> 'i') $$;
SELECT es_create_aggregate('Long', 'collect(jsonb, es_event)', initial => '[]', snapshot_every => 0);
SELECT version, jsonb_array_length(state), state -> 2999 FROM es_load('Long-1', 3000);

SELECT es_drop_store('es', confirm => true);
DROP FUNCTION ticks, last_data, returns_null, raises, nested, endless, columns, sum_up, collect;
DROP ROLE regress_es_other;
