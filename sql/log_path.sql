-- The two ways into the log: which tables go the direct one, and that both do
-- the same.
\set VERBOSITY default
SET eventsourcing.log_path = 'auto';
SET eventsourcing.store = 'log_path';
SELECT es_create_store('log_path');

-- One result, whichever way: an append, a batch, ids, tags, what is toasted,
-- several appends in one statement, the errors.
CREATE TABLE outcome (way text, version bigint, type text, data text, metadata jsonb, event_id uuid, tags text[]);
CREATE FUNCTION exercise(way text) RETURNS TABLE (step text, result text) LANGUAGE plpgsql AS $$
DECLARE
    stream text := 'Test-' || way;
    call text;
BEGIN
    PERFORM set_config('eventsourcing.log_path', way, true);
    FOR step, call IN VALUES
        ('new', $c$ es_append($1, 'A', '{"n": 1}', 0) $c$),
        ('next', $c$ es_append($1, 'B', '{"n": 2}', 1, '{"m": 1}', NULL, '{x,y}') $c$),
        ('stale', $c$ es_append($1, 'C', '{}', 1) $c$),
        ('ahead', $c$ es_append($1, 'C', '{}', 7) $c$),
        ('not new', $c$ es_append($1, 'C', '{}', 0) $c$),
        ('not there', $c$ es_append($1 || 'x', 'C', '{}', -1) $c$),
        ('id', $c$ es_append($1, 'D', '{"n": 3}', -1, event_id => '00000000-0000-0000-0000-000000000001') $c$),
        ('id again', $c$ es_append($1, 'D', '{"n": 3}', 2, event_id => '00000000-0000-0000-0000-000000000001') $c$),
        ('id misused', $c$ es_append($1, 'E', '{"n": 3}', event_id => '00000000-0000-0000-0000-000000000001') $c$),
        ('batch', $c$ es_append_events($1, '[{"type": "F", "event_id": "00000000-0000-0000-0000-000000000002"},
                                             {"type": "G", "data": [1], "tags": ["z"]},
                                             {"type": "H", "metadata": {"m": 2}, "event_id": "00000000-0000-0000-0000-000000000003"}]', 3) $c$),
        ('batch again', $c$ es_append_events($1, '[{"type": "F", "event_id": "00000000-0000-0000-0000-000000000002"},
                                             {"type": "H", "event_id": "00000000-0000-0000-0000-000000000003"}]') $c$),
        ('partly', $c$ es_append_events($1, '[{"type": "F", "event_id": "00000000-0000-0000-0000-000000000002"},
                                             {"type": "I", "event_id": "00000000-0000-0000-0000-000000000004"}]') $c$),
        ('two at once', $c$ es_append($1, 'J') || ', ' || es_append($1, 'K') $c$),
        ('large', $c$ es_append($1, 'L', jsonb_build_object('k', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i))) $c$),
        ('many', $c$ es_append_events($1, (SELECT jsonb_agg(jsonb_build_object('type', 'M', 'data', i)) FROM generate_series(1, 1000) i)) $c$),
        ('huge', $c$ es_append_events($1, (SELECT jsonb_agg(jsonb_build_object('type', 'N', 'data', repeat(md5(i::text), 200))) FROM generate_series(1, 30) i)) $c$),
        ('empty', $c$ es_append_events($1, '[]', 1039) $c$),
        ('version', $c$ es_stream_version($1) $c$),
        ('read', $c$ (SELECT string_agg(version || type, ' ' ORDER BY version) FROM es_read($1, 3, 5)) $c$),
        ('backward', $c$ (SELECT string_agg(version || type, ' ') FROM es_read($1, to_version => 12, max_count => 3, backward => true)) $c$),
        ('none', $c$ (SELECT count(*) FROM es_read($1, max_count => 0)) $c$),
        ('inverted', $c$ (SELECT count(*) FROM es_read($1, 5, 3)) $c$)
    LOOP
        BEGIN
            EXECUTE 'SELECT (' || call || ')::text' INTO result USING stream;
        EXCEPTION WHEN OTHERS THEN
            result := SQLSTATE;
        END;
        RETURN NEXT;
    END LOOP;
    INSERT INTO outcome
    SELECT way, e.version, e.type, e.data::text, e.metadata, e.event_id, e.tags
      FROM es_read(stream) e;
END $$;
SELECT step, h.result AS heap, s.result AS spi
  FROM exercise('heap') WITH ORDINALITY h (step, result, n)
  FULL JOIN exercise('spi') s USING (step)
 ORDER BY n;
SELECT count(*) FROM outcome;
SELECT version, type, data, metadata, event_id, tags FROM outcome WHERE way = 'heap'
EXCEPT ALL
SELECT version, type, data, metadata, event_id, tags FROM outcome WHERE way = 'spi';

-- Indexes find what is there, and nothing else is.
SET enable_seqscan = off;
SELECT count(*), max(position) = es_head_position() AS head FROM log_path.events WHERE position > 0;
SELECT count(*) FROM log_path.events WHERE event_id IS NOT NULL;
RESET enable_seqscan;

-- What keeps from the direct way, and that the other one is taken.
CREATE PROCEDURE check_obstacle(how text, undo text) LANGUAGE plpgsql AS $$
DECLARE
    reason text;
    version bigint;
BEGIN
    EXECUTE how;
    BEGIN
        SET LOCAL eventsourcing.log_path = 'heap';
        PERFORM es_append('Obstacle-1', 'A');
        reason := 'none';
    EXCEPTION WHEN feature_not_supported THEN
        GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
    END;
    SET LOCAL eventsourcing.log_path = 'auto';
    version := es_append('Obstacle-1', 'A', metadata => '{}', event_id => gen_random_uuid());
    RAISE NOTICE '%: % (version %)', how, reason, version;
    EXECUTE undo;
END $$;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE other (id text COLLATE "C" PRIMARY KEY);
INSERT INTO other VALUES ('Obstacle-1');
CALL check_obstacle('SELECT', 'SELECT');
CALL check_obstacle('CREATE TRIGGER t BEFORE INSERT ON log_path.events FOR EACH ROW EXECUTE FUNCTION noop()', 'DROP TRIGGER t ON log_path.events');
CALL check_obstacle('CREATE TRIGGER t AFTER INSERT ON log_path.events FOR EACH ROW EXECUTE FUNCTION noop()', 'ALTER TABLE log_path.events DISABLE TRIGGER t');
CALL check_obstacle('SELECT', 'DROP TRIGGER t ON log_path.events');
CALL check_obstacle('CREATE TRIGGER t BEFORE INSERT ON log_path.events FOR EACH STATEMENT EXECUTE FUNCTION noop()', 'DROP TRIGGER t ON log_path.events');
CALL check_obstacle('ALTER TABLE log_path.events ADD CHECK (version > 0)', 'ALTER TABLE log_path.events DROP CONSTRAINT events_version_check');
CALL check_obstacle('ALTER TABLE log_path.events ADD FOREIGN KEY (stream) REFERENCES other NOT VALID', 'ALTER TABLE log_path.events DROP CONSTRAINT events_stream_fkey');
CALL check_obstacle('DROP INDEX log_path.events_position_idx', 'CREATE INDEX ON log_path.events (position)');
CALL check_obstacle('SELECT', 'SELECT');
-- these leave their mark on the table
CALL check_obstacle('CREATE RULE r AS ON INSERT TO log_path.events DO ALSO NOTHING', 'DROP RULE r ON log_path.events');
SELECT es_drop_store('log_path', confirm => true);
SELECT es_create_store('log_path');
CALL check_obstacle('CREATE TABLE log_path.child () INHERITS (log_path.events)', 'DROP TABLE log_path.child');
SELECT es_drop_store('log_path', confirm => true);
SELECT es_create_store('log_path');
CALL check_obstacle('ALTER TABLE log_path.events ALTER metadata SET NOT NULL', 'ALTER TABLE log_path.events ALTER metadata DROP NOT NULL');
CALL check_obstacle('ALTER TABLE log_path.events ADD added int DEFAULT 7', 'ALTER TABLE log_path.events DROP added');
SELECT es_drop_store('log_path', confirm => true);
SELECT es_create_store('log_path');

-- Further indexes of any kind are filled; a unique one's complaint is PostgreSQL's own.
SET eventsourcing.log_path = 'heap';
CREATE INDEX by_number ON log_path.events (((data ->> 'number')::int)) WHERE type = 'Numbered';
CREATE INDEX by_tag ON log_path.events USING gin (tags);
CREATE INDEX by_block ON log_path.events USING brin (recorded_at);
CREATE UNIQUE INDEX by_email ON log_path.events ((data ->> 'email')) WHERE type = 'Registered';
SELECT es_append('User-1', 'Registered', '{"email": "a@example.com"}');
SELECT es_append_events('User-2', '[{"type": "Registered", "data": {"email": "b@example.com"}, "tags": ["t"]},
                                    {"type": "Numbered", "data": {"number": 5}, "tags": ["t"]}]');
SELECT es_append('User-3', 'Registered', '{"email": "a@example.com"}');
SELECT es_append_events('User-3', '[{"type": "Numbered", "data": {"number": 6}}, {"type": "Registered", "data": {"email": "b@example.com"}}]');
SELECT es_append('User-4', 'Numbered', '{"number": "no number"}');
SET enable_seqscan = off;
SELECT stream, version FROM log_path.events WHERE type = 'Numbered' AND (data ->> 'number')::int BETWEEN 1 AND 9;
SELECT stream, version FROM log_path.events WHERE tags @> '{t}' ORDER BY stream, version;
SELECT stream, version FROM log_path.events WHERE data ->> 'email' = 'b@example.com' AND type = 'Registered';
RESET enable_seqscan;
REINDEX TABLE CONCURRENTLY log_path.events;
SELECT es_append('User-4', 'Numbered', '{"number": 7}');
DROP INDEX log_path.by_number, log_path.by_tag, log_path.by_block, log_path.by_email;

-- AFTER STATEMENT triggers see a batch as one statement, and may append in turn.
CREATE TABLE seen (n int, rows text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen SELECT count(*), string_agg(stream || '@' || version, ' ' ORDER BY position) FROM new_rows;
    IF EXISTS (SELECT FROM new_rows WHERE type = 'Chain') THEN
        PERFORM es_append('Chained-1', 'Link', '{}', 0);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER see AFTER INSERT ON log_path.events REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION see();
SELECT es_append('User-5', 'A');
SELECT es_append_events('User-5', '[{"type": "B"}, {"type": "Chain"}, {"type": "C"}]');
SELECT es_append('User-5', 'A', '{}', 0);
SELECT * FROM seen ORDER BY rows;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER see2 AFTER INSERT ON log_path.events FOR EACH STATEMENT EXECUTE FUNCTION refuse();
SELECT es_append('User-5', 'D');
SELECT es_stream_version('User-5');
DROP TRIGGER see ON log_path.events;
DROP TRIGGER see2 ON log_path.events;

-- Rights and row security.
CREATE ROLE log_path_writer;
CREATE ROLE log_path_columns;
SELECT es_grant('log_path_writer', 'writer');
GRANT USAGE ON SCHEMA log_path TO log_path_columns;
GRANT SELECT (position, stream, version, type, data, metadata, event_id, tags, recorded_at) ON log_path.events TO log_path_columns;
SET ROLE log_path_columns;
SELECT count(*) FROM es_read('User-5');
SET eventsourcing.log_path = 'auto';
SELECT count(*) FROM es_read('User-5');
SELECT es_append('User-5', 'D');
RESET ROLE;
ALTER TABLE log_path.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON log_path.events TO log_path_writer USING (stream LIKE 'Mine-%');
SET ROLE log_path_writer;
SELECT es_append('Mine-1', 'A');
SELECT es_append('User-5', 'A');
SELECT stream FROM es_read('User-5') UNION ALL SELECT stream FROM es_read('Mine-1');
SET eventsourcing.log_path = 'heap';
SELECT es_append('Mine-1', 'A');
RESET ROLE;
SELECT es_append('Mine-1', 'A');
ALTER TABLE log_path.events DISABLE ROW LEVEL SECURITY;

-- Read-only transactions.
BEGIN READ ONLY;
SELECT es_stream_version('Mine-1');
SELECT es_append('Mine-1', 'A');
ROLLBACK;

RESET eventsourcing.log_path;
DROP OWNED BY log_path_writer, log_path_columns;
DROP ROLE log_path_writer, log_path_columns;
SELECT es_drop_store('log_path', confirm => true);
DROP TABLE outcome, other, seen;
DROP FUNCTION exercise, noop, see, refuse;
DROP PROCEDURE check_obstacle;
RESET eventsourcing.store;
