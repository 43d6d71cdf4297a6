-- What consumers of events have to have got, in plain SQL: for
-- test/t/consumers_fuzz.pl.

CREATE SCHEMA reference;
SET search_path = reference, public;

-- Every consumer, with what it is to get.
CREATE TABLE consumers (
    name     text PRIMARY KEY,
    kind     text NOT NULL,                 -- projection, handler, subscription
    category text,
    types    text[],
    tags     text[],
    after    bigint NOT NULL                -- begins behind this position
);

-- What is not taken in as long as it is in here.
CREATE TABLE traps (name text, stream text, version bigint);
CREATE FUNCTION fall(consumer text, of_stream text, of_version bigint) RETURNS void LANGUAGE plpgsql AS $_$
BEGIN
    IF EXISTS (SELECT FROM reference.traps WHERE (name, stream, version) = (consumer, of_stream, of_version)) THEN
        RAISE 'trapped';
    END IF;
END $_$;

-- What a subscription was given by one fetch, in that order, and what is done.
CREATE TABLE delivered (n bigint, batch int, name text, consumer text, position bigint, stream text, version bigint, type text);
CREATE TABLE done (name text, position bigint, PRIMARY KEY (name, position));

-- The log as it is read: a type was renamed, and is found under either name; an
-- upcaster drops some of the events that were there before it.
CREATE FUNCTION lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $_$ SELECT CASE WHEN NOT data ? 'drop' THEN data END $_$;
CREATE FUNCTION readable() RETURNS TABLE ("position" bigint, stream text, version bigint, type text, tags text[]) LANGUAGE plpgsql AS $_$
BEGIN
    RETURN QUERY
        SELECT e.position, e.stream, e.version, CASE e.type WHEN 'W' THEN 'Z' ELSE e.type END, e.tags FROM es.events e
         WHERE NOT (e.type = 'D' AND e.data ? 'drop' AND NOT coalesce(e.metadata ? '$schema', false));
END $_$;

CREATE FUNCTION wanted(consumer text) RETURNS TABLE ("position" bigint, stream text, version bigint, type text) LANGUAGE sql AS $_$
    SELECT e.position, e.stream, e.version, e.type
      FROM reference.consumers c, reference.readable() e
     WHERE c.name = consumer AND e.position > c.after
       AND (c.category IS NULL OR split_part(e.stream, '-', 1) = c.category)
       AND (c.types IS NULL OR e.type = ANY (array_replace(c.types, 'W', 'Z')))
       AND (c.tags IS NULL OR coalesce(e.tags, '{}') @> c.tags)
$_$;

-- What of that a projection or a handler has not got to yet.
CREATE FUNCTION pending(consumer text) RETURNS TABLE (stream text, version bigint) LANGUAGE plpgsql AS $_$
BEGIN
    RETURN QUERY SELECT w.stream, w.version FROM reference.wanted(consumer) w
                  WHERE w.position > (SELECT p.position FROM es.projections p WHERE p.name = consumer
                                      UNION ALL SELECT s.position FROM es.subscriptions s WHERE s.name = consumer)
                  ORDER BY w.position;
END $_$;

-- The model that a projection or a handler has to have made.
CREATE FUNCTION model(consumer text) RETURNS TABLE (stream text, events text) LANGUAGE sql AS $_$
    SELECT stream, string_agg(version || type, ',' ORDER BY version) FROM reference.wanted(consumer) GROUP BY stream
$_$;
CREATE FUNCTION script(consumer text) RETURNS text LANGUAGE sql AS $_$
    SELECT format('SELECT reference.fall(%L, stream, version) FROM new_events;
        INSERT INTO reference.%2$I AS m SELECT stream, string_agg(version || type, %3$L ORDER BY version) FROM new_events GROUP BY stream
        ON CONFLICT (stream) DO UPDATE SET events = m.events || %3$L || EXCLUDED.events', consumer, 'm_' || consumer, ',')
$_$;
CREATE FUNCTION check_model(consumer text) RETURNS text LANGUAGE plpgsql AS $_$
DECLARE
    differences text;
BEGIN
    EXECUTE format('SELECT string_agg(format(%L, %L, side, stream, events), E''\n'' ORDER BY stream, side)
          FROM (SELECT ''missing'', d.* FROM (SELECT * FROM reference.model(%2$L) EXCEPT ALL TABLE reference.%3$I) d UNION ALL
                SELECT ''unexpected'', d.* FROM (TABLE reference.%3$I EXCEPT ALL SELECT * FROM reference.model(%2$L)) d) d (side, stream, events)',
        '%s %s: %s %s', consumer, 'm_' || consumer) INTO differences;
    RETURN differences;
END $_$;

-- What is wrong with one fetch: the events of each stream have to be the first
-- of those that are not done.
CREATE FUNCTION check_fetch(this int, max_count int) RETURNS text LANGUAGE sql AS $_$
    WITH got AS (
        SELECT name, stream, count(*) AS n, array_agg(version || type || '@' || position ORDER BY d.n) AS events
          FROM reference.delivered d WHERE batch = this GROUP BY name, stream)
    SELECT string_agg(problem, E'\n') FROM (
        SELECT format('%s of %s: got %s, wanted %s', name, stream, events, expected)
          FROM got, LATERAL (
               SELECT array_agg(w.version || w.type || '@' || w.position ORDER BY w.version) AS expected
                 FROM (SELECT w.* FROM reference.wanted(got.name) w
                        WHERE w.stream = got.stream
                          AND NOT EXISTS (SELECT FROM reference.done o WHERE (o.name, o.position) = (got.name, w.position))
                        ORDER BY w.version LIMIT got.n) w) w
         WHERE events IS DISTINCT FROM expected
        UNION ALL
        SELECT format('%s events instead of %s', sum(n), max_count) FROM got HAVING sum(n) > max_count) p (problem)
$_$;

CREATE FUNCTION check_done() RETURNS text LANGUAGE sql AS $_$
    SELECT string_agg(format('%s %s: %s %s %s', name, CASE WHEN o.name IS NULL THEN 'missing' ELSE 'unexpected' END, position, stream, version), E'\n')
      FROM (SELECT c.name, w.* FROM reference.consumers c, reference.wanted(c.name) w WHERE c.kind = 'subscription') w
      FULL JOIN reference.done o USING (name, position)
     WHERE w.name IS NULL OR o.name IS NULL
$_$;

-- Those that are not up to date.
CREATE FUNCTION unfinished() RETURNS text LANGUAGE plpgsql AS $_$
DECLARE
    head bigint := (SELECT max(position) FROM es.events);
BEGIN
    RETURN (SELECT string_agg(format('%s: %s of %s, %s', name, position, head, detail), E'\n')
              FROM (SELECT name, position, format('%s leased, %s waiting, %s parked', leased, waiting, parked), leased + waiting + parked = 0 FROM es.subscriptions
                    UNION ALL
                    SELECT name, position, format('%s: %s', state, last_error), state = 'running' FROM es.projections) s (name, position, detail, idle)
             WHERE NOT idle OR position < head);
END $_$;
