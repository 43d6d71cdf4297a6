-- Snapshots are found by their index where that makes no difference: whatever is
-- done to their table, both ways find the same.  The snapshots here are forged,
-- so that a load tells which it began with.
-- some of it cannot be done the direct way
DO $$ BEGIN IF current_setting('eventsourcing.log_path', true) = 'heap' THEN SET eventsourcing.log_path = 'auto'; END IF; END $$;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset format unaligned
SET client_min_messages = warning;
CREATE ROLE regress_es_finder;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_es_finder', current_database()); END $$;
CREATE SCHEMA finder AUTHORIZATION regress_es_finder;
GRANT USAGE ON SCHEMA public TO regress_es_finder;
SET ROLE regress_es_finder;
SET search_path = finder, public;
SELECT es_create_store('found');
SET eventsourcing.store = 'found';
SELECT es_create_aggregate('A', rules => '{"E": {"$inc": {"n": 1}}}', snapshot_every => 0);
SELECT max(es_append('A-' || s, 'E')) FROM generate_series(1, 3) s, generate_series(1, 6);
-- a snapshot of version v counts v hundreds
CREATE FUNCTION forge(stream text, version bigint, fingerprint bytea DEFAULT es_fingerprint('A')) RETURNS void LANGUAGE sql AS $$
    INSERT INTO found.snapshots (stream, version, state, recorded_at, fingerprint)
    SELECT e.stream, e.version, jsonb_build_object('n', 100 * e.version), e.recorded_at, $3
      FROM found.events e WHERE (e.stream, e.version) = ($1, $2)
$$;
SELECT forge('A-' || s, v) FROM generate_series(1, 2) s, generate_series(2, 4, 2) v;
-- what loads to versions 1, 3 and 6 come to, the direct way and by a plan
CREATE FUNCTION loaded(name text, path text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('eventsourcing.log_path', path, true);
    RETURN (SELECT string_agg(state->>'n', ' ' ORDER BY v) FROM unnest('{1,3,6}'::int[]) v, es_load(name, v));
EXCEPTION WHEN insufficient_privilege OR object_not_in_prerequisite_state THEN
    RETURN SQLERRM;
END
$$;
CREATE VIEW shown AS
    SELECT string_agg(directly, ', ' ORDER BY name) AS found,
           string_agg(CASE by_plan WHEN directly THEN 'too' ELSE by_plan END, ', ' ORDER BY name) AS by_plan
      FROM unnest('{A-1,A-2,A-3}'::text[]) name, loaded(name, 'auto') directly, loaded(name, 'spi') by_plan;
TABLE shown;

-- by other code: another, one that begins with ours, one that ours begins with
SELECT forge('A-1', 5, sha256('')), forge('A-2', 5, es_fingerprint('A') || '\x00'), forge('A-3', 5, substr(es_fingerprint('A'), 1, 31));
TABLE shown;
DELETE FROM found.snapshots WHERE version = 5;
-- as of a time: the same as the version that was the last by then
SELECT count(*) FROM (SELECT set_config('eventsourcing.log_path', path, false) FROM unnest('{auto,spi}'::text[]) path) p,
       found.events e, es_load(e.stream, as_of => e.recorded_at) t, es_load(e.stream, t.version) v WHERE t.state <> v.state;
RESET eventsourcing.log_path;

-- another index in place of the primary key's, or beside it
BEGIN;
ALTER TABLE found.snapshots DROP CONSTRAINT snapshots_pkey;
TABLE shown;
SAVEPOINT s;
CREATE UNIQUE INDEX ON found.snapshots (stream, version DESC);
TABLE shown;
ROLLBACK TO s;
CREATE UNIQUE INDEX ON found.snapshots (stream, version) WHERE version < 4;
TABLE shown;
ROLLBACK TO s;
CREATE UNIQUE INDEX ON found.snapshots (version, stream);
TABLE shown;
ROLLBACK TO s;
CREATE UNIQUE INDEX ON found.snapshots (lower(stream), version);
TABLE shown;
ROLLBACK TO s;
CREATE UNIQUE INDEX ON found.snapshots (stream, (-version));
TABLE shown;
ROLLBACK TO s;
CREATE INDEX ON found.snapshots USING hash (stream);
TABLE shown;
ROLLBACK TO s;
CREATE UNIQUE INDEX ON found.snapshots (stream text_pattern_ops, version) INCLUDE (state);
TABLE shown;
ROLLBACK TO s;
CREATE INDEX ON found.snapshots (stream, version);
TABLE shown;
ROLLBACK;
TABLE shown;
CREATE INDEX partial ON found.snapshots (stream, version) WHERE version < 4;
CREATE INDEX falling ON found.snapshots (stream DESC, version DESC);
TABLE shown;
DROP INDEX found.partial, found.falling;
TABLE shown;
-- one that could not be built has nothing in it
ALTER TABLE found.snapshots DROP CONSTRAINT snapshots_pkey;
INSERT INTO found.snapshots SELECT 'B-1', 1, '{}', now(), now(), '' FROM generate_series(1, 2);
CREATE UNIQUE INDEX CONCURRENTLY half_built ON found.snapshots (stream, version);
TABLE shown;
DELETE FROM found.snapshots WHERE stream = 'B-1';
REINDEX INDEX found.half_built;
TABLE shown;
ALTER TABLE found.snapshots ADD PRIMARY KEY USING INDEX half_built;
TABLE shown;
-- made anew under our hands
REINDEX TABLE found.snapshots;
TABLE shown;
REINDEX TABLE CONCURRENTLY found.snapshots;
TABLE shown;
CLUSTER found.snapshots USING half_built;
TABLE shown;

-- the table: emptied, with other columns, of another collation
BEGIN;
TRUNCATE found.snapshots;
TABLE shown;
SAVEPOINT s;
SELECT forge('A-1', 3);
TABLE shown;
ROLLBACK TO s;
TABLE shown;
ROLLBACK;
TABLE shown;
BEGIN;
ALTER TABLE found.snapshots ADD COLUMN note text DEFAULT 'x', DROP COLUMN taken_at, ADD COLUMN taken_at timestamptz NOT NULL DEFAULT now();
TABLE shown;
SELECT forge('A-3', 5);
TABLE shown;
ALTER TABLE found.snapshots ALTER COLUMN stream TYPE text COLLATE "POSIX";
TABLE shown;
ROLLBACK;
BEGIN;
ALTER TABLE found.snapshots RENAME COLUMN fingerprint TO print;
TABLE shown;
ROLLBACK;
BEGIN;
ALTER TABLE found.snapshots ALTER COLUMN state TYPE text;
TABLE shown;
ROLLBACK;
-- another of its name
BEGIN;
ALTER TABLE found.snapshots RENAME TO snapshots_before;
TABLE shown;
CREATE TABLE found.snapshots (LIKE found.snapshots_before INCLUDING ALL);
TABLE shown;
SELECT forge('A-1', 3);
TABLE shown;
ROLLBACK;
TABLE shown;
-- one that inherits from it
BEGIN;
CREATE TABLE finder.more () INHERITS (found.snapshots);
INSERT INTO finder.more SELECT stream, 5, '{"n": 500}', taken_at, recorded_at, fingerprint FROM found.snapshots WHERE stream = 'A-1' AND version = 4;
TABLE shown;
ROLLBACK;
TABLE shown;

-- row security that its owner is subject to
CREATE POLICY older ON found.snapshots USING (version < 4);
ALTER TABLE found.snapshots ENABLE ROW LEVEL SECURITY;
TABLE shown;
ALTER TABLE found.snapshots FORCE ROW LEVEL SECURITY;
TABLE shown;
ALTER TABLE found.snapshots DISABLE ROW LEVEL SECURITY;
TABLE shown;
-- rights that he took from himself
REVOKE SELECT ON found.snapshots FROM regress_es_finder;
TABLE shown;
GRANT SELECT (stream) ON found.snapshots TO regress_es_finder;
TABLE shown;
GRANT SELECT ON found.snapshots TO regress_es_finder;
TABLE shown;

-- a state of a megabyte, in the table's toast: loaded, folded on and taken again
UPDATE found.snapshots SET state = state || jsonb_build_object('text', (SELECT string_agg(sha256(i::text::bytea)::text, '') FROM generate_series(1, 15000) i))
 WHERE stream = 'A-1' AND version = 4;
SELECT pg_column_size(state) > 100000 AS toasted FROM found.snapshots WHERE (stream, version) = ('A-1', 4);
SELECT path, l.version, l.state->>'n' AS n, l.state->>'text' = s.state->>'text' AS whole
  FROM unnest('{auto,spi}'::text[]) path, set_config('eventsourcing.log_path', path, false),
       es_load('A-1') l, found.snapshots s WHERE (s.stream, s.version) = ('A-1', 4) ORDER BY path;
RESET eventsourcing.log_path;
SELECT es_alter_aggregate('A', snapshot_every => 7);
SELECT es_append('A-1', 'E');
SELECT version, state->>'n' AS n, length(state->>'text') AS length FROM found.snapshots WHERE stream = 'A-1' ORDER BY version;

RESET ROLE;
SELECT es_drop_store('found', true);
RESET eventsourcing.store;
RESET search_path;
DROP SCHEMA finder CASCADE;
REVOKE ALL ON SCHEMA public FROM regress_es_finder;
DROP OWNED BY regress_es_finder;
DROP ROLE regress_es_finder;
