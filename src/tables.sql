/* The tables of a store. */

CREATE FUNCTION @extschema@.es_create_store_tables(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE TABLE %1$I.store (
            layout     int NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE UNIQUE INDEX ON %1$I.store ((true));
        INSERT INTO %1$I.store (layout) VALUES (1);
        COMMENT ON TABLE %1$I.store IS
            'One row: the layout of this event store''s tables';

        -- Fixed-width columns first: no padding.  The log needs no more than
        -- these three indexes; es_create_index() has others for who wants them.
        CREATE TABLE %1$I.events (
            position    bigint NOT NULL,
            version     bigint NOT NULL,
            recorded_at timestamptz NOT NULL,
            stream      text COLLATE "C" NOT NULL,
            type        text COLLATE "C" NOT NULL,
            data        jsonb NOT NULL,
            metadata    jsonb,
            event_id    uuid,
            tags        text[] COLLATE "C"
        );
        CREATE UNIQUE INDEX events_stream_version_idx ON %1$I.events (stream, version);
        CREATE INDEX events_position_idx ON %1$I.events (position);
        CREATE UNIQUE INDEX events_stream_event_id_idx ON %1$I.events (stream, event_id)
            WHERE event_id IS NOT NULL;
        COMMENT ON TABLE %1$I.events IS
            'The log: every event, never changed. Written by es_append() and es_append_events() only';

        -- The lock of the safe position has 47 bits for a position.
        CREATE SEQUENCE %1$I.events_position_seq AS bigint
            MAXVALUE 140737488355327 CACHE 1
            OWNED BY %1$I.events.position;

        CREATE TABLE %1$I.aggregates (
            category       text COLLATE "C" PRIMARY KEY,
            kind           text NOT NULL,
            snapshot_every int NOT NULL,
            code_version   int NOT NULL,
            apply          text,
            rules          jsonb,
            initial        jsonb NOT NULL,
            search_path    text NOT NULL,
            snapshots_kept int NOT NULL DEFAULT 2
        );
        COMMENT ON TABLE %1$I.aggregates IS
            'How the events of each category fold into state; written by es_create_aggregate()';

        CREATE TABLE %1$I.snapshots (
            stream      text COLLATE "C" NOT NULL,
            version     bigint NOT NULL,
            state       jsonb NOT NULL,
            taken_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            recorded_at timestamptz NOT NULL,
            fingerprint bytea NOT NULL,
            PRIMARY KEY (stream, version)
        );
        COMMENT ON TABLE %1$I.snapshots IS
            'States of streams, kept to start folds from; a cache that can be dropped at any time. recorded_at is the newest event''s in it, fingerprint that of the code that made it';

        CREATE TABLE %1$I.deciders (
            category    text COLLATE "C" PRIMARY KEY,
            decide      text NOT NULL,
            search_path text NOT NULL
        );
        COMMENT ON TABLE %1$I.deciders IS
            'Which function decides on the commands of each category; written by es_create_decider()';

        CREATE TABLE %1$I.upcasters (
            type        text COLLATE "C" NOT NULL,
            from_schema int NOT NULL,
            function    text NOT NULL,
            search_path text NOT NULL,
            PRIMARY KEY (type, from_schema)
        );
        COMMENT ON TABLE %1$I.upcasters IS
            'The functions that lift old event data by one schema; written by es_create_upcaster()';

        CREATE TABLE %1$I.renamed_types (
            old_type text COLLATE "C" PRIMARY KEY,
            new_type text COLLATE "C" NOT NULL
        );
        COMMENT ON TABLE %1$I.renamed_types IS
            'Event types that are read under another name than they were stored; written by es_rename_type()';

        -- Subscriptions: src/subscription.c has the rules.  The two that
        -- change with every batch leave room for it on their pages.
        CREATE TABLE %1$I.subscription_cursors (
            name         text COLLATE "C" PRIMARY KEY,
            taken        bigint NOT NULL,
            max_attempts int NOT NULL,
            backoff      interval NOT NULL,
            max_backoff  interval NOT NULL,
            category     text COLLATE "C",
            types        text[] COLLATE "C",
            tags         text[] COLLATE "C",
            role         name NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 20);
        COMMENT ON TABLE %1$I.subscription_cursors IS
            'Every subscription: what it wants, and up to which position its events were taken from the log';

        CREATE TABLE %1$I.leases (
            subscription text COLLATE "C" NOT NULL,
            position     bigint NOT NULL,
            leased_until timestamptz NOT NULL,
            consumer     text COLLATE "C" NOT NULL,
            positions    bigint[] NOT NULL,
            streams      bigint[] NOT NULL,
            attempts     int[],
            PRIMARY KEY (subscription, position)
        ) WITH (fillfactor = 50);
        COMMENT ON TABLE %1$I.leases IS
            'Events that a consumer works on: a row for each fetch, with their positions, a hash of each one''s stream, and how often it had been given back';

        CREATE TABLE %1$I.deliveries (
            subscription text COLLATE "C" NOT NULL,
            stream       text COLLATE "C" NOT NULL,
            position     bigint NOT NULL,
            retry_at     timestamptz,
            parked_at    timestamptz,
            attempts     int NOT NULL,
            company      "char" NOT NULL,
            error        text,
            PRIMARY KEY (subscription, stream, position)
        );
        CREATE INDEX deliveries_retry_idx ON %1$I.deliveries (subscription, retry_at)
            WHERE retry_at IS NOT NULL;
        COMMENT ON TABLE %1$I.deliveries IS
            'Events taken from the log that are neither done nor leased: failed, parked, or behind one of their stream that is';

        -- What changes seldom, and is kept by every session ...
        CREATE TABLE %1$I.projection_definitions (
            name             text COLLATE "C" PRIMARY KEY,
            mode             text NOT NULL,
            granularity      text NOT NULL,
            state            text NOT NULL,
            script           text NOT NULL,
            search_path      text NOT NULL,
            tables           regclass[] NOT NULL,
            types            text[] COLLATE "C",
            created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
            next_script      text,
            next_search_path text,
            next_granularity text,
            next_types       text[] COLLATE "C"
        );
        COMMENT ON TABLE %1$I.projection_definitions IS
            'Every projection; next_... is the definition that the next rebuild puts in force. Written by es_create_projection() and its like';

        -- ... and what changes with every batch, with room for it on its page.
        CREATE TABLE %1$I.projection_cursors (
            name       text COLLATE "C" PRIMARY KEY,
            position   bigint NOT NULL,
            events     bigint NOT NULL DEFAULT 0,
            failures   int NOT NULL DEFAULT 0,
            retry_at   timestamptz,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            last_error text
        ) WITH (fillfactor = 20);
        COMMENT ON TABLE %1$I.projection_cursors IS
            'Up to which position each projection has taken the log in; not kept for an inline one that is running, which is always up to date';

        CREATE TABLE %1$I.rebuilds (
            projection text COLLATE "C" PRIMARY KEY,
            phase      text NOT NULL,
            position   bigint NOT NULL,
            done       bigint NOT NULL,
            total      bigint NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            shadows    name[] NOT NULL
        ) WITH (fillfactor = 20);
        COMMENT ON TABLE %1$I.rebuilds IS
            'Rebuilds of projections that have begun and not ended, and the tables of this schema that they fill';

        CREATE TABLE %1$I.handlers (
            name        text COLLATE "C" PRIMARY KEY,
            script      text NOT NULL,
            search_path text NOT NULL
        );
        COMMENT ON TABLE %1$I.handlers IS
            'The scripts of those subscriptions that are handlers; written by es_create_handler()';

        CREATE TABLE %1$I.timers (
            key      text COLLATE "C" PRIMARY KEY,
            at       timestamptz NOT NULL,
            due      timestamptz NOT NULL,
            stream   text COLLATE "C" NOT NULL,
            type     text COLLATE "C" NOT NULL,
            data     jsonb NOT NULL,
            metadata jsonb,
            role     name NOT NULL,
            schema   int NOT NULL,
            attempts int NOT NULL DEFAULT 0,
            error    text
        );
        CREATE INDEX timers_due_idx ON %1$I.timers (due);
        COMMENT ON TABLE %1$I.timers IS
            'Events that are to be appended at a time; written by es_schedule(). due is "at", but not before it was scheduled, or after a failure when it is tried again';

        -- No row before it is wanted: then it would collide with a publisher's.
        CREATE TABLE %1$I.watermark (
            one        boolean PRIMARY KEY DEFAULT true CHECK (one),
            position   bigint NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        COMMENT ON TABLE %1$I.watermark IS
            'For copies of the store by replication: all events up to position arrive before this row says so; written by es_advance_watermark(), and from then on by es_run() and the worker'
    $ddl$, name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_create_store_tables(name) IS
    'Internal: creates the tables of a store; called by es_create_store()';

/*
 * One step of es_upgrade_store().  A version that changes the tables above adds
 * its step here, and numbers the layout anew there, in es_upgrade_store() and in
 * ES_STORE_LAYOUT of src/store.h.
 */
CREATE FUNCTION @extschema@.es_upgrade_layout(name name, layout int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'event store "%" has layout %, which this version of eventsourcing cannot upgrade', name, layout
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Install the newer version of the extension that made this store.';
END
$$;

COMMENT ON FUNCTION @extschema@.es_upgrade_layout(name, int) IS
    'Internal: changes the tables of a store from that layout to the next one; 55000 where there is no way';
