-- Upcasting: old events in today's shape, wherever they are read.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT es_create_store();
CREATE ROLE es_upcast_writer;
CREATE ROLE es_upcast_reader;
SELECT es_grant('es_upcast_writer', 'writer');
SELECT es_grant('es_upcast_reader', 'reader');
SELECT es_create_aggregate('Person', rules => '{"Named": {"$set": {"first": "$.first", "last": "$.last", "metadata": "$$metadata"}},
                                                "Moved": {"$set": {"city": "$.city"}}}');
CREATE VIEW stored AS SELECT stream, version, type, data, metadata FROM es.events ORDER BY position;

-- schema 1: {"name": "Ada Byron"}, 2: {"names": ["Ada", "Byron"]}, 3: {"first": "Ada", "last": "Byron"}
SELECT es_append('Person-1', 'Named', '{"name": "Ada Byron"}', metadata => '{"by": "me"}');
SELECT es_append('Person-1', 'Moved', '{"city": "London"}');
CREATE FUNCTION named_1(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
    $$ SELECT jsonb_build_object('names', string_to_array(data->>'name', ' ')) $$;
CREATE FUNCTION named_2(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN jsonb_build_object('first', data->'names'->0, 'last', data->'names'->1); END $$;
SELECT es_create_upcaster('Named', 1, 'named_1(jsonb)');
SELECT version, type, data, metadata FROM es_read('Person-1');
-- what is appended from now on is of schema 2
SELECT es_append('Person-1', 'Named', '{"names": ["Grace", "Hopper"]}');
SELECT es_create_upcaster('Named', 2, 'named_2(jsonb)');
SELECT es_append('Person-1', 'Named', '{"first": "Ken", "last": "Thompson"}', metadata => '{"by": "you"}');
-- or of what its appender says
SELECT es_append('Person-1', 'Named', '{"name": "Edsger Dijkstra"}', metadata => '{"$schema": 1}');
SELECT es_append('Person-1', 'Named', '{"names": ["Barbara", "Liskov"]}', metadata => '{"$schema": 2, "by": "her"}');
-- batches, and types without upcasters
SELECT es_append_events('Person-1', '[{"type": "Named", "data": {"first": "A", "last": "B"}}, {"type": "Moved", "data": {"city": "Paris"}}]');
TABLE stored;
SELECT version, type, data, metadata FROM es_read('Person-1');
SELECT version, type, data, metadata FROM es_read('Person-1', 2, 5, backward => true);
SELECT version, type, data, metadata FROM es_read_all();
SELECT version, data FROM es_read_all(types => '{Named}');
SELECT * FROM es_load('Person-1');
SELECT version, type, data, state_after FROM es_replay('Person-1');
-- the context goes with the schema
BEGIN;
SET LOCAL eventsourcing.actor = 'ada';
SELECT es_append('Person-2', 'Named', '{"first": "X", "last": "Y"}');
COMMIT;
SELECT metadata FROM es.events WHERE stream = 'Person-2';

-- a schema newer than the newest is left as it is
SELECT es_append('Person-3', 'Named', '{"first": "Z", "new": true}', metadata => '{"$schema": 7}');
SELECT data, metadata FROM es_read('Person-3');
-- what is no schema is refused, also where no upcaster looks at it yet
SELECT es_append('Person-4', 'Named', '{}', metadata => '{"$schema": "two"}');
SELECT es_append('Person-4', 'Named', '{}', metadata => '{"$schema": 0}');
SELECT es_append('Person-4', 'Named', '{}', metadata => '{"$schema": 1.5}');
SELECT es_append('Person-4', 'Named', '{}', metadata => '{"$schema": 1e30}');
SELECT es_append_events('Person-4', '[{"type": "Renamed"}, {"type": "Renamed", "metadata": {"$schema": null}}]');
SELECT es_append('Person-4', 'Named', '{"first": "Q", "last": "R"}', metadata => '{"$schema": 3.0}');
SELECT version, data FROM es_read('Person-4');
SELECT es_create_upcaster('', 1, 'named_1(jsonb)');

-- a missing link
SELECT es_drop_upcaster('Named', 1);
SELECT es_drop_upcaster('Named', 1);
SELECT version, data FROM es_read('Person-1');
SELECT version, data FROM es_read('Person-1', 3, 4);
SELECT * FROM es_load('Person-1');
SELECT version FROM es_replay('Person-1');
SELECT es_create_upcaster('Named', 1, 'named_1(jsonb)');
SELECT * FROM es_load('Person-1', to_version => 1);

-- an error inside an upcaster says where
\set SHOW_CONTEXT errors
CREATE OR REPLACE FUNCTION named_2(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RAISE EXCEPTION 'cannot read %', data USING ERRCODE = 'ZX001', HINT = 'A hint.'; END $$;
SELECT version FROM es_read('Person-1', 3, 3);
SELECT * FROM es_load('Person-1', to_version => 1);
\set SHOW_CONTEXT never
-- and leaves nothing behind
DO $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        BEGIN
            PERFORM es_read('Person-1');
        EXCEPTION WHEN SQLSTATE 'ZX001' THEN
            RAISE WARNING '%: % as %', i, SQLERRM, current_user = session_user;
        END;
    END LOOP;
END $$;
-- SQL functions, too, that fail half way
CREATE OR REPLACE FUNCTION named_2(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
    $$ SELECT jsonb_build_object('first', data->'names'->0, 'n', (data->'names'->>1)::int) $$;
DO $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        BEGIN
            PERFORM es_read('Person-1');
        EXCEPTION WHEN invalid_text_representation THEN
            RAISE WARNING '%: %', i, SQLERRM;
        END;
    END LOOP;
END $$;
-- the function dropped, made anew as another one, and mended
DROP FUNCTION named_2;
SELECT version FROM es_read('Person-1', 3, 3);
SELECT version, type FROM es_read('Person-1', 2, 2);
SELECT version FROM es_read('Person-1', 4, 4);
-- who does not need it does not miss it
SELECT es_create_aggregate('Other', rules => '{"Moved": {"$set": {"city": "$.city"}}}');
SELECT es_append('Other-1', 'Moved', '{"city": "Rome"}');
SELECT * FROM es_load('Other-1');
SELECT es_snapshot('Other-1');
CREATE FUNCTION named_2(data jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$;
SELECT version FROM es_read('Person-1', 3, 3);
DROP FUNCTION named_2;
CREATE FUNCTION named_2(data jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT '{}'::jsonb $$;
SELECT version FROM es_read('Person-1', 3, 3);
CREATE OR REPLACE FUNCTION named_2(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN jsonb_build_object('first', data->'names'->0, 'last', data->'names'->1); END $$;
SELECT version, data FROM es_read('Person-1', 3, 3);

--
-- What fits
--
CREATE FUNCTION lift_volatile(data jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
CREATE FUNCTION lift_stable(data jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT data $$;
CREATE FUNCTION lift_text(data jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$;
CREATE FUNCTION lift_two(data jsonb, more jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data $$;
CREATE FUNCTION lift_set(data jsonb) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data $$;
CREATE FUNCTION lift_good(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data $$;
SELECT es_create_upcaster('Moved', 1, 'lift_volatile(jsonb)');
SELECT es_create_upcaster('Moved', 1, 'lift_stable(jsonb)');
SELECT es_create_upcaster('Moved', 1, 'lift_text(jsonb)');
SELECT es_create_upcaster('Moved', 1, 'lift_two(jsonb, jsonb)');
SELECT es_create_upcaster('Moved', 1, 'lift_set(jsonb)');
SELECT es_create_upcaster('Moved', 0, 'lift_good(jsonb)');
SELECT es_create_upcaster('Moved', 2147483647, 'lift_good(jsonb)');
SELECT es_create_upcaster('Moved', 1, NULL);
SELECT es_create_upcaster(NULL, 1, 'lift_good(jsonb)');
SELECT es_create_upcaster('Moved', NULL, 'lift_good(jsonb)');
SELECT es_rename_type(NULL, 'A');
SELECT es_rename_type('A', NULL);
SELECT es_rename_type('A', '');
\set VERBOSITY terse
SET ROLE es_upcast_writer;
SELECT es_create_upcaster('Moved', 1, 'lift_good(jsonb)');
SELECT es_drop_upcaster('Named', 1);
SELECT es_rename_type('Moved', 'Went');
INSERT INTO es.upcasters VALUES ('Moved', 1, 'public.lift_good(jsonb)', '');
INSERT INTO es.renamed_types VALUES ('Moved', 'Went');
RESET ROLE;
\set VERBOSITY default
SELECT type, from_schema, function FROM es.upcasters ORDER BY 1, 2;

--
-- Rights: an upcaster runs as the owner, with the search_path of its creation
--
CREATE SCHEMA private;
CREATE FUNCTION private.helper() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'helped' $$;
SET search_path = private, public;
CREATE FUNCTION private.lift_who(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN jsonb_build_object('owner', current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'es.events'::regclass),
                                       'help', helper(), 'path', current_setting('search_path')); END $$;
SELECT es_create_upcaster('Who', 1, 'lift_who(jsonb)');
RESET search_path;
SELECT es_append('Who-1', 'Who', metadata => '{"$schema": 1}');
SELECT es_create_aggregate('Who', rules => '{"Who": {"$merge": "$"}}');
SET ROLE es_upcast_reader;
SET search_path = pg_temp, public;
SELECT data, current_user, current_setting('search_path') FROM es_read('Who-1');
SELECT * FROM es_load('Who-1');
RESET search_path;
RESET ROLE;
-- nobody's code can get back to the caller's rights
CREATE OR REPLACE FUNCTION private.lift_who(data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM set_config('role', 'none', false); RETURN data; END $$;
SELECT data FROM es_read('Who-1');
SELECT es_drop_upcaster('Who', 1);
DROP SCHEMA private CASCADE;

--
-- NULL drops an event: it is not read, but its version counts
--
CREATE FUNCTION drop_it(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN data ? 'keep' THEN data END $$;
SELECT es_append_events('Gone-1', '[{"type": "Noise"}, {"type": "Sound", "data": {"n": 1}}, {"type": "Noise"}, {"type": "Noise"},
    {"type": "Noise"}, {"type": "Noise", "data": {"keep": 1}}, {"type": "Sound", "data": {"n": 2}}, {"type": "Noise"}]');
SELECT es_create_upcaster('Noise', 1, 'drop_it(jsonb)');
SELECT es_create_aggregate('Gone', rules => '{"Sound": {"$inc": {"n": "$.n"}}, "Noise": {"$inc": {"noise": 1}}}');
SELECT version, type FROM es_read('Gone-1');
SELECT version, type FROM es_read_all(category => 'Gone');
SELECT * FROM es_load('Gone-1');
SELECT * FROM es_load('Gone-1', to_version => 1);
SELECT * FROM es_load('Gone-1', to_version => 5);
SELECT version, type, state_after FROM es_replay('Gone-1');
SELECT es_stream_version('Gone-1');
SELECT es_append('Gone-1', 'Sound', '{"n": 3}', expected_version => 8);
SELECT es_snapshot('Gone-1');
SELECT * FROM es_load('Gone-1');
-- a limit is about what is read: a page without events is the end
SELECT version, type FROM es_read('Gone-1', max_count => 1);
SELECT version, type FROM es_read('Gone-1', from_version => 3, max_count => 1);
SELECT version, type FROM es_read('Gone-1', from_version => 3, max_count => 2);
SELECT version, type FROM es_read('Gone-1', from_version => 8, max_count => 5);
SELECT version, type FROM es_read('Gone-1', to_version => 5, max_count => 1, backward => true);
SELECT version, type FROM es_read('Gone-1', to_version => 8, max_count => 2, backward => true);
SELECT version, type FROM es_read('Gone-1', max_count => 0);
SELECT version, type FROM es_read_all(category => 'Gone', max_count => 0);
WITH RECURSIVE page AS (
    SELECT e.position, e.version, e.type, 1 AS n
      FROM es_read_all(0, 1, category => 'Gone') e
    UNION ALL
    SELECT e.position, e.version, e.type, p.n + 1
      FROM page p CROSS JOIN LATERAL es_read_all(p.position, 1, category => 'Gone') e)
SELECT n, version, type FROM page ORDER BY n;
-- a subscription gets what there is
SELECT es_create_subscription('s', category => 'Gone');
SELECT version, type FROM es_fetch('s', 'me', max_count => 3);
SELECT es_drop_subscription('s');

--
-- Renamed types
--
SELECT es_append_events('Ren-1', '[{"type": "A", "data": {"n": 1}}, {"type": "B", "data": {"n": 2}}, {"type": "C", "data": {"n": 3}}]');
SELECT es_rename_type('A', 'B');
SELECT version, type, data FROM es_read('Ren-1');
SELECT es_rename_type('B', 'C');
SELECT version, type, data FROM es_read('Ren-1');
SELECT version, type FROM es.events WHERE stream = 'Ren-1' ORDER BY version;
-- whatever name is asked for
SELECT version, type FROM es_read_all(types => '{C}');
SELECT version, type FROM es_read_all(types => '{A}');
SELECT version, type FROM es_read_all(types => '{B,B}');
SELECT version, type FROM es_read_all(types => '{A,X,NULL}');
SELECT version, type FROM es_read_all(types => '{}');
-- no second name
SELECT es_rename_type('A', 'B');
SELECT es_rename_type('A', 'D');
SELECT es_rename_type('B', 'D');
-- back to a name that it had, without a circle
SELECT es_rename_type('C', 'A');
SELECT version, type FROM es_read('Ren-1');
SELECT es_rename_type('A', 'C');
SELECT version, type FROM es_read('Ren-1');
SELECT es_rename_type('C', 'B');
SELECT version, type FROM es_read('Ren-1');
-- taken back, one by one
SELECT es_rename_type('C', 'C');
SELECT version, type FROM es_read('Ren-1');
SELECT es_rename_type('A', 'A');
SELECT version, type FROM es_read('Ren-1');
SELECT es_rename_type('C', 'C');
SELECT es_rename_type('X', 'X');
SELECT es_rename_type('A', 'B');
SELECT es_rename_type('B', 'C');
SELECT es_rename_type('C', 'D');
SELECT version, type FROM es_read('Ren-1');
-- upcasters go along, whatever name they were made for
CREATE FUNCTION plus_10(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_build_object('n', (data->>'n')::int + 10) $$;
CREATE FUNCTION plus_100(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_build_object('n', (data->>'n')::int + 100) $$;
SELECT es_create_upcaster('B', 1, 'plus_10(jsonb)');
SELECT es_create_upcaster('D', 2, 'plus_100(jsonb)');
SELECT version, type, data, metadata FROM es_read('Ren-1');
SELECT es_append('Ren-1', 'D', '{"n": 4}');
SELECT es_append('Ren-1', 'A', '{"n": 5}');
SELECT version, type, data, metadata FROM es_read('Ren-1', 4);
SELECT version, type, data, metadata FROM es.events WHERE stream = 'Ren-1' AND version > 3 ORDER BY version;
SELECT es_create_aggregate('Ren', rules => '{"D": {"$push": {"d": "$.n"}}, "A": {"$push": {"a": "$.n"}}}');
SELECT * FROM es_load('Ren-1');
-- nor does it matter which name a projection asks for, inline or rebuilt
CREATE TABLE renamed (stream text, version bigint, type text);
SELECT es_create_projection('renamed', 'INSERT INTO renamed SELECT stream, version, type FROM new_events', '{renamed}', types => '{Old}');
SELECT es_append('Asked-1', 'Old');
SELECT es_rename_type('Old', 'New');
SELECT es_append('Asked-1', 'New');
SELECT es_append_events('Asked-1', '[{"type": "Old"}, {"type": "Other"}, {"type": "New"}]');
SELECT es_rename_type('New', 'Newer');
SET eventsourcing.log_path = 'spi';
SELECT es_append('Asked-1', 'Newer');
RESET eventsourcing.log_path;
SELECT es_append('Asked-1', 'Old');
SELECT version, type FROM renamed ORDER BY version;
CALL es_rebuild('renamed');
SELECT version, type FROM renamed ORDER BY version;
SELECT es_drop_projection('renamed');
-- two from one schema would leave open which is meant
SELECT es_create_upcaster('D', 1, 'plus_100(jsonb)');
SELECT es_create_upcaster('B', 1, 'plus_10(jsonb)');
SELECT es_create_upcaster('E', 2, 'plus_100(jsonb)');
SELECT es_rename_type('D', 'E');
SELECT es_rename_type('E', 'D');
SELECT es_drop_upcaster('E', 2);
SELECT es_rename_type('D', 'E');
SELECT version, type, data FROM es_read('Ren-1');
-- a circle made by hand: read as they were stored, without end
SELECT es_drop_upcaster('B', 1);
SELECT es_drop_upcaster('D', 2);
INSERT INTO es.renamed_types VALUES ('E', 'A');
SELECT version, type FROM es_read('Ren-1');
DELETE FROM es.renamed_types;
SELECT version, type FROM es_read('Ren-1');

SELECT es_drop_store('es', confirm => true);
DROP VIEW IF EXISTS stored;
DROP FUNCTION named_1, named_2, lift_volatile, lift_stable, lift_text, lift_two, lift_set, lift_good, drop_it, plus_10, plus_100;
DROP ROLE es_upcast_writer, es_upcast_reader;
