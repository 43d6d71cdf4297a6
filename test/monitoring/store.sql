-- A store with something to show in every panel.
CREATE EXTENSION eventsourcing;
SELECT es_create_store();
CREATE TABLE totals (stream text PRIMARY KEY, n int);
SELECT es_create_projection('totals', 'INSERT INTO totals SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = totals.n + 1',
                            tables => '{totals}');
CREATE TABLE later (position bigint);
SELECT es_create_projection('later', 'INSERT INTO later SELECT position FROM new_events', tables => '{later}', mode => 'async');
SELECT es_create_subscription('mail', max_attempts => 1);
SELECT es_append('Order-' || i % 3, 'Happened') FROM generate_series(1, 30) i;
SELECT es_schedule(now() - interval '10 minutes', 'Order-1', 'Late');
SELECT count(*) FROM es_fetch('mail', 'a', 1);
SELECT es_nack('mail', 'a', min(position), 'for the dashboard', park => true) FROM es.events;
SELECT count(*) FROM es_fetch('mail', 'a', 2, '1 hour');
-- as if a rebuild was under way
INSERT INTO es.rebuilds (projection, phase, position, done, total, shadows) VALUES ('later', 'filling', 1, 3, 12, '{}');
