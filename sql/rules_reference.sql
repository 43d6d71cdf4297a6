-- Rules against a slow reference: the same operators once more, in PL/pgSQL
-- over immutable jsonb, compared on random rules, states and events.
SET client_min_messages = warning;
SET timezone = 'UTC';
\getenv source PG_ABS_SRCDIR
\set reference :source '/test/lib/rules_reference.sql'
\set ECHO none
\i :reference
\set ECHO all

SELECT same > 1000 AS results_compared, errors > 100 AS errors_compared, different FROM compare(4000, 0.15);

SELECT es_create_store('rules_reference');
SET eventsourcing.store = 'rules_reference';
SELECT events > 500 AS compared, different FROM compare_folds(40, 0.7);

RESET eventsourcing.store;
SELECT es_drop_store('rules_reference', confirm => true);
DROP SCHEMA reference CASCADE;
