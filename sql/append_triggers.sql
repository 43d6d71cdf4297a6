-- Appending to a log that has a user's own triggers.
\set VERBOSITY terse
SET eventsourcing.log_path = 'auto';
SELECT es_create_store();
SELECT es_create_store('other');
SELECT es_append('A-1', 'Created');

-- A row trigger that suppresses an event: an error, not a lost event.
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.type = 'Suppressed' THEN RETURN NULL; END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER suppress BEFORE INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION suppress();
SELECT es_append('A-1', 'Taken');
\set VERBOSITY default
SELECT es_append('A-1', 'Suppressed');
\set VERBOSITY terse
SELECT es_append('A-1', 'Suppressed', expected_version => 2);
SELECT es_append_events('A-1', '[{"type": "Suppressed"}, {"type": "Taken"}, {"type": "Taken"}]');
SELECT es_append_events('A-1', '[{"type": "Taken"}, {"type": "Suppressed"}, {"type": "Taken"}]');
SELECT es_append_events('A-1', '[{"type": "Taken"}, {"type": "Suppressed"}]');
SELECT es_append_events('A-1', '[{"type": "Taken"}, {"type": "Taken"}, {"type": "Taken"}]');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT s;
SELECT es_append('A-1', 'Suppressed');
ROLLBACK TO s;
SELECT es_append_events('A-1', '[{"type": "Taken"}, {"type": "Suppressed"}]');
ROLLBACK TO s;
SELECT es_append_events('A-1', '[{"type": "Taken"}, {"type": "Taken"}]');
COMMIT;
SELECT version, type FROM es.events ORDER BY version;
DROP TRIGGER suppress ON es.events;

-- A row trigger that appends, to the same stream and to others.
CREATE FUNCTION follow_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.type = 'Paid' THEN
        PERFORM es_append(NEW.stream, 'Thanked ' || lower(TG_WHEN));
        PERFORM es_append('B-1', 'Booked ' || lower(TG_WHEN));
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER follow_up BEFORE INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION follow_up();
SELECT es_append('A-2', 'Paid');
SELECT stream, version, type FROM es.events WHERE stream IN ('A-2', 'B-1') ORDER BY stream, version;
DROP TRIGGER follow_up ON es.events;
CREATE TRIGGER follow_up AFTER INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION follow_up();
SELECT es_append('A-3', 'Paid');
SELECT stream, version, type FROM es.events WHERE stream IN ('A-3', 'B-1') ORDER BY stream, version;
DROP TRIGGER follow_up ON es.events;

-- A statement trigger that fires before the guard's, and appends elsewhere.
CREATE FUNCTION elsewhere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL eventsourcing.store = 'other';
    PERFORM es_append('A-1', 'Copied');
    SET LOCAL eventsourcing.store = 'es';
    RETURN NULL;
END
$$;
CREATE TRIGGER a_elsewhere BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION elsewhere();
SELECT es_append('A-4', 'Created');
SELECT count(*) FROM other.events;
DROP TRIGGER a_elsewhere ON es.events;

-- One that fails there leaves the guard's door closed.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused';
END
$$;
CREATE TRIGGER a_refuse BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION refuse();
SELECT es_append('A-5', 'Created');
DROP TRIGGER a_refuse ON es.events;
INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (1000, 1, now(), 'A-5', 'Created', '{}');
SELECT es_append('A-5', 'Created');
-- and nor does a trigger get in by the side of an append
CREATE FUNCTION smuggle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (1000, 1, now(), 'A-6', 'Created', '{}');
    RETURN NULL;
END
$$;
CREATE TRIGGER smuggle AFTER INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION smuggle();
SELECT es_append('A-5', 'Changed');
DROP TRIGGER smuggle ON es.events;

-- A unique index of the user's own is an ordinary unique violation.
CREATE UNIQUE INDEX ON es.events ((data->>'email'));
SELECT es_append('U-1', 'Registered', '{"email": "ada@example.com"}');
SELECT es_append('U-2', 'Registered', '{"email": "ada@example.com"}');
SELECT es_append_events('U-2', '[{"type": "Invited"}, {"type": "Registered", "data": {"email": "ada@example.com"}}]');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('U-2', 'Registered', '{"email": "ada@example.com"}');
ROLLBACK;
SELECT es_append('U-2', 'Registered', '{"email": "grace@example.com"}');
SELECT stream, version FROM es.events WHERE stream LIKE 'U-%' ORDER BY stream;

SELECT es_drop_store('es', true);
SELECT es_drop_store('other', true);
DROP FUNCTION suppress, follow_up, elsewhere, refuse, smuggle;
