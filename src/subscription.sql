/* Subscriptions. */

CREATE TYPE @extschema@.es_delivery AS (
    position     bigint,
    stream       text,
    version      bigint,
    type         text,
    data         jsonb,
    metadata     jsonb,
    event_id     uuid,
    tags         text[],
    recorded_at  timestamptz,
    attempt      int,
    leased_until timestamptz
);

COMMENT ON TYPE @extschema@.es_delivery IS
    'An event as es_fetch() hands it to a consumer: es_event, with which attempt this is and until when it is his';

CREATE FUNCTION @extschema@.es_create_subscription(
    name text,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL,
    after bigint DEFAULT 0,
    max_attempts int DEFAULT 10,
    backoff interval DEFAULT '1 second',
    max_backoff interval DEFAULT '10 minutes'
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_subscription(text, text, text[], text[], bigint, int, interval, interval) IS
    'Creates a durable subscription to the events after a position: of one category, of any of the types, with all of the tags. An event that fails is tried again after backoff, which doubles each time up to max_backoff, and is parked when it has failed max_attempts times. 42710 where there is one of that name, 22023 for an empty list of types';

CREATE FUNCTION @extschema@.es_fetch(
    subscription text,
    consumer text,
    max_count int DEFAULT 100,
    lease interval DEFAULT '30 seconds'
) RETURNS SETOF @extschema@.es_delivery
    LANGUAGE c VOLATILE ROWS 100
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_fetch(text, text, int, interval) IS
    'Leases the next events of a subscription to a consumer, at most max_count, and returns them: those of one stream in order, and no event of a stream of which another is still leased, failed or parked. What is not acknowledged before the lease runs out is delivered again. Commit before working on them: until then other consumers of the subscription wait. 42704 where there is no such subscription';

CREATE FUNCTION @extschema@.es_ack(
    subscription text,
    consumer text,
    positions bigint[]
) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_ack(text, text, bigint[]) IS
    'Acknowledges events that the consumer fetched: they are done. Returns how many, not counting those that were done before, or that the subscription passed over as not its own. ZE013, and nothing is acknowledged, where the lease of one ran out and the event was taken away';

CREATE FUNCTION @extschema@.es_nack(
    subscription text,
    consumer text,
    "position" bigint,
    error text,
    retry_in interval DEFAULT NULL,
    park boolean DEFAULT false
) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_nack(text, text, bigint, text, interval, boolean) IS
    'Says that an event failed. It is delivered again after retry_in (default: the subscription''s backoff, with jitter) and not before, or parked: at once with park, else after max_attempts. Later events of its stream that the consumer holds are taken back and wait behind it. ZE013 where the consumer does not hold it: the lease ran out and the event was taken away, it is done, or it never was delivered';

CREATE FUNCTION @extschema@.es_unpark(
    subscription text,
    stream text DEFAULT NULL
) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_unpark(text, text) IS
    'Has the parked events of a stream, or of all streams, delivered again in order, with all attempts before them. Returns how many';

CREATE FUNCTION @extschema@.es_reset_subscription(
    name text,
    after bigint
) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_reset_subscription(text, bigint) IS
    'Sets a subscription to a position: what comes after it is delivered, again or never before; leases and parked events are forgotten';

CREATE FUNCTION @extschema@.es_drop_subscription(name text) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_subscription(text) IS
    'Drops a subscription and what it kept: leases, retries and parked events. 42704 where there is no such subscription';

/* They read the bookkeeping, on which nobody has rights, as their owner. */
CREATE FUNCTION @extschema@.es_install_subscription_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.subscriptions AS
            SELECT c.name,
                   p.position,
                   greatest(h.head - p.position, 0) AS lag,
                   coalesce(l.leased, 0) AS leased,
                   d.parked,
                   d.waiting,
                   l.consumers,
                   c.category,
                   c.types,
                   c.tags,
                   c.max_attempts,
                   c.backoff,
                   c.max_backoff,
                   c.role,
                   c.created_at,
                   CASE WHEN EXISTS (SELECT FROM %1$I.handlers h WHERE h.name = c.name)
                        THEN 'handler' ELSE 'subscription' END AS kind
              FROM %1$I.subscription_cursors c
             CROSS JOIN (SELECT coalesce(max(e.position), 0) AS head
                           FROM %1$I.events e) h
             CROSS JOIN LATERAL (SELECT sum(cardinality(l.positions))::bigint AS leased,
                                        min((SELECT min(u) FROM unnest(l.positions) u)) AS first,
                                        array_agg(DISTINCT l.consumer ORDER BY l.consumer) AS consumers
                                   FROM %1$I.leases l
                                  WHERE l.subscription = c.name) l
             CROSS JOIN LATERAL (SELECT count(d.parked_at) AS parked,
                                        count(*) - count(d.parked_at) AS waiting,
                                        min(d.position) FILTER (WHERE d.parked_at IS NULL) AS first
                                   FROM %1$I.deliveries d
                                  WHERE d.subscription = c.name) d
             CROSS JOIN LATERAL (SELECT least(c.taken, l.first - 1, d.first - 1)) p (position);
        COMMENT ON VIEW %1$I.subscriptions IS
            'Every subscription: all of its events up to position are done or parked; lag is how far behind the log''s head that is; leased are being worked on, waiting are to be tried again or behind one that is';

        CREATE OR REPLACE VIEW %1$I.counters AS
            SELECT c.name, c.value FROM %3$s.es_counters() c;
        COMMENT ON VIEW %1$I.counters IS
            'What happened since the server started, in all databases and stores: see es_counters()';

        CREATE OR REPLACE VIEW %1$I.parked WITH (security_barrier) AS
            SELECT d.subscription, d.stream, d.position, d.attempts, d.error, d.parked_at
              FROM %1$I.deliveries d
             WHERE d.parked_at IS NOT NULL
               AND (NOT row_security_active(%2$L::regclass)
                    OR EXISTS (SELECT FROM %1$I.subscription_cursors c
                                WHERE c.name = d.subscription AND c.role = current_user));
        COMMENT ON VIEW %1$I.parked IS
            'Events that failed for good, and, without an error, those of their stream that wait behind them: to a role under row security only those of its own subscriptions; es_unpark() has them delivered again'
    $ddl$, name, format('%I.events', name), '@extschema@');
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_subscription_views(name) IS
    'Internal: puts the views of a store''s subscriptions in place; called by es_install_store()';

CREATE FUNCTION @extschema@.es_counters()
    RETURNS TABLE (name text, value bigint)
    LANGUAGE c VOLATILE ROWS 7
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_counters() IS
    'What happened since the server started: events appended, version conflicts, events folded, snapshots used, events handled, retried and parked. Without shared_preload_libraries it counts for the session alone';
