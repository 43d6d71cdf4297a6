-- what a session remembers of a stream's tip spares a look, and is never believed
-- against the table: after each of these the stream has no gap and no event twice
SET client_min_messages = warning;
SELECT es_create_store();
CREATE FUNCTION versions(name text) RETURNS bigint[] LANGUAGE sql AS
    'SELECT array_agg(version ORDER BY version) FROM es_read(name)';

-- appended, and known
SELECT es_append('A-1', 'A', expected_version => 0);
SELECT es_append('A-1', 'B', expected_version => 1);
SELECT es_append('A-1', 'C', expected_version => 1);
SELECT es_append('A-1', 'C', expected_version => 3);
SELECT versions('A-1');

-- taken back: by a transaction, a savepoint, an error within a block
BEGIN;
SELECT es_append('A-1', 'C', expected_version => 2);
ROLLBACK;
SELECT es_append('A-1', 'D', expected_version => 3);
BEGIN;
SELECT es_append('A-1', 'C', expected_version => 2);
SAVEPOINT s;
SELECT es_append('A-1', 'D', expected_version => 3);
ROLLBACK TO s;
SAVEPOINT t;
SELECT es_append('A-1', 'E', expected_version => 4);
ROLLBACK TO t;
SELECT es_append('A-1', 'E', expected_version => 3);
COMMIT;
DO $$
BEGIN
    BEGIN
        PERFORM es_append('A-1', 'F', expected_version => 4);
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        NULL;
    END;
    PERFORM es_append('A-1', 'G', expected_version => 5);
EXCEPTION WHEN SQLSTATE 'ZE001' THEN
    RAISE WARNING '%', SQLERRM;
END
$$;
SELECT versions('A-1');

-- more than are told apart
BEGIN;
SELECT sum(es_append('Many-' || i, 'A', expected_version => 0)) FROM generate_series(1, 200) i;
ROLLBACK;
SELECT es_append('Many-200', 'A', expected_version => 1);
SELECT es_append('A-1', 'F', expected_version => 4);

-- names as long as they get, which are not remembered, and names that begin alike
SELECT es_append('C-' || repeat('x', n), 'A', expected_version => 0) FROM unnest('{59, 60, 61, 500}'::int[]) n;
SELECT es_append('C-' || repeat('x', n), 'B', expected_version => 1) FROM unnest('{59, 60, 61, 500}'::int[]) n;
SELECT es_append('C-' || repeat('x', n), 'C', expected_version => 3) FROM unnest('{59}'::int[]) n;
SELECT es_append('C-' || repeat('x', n), 'C', expected_version => 3) FROM unnest('{500}'::int[]) n;
SELECT count(*), max(version) FROM es.events WHERE stream LIKE 'C-%';

-- the same names in another store, and in one made anew
SELECT es_create_store('other');
SET eventsourcing.store = other;
SELECT es_append('A-1', 'A', expected_version => 5);
SELECT es_append('A-1', 'A', expected_version => 0);
SELECT es_drop_store('other', confirm => true);
SELECT es_create_store('other');
SELECT es_append('A-1', 'B', expected_version => 1);
RESET eventsourcing.store;

-- more streams than are remembered: one is not taken for another
SELECT sum(es_append('D-' || i, 'A', expected_version => 0)) FROM generate_series(1, 20000) i;
SELECT sum(es_append('D-' || i, 'B', expected_version => 1)) FROM generate_series(1, 20000, 2) i;
DO $$
BEGIN
    FOR i IN 2 .. 20000 BY 20 LOOP
        BEGIN
            PERFORM es_append('D-' || i, 'C', expected_version => 2);
            RAISE WARNING 'a gap in D-%', i;
        EXCEPTION WHEN SQLSTATE 'ZE001' THEN
            NULL;
        END;
    END LOOP;
END
$$;

-- removed by an owner who went past the guard, and put it back or did not
SELECT count(*) FROM es_read('A-1');
BEGIN;
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
DELETE FROM es.events WHERE stream = 'A-1' AND version > 3;
ALTER TABLE es.events ENABLE ALWAYS TRIGGER es_guard_change;
COMMIT;
SELECT es_append('A-1', 'F', expected_version => 5);
ALTER TABLE es.events DISABLE TRIGGER es_guard_change;
SELECT es_append('A-1', 'D', expected_version => 3);
DELETE FROM es.events WHERE stream = 'A-1' AND version > 3;
SELECT es_append('A-1', 'E', expected_version => 4);
ALTER TABLE es.events ENABLE ALWAYS TRIGGER es_guard_change;
SELECT versions('A-1');

-- nor is what is known of a store taken for the same store's under another name
SET eventsourcing.store = 'other';
DO $$ BEGIN FOR i IN 1 .. 30 LOOP ALTER TABLE other.events SET (fillfactor = 100); PERFORM es_append('E-0', 'A'); END LOOP; END $$;
SELECT sum(es_append('E-' || i, 'A', expected_version => 0)) FROM generate_series(1, 60) i;
SELECT sum(es_append('E-' || i, 'B', expected_version => 1)) FROM generate_series(1, 60) i;
ALTER SCHEMA other RENAME TO renamed;
SET eventsourcing.store = 'renamed';
ALTER TABLE renamed.events DISABLE TRIGGER es_guard_change;
DELETE FROM renamed.events WHERE stream <> 'E-0' AND version > 1;
ALTER TABLE renamed.events ENABLE ALWAYS TRIGGER es_guard_change;
DO $$
BEGIN
    FOR i IN 1 .. 60 LOOP
        ALTER TABLE renamed.events SET (fillfactor = 100);
        PERFORM es_append('E-0', 'A');
        BEGIN
            PERFORM es_append('E-' || i, 'C', expected_version => 2);
            RAISE WARNING 'a gap';
        EXCEPTION WHEN SQLSTATE 'ZE001' THEN
            NULL;
        END;
    END LOOP;
END
$$;
SET eventsourcing.store = 'es';

-- a new stream of the same name as one that was taken back, and one that is there
BEGIN;
SELECT es_append('B-1', 'A', expected_version => 0);
SELECT es_append('B-1', 'B', expected_version => 0);
ROLLBACK;
SELECT es_append('B-1', 'A', expected_version => 0);
SELECT es_append('B-1', 'B', expected_version => 0);
SELECT versions('B-1');
SELECT * FROM es_verify();
DROP FUNCTION versions;
SELECT es_drop_store('es', confirm => true), es_drop_store('renamed', confirm => true);
