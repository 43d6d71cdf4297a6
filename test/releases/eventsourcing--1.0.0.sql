/* The head of the install script. */

\echo Use "CREATE EXTENSION eventsourcing" to load this file. \quit
/* The event as functions pass it around. */

CREATE TYPE @extschema@.es_event AS (
    position    bigint,
    stream      text,
    version     bigint,
    type        text,
    data        jsonb,
    metadata    jsonb,
    event_id    uuid,
    tags        text[],
    recorded_at timestamptz
);

COMMENT ON TYPE @extschema@.es_event IS
    'An event, as reading functions return it and apply functions take it';

/* Rules: how events change a state, said in JSON. */

CREATE FUNCTION @extschema@.es_apply_rules(rules jsonb, state jsonb, event @extschema@.es_event)
    RETURNS jsonb
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'es_apply_rules';

COMMENT ON FUNCTION @extschema@.es_apply_rules(jsonb, jsonb, @extschema@.es_event) IS
    'The state after an event by these rules: tries rules without a store. An event type that the rules don''t name leaves the state alone. Errors: 22023 for rules that cannot be, 22033, 22036, 22039, 2203C and 22003 for an event that they cannot be applied to';
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
/* The append-only triggers of the events table; es_install_store() sets them. */

CREATE FUNCTION @extschema@.es_guard() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_guard() IS
    'Trigger: refuses whatever changes the log of events past the extension (ZE005)';
/* Stores: making, granting, dropping them. */

CREATE FUNCTION @extschema@.es_definition_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_definition_changed() IS
    'Trigger: tells every session that a definition of the store changed';

CREATE FUNCTION @extschema@.es_current_store() RETURNS name
    LANGUAGE c STABLE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_current_store() IS
    'The name of the store that the functions work on, as the setting eventsourcing.store says';

CREATE FUNCTION @extschema@.es_store_exists(name name) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN EXISTS (SELECT FROM pg_catalog.pg_class c
                     JOIN pg_catalog.pg_class e USING (relnamespace)
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = name AND c.relname = 'store' AND e.relname = 'events'
                      AND c.relkind IN ('r', 'p') AND e.relkind IN ('r', 'p'));

COMMENT ON FUNCTION @extschema@.es_store_exists(name) IS
    'Whether the schema of that name holds a store';

CREATE FUNCTION @extschema@.es_check_store(name name) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'name must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'The name of a store is the name of its schema.';
    END IF;
    IF NOT @extschema@.es_store_exists(name) THEN
        RAISE EXCEPTION 'event store "%" does not exist', name
            USING ERRCODE = 'undefined_object',
                  HINT = CASE WHEN name = '' OR name LIKE 'pg\_%'
                         THEN 'Name another store, in the setting eventsourcing.store for most functions; a store''s name is its schema''s.'
                         ELSE format('Create it with SELECT es_create_store(%L), or name another store.', name) END;
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_check_store(name) IS
    'Internal: raises 42704 where there is no such store';

CREATE FUNCTION @extschema@.es_store_tables() RETURNS name[]
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    RETURN '{aggregates,deciders,deliveries,events,handlers,leases,projection_cursors,projection_definitions,rebuilds,renamed_types,snapshots,store,subscription_cursors,timers,upcasters,watermark}'::name[];

COMMENT ON FUNCTION @extschema@.es_store_tables() IS
    'Internal: the names of a store''s tables';

/*
 * Raises unless the store exists and the caller owns it; and for a store of which
 * somebody else owns a part, or put something else in place of a table: whoever
 * looks after another's store, a superuser say, must not run that one's code.
 */
CREATE FUNCTION @extschema@.es_check_store_owner(name name) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name;
    schema oid;
    part text;
BEGIN
    PERFORM @extschema@.es_check_store(name);
    SELECT pg_get_userbyid(c.relowner), n.oid INTO owner, schema
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = es_check_store_owner.name AND c.relname = 'events';
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of event store "%"', name
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('The store belongs to role "%s".', owner);
    END IF;
    SELECT p.part INTO part
      FROM (SELECT 'the schema', n.nspowner FROM pg_namespace n WHERE n.oid = schema
             UNION ALL
            SELECT format('"%s"', c.relname), c.relowner
              FROM pg_class c
             WHERE c.relnamespace = schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) p (part, role)
     WHERE NOT pg_has_role(p.role, owner, 'USAGE')
     ORDER BY p.part
     LIMIT 1;
    IF part IS NOT NULL THEN
        RAISE EXCEPTION 'event store "%" does not wholly belong to its owner', name
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('The events belong to role "%s", but %s does not.', owner, part),
                  HINT = 'Give the schema of a store and all that is in it to one role.';
    END IF;
    SELECT format('"%s"', c.relname) INTO part
      FROM pg_class c
     WHERE c.relnamespace = schema
       AND c.relname = ANY (@extschema@.es_store_tables())
       AND (c.relkind NOT IN ('r', 'p')
            OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                        WHERE a.attrelid = c.oid AND a.attnum > 0
                          AND t.typnamespace <> 'pg_catalog'::regnamespace
                          AND (c.relname <> 'events'
                               OR a.attname IN ('position', 'version', 'recorded_at', 'stream', 'type',
                                                'data', 'metadata', 'event_id', 'tags'))))
     ORDER BY c.relname
     LIMIT 1;
    IF part IS NOT NULL THEN
        RAISE EXCEPTION '% of event store "%" was replaced or altered', part, name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'The tables of a store are made by es_create_store(), and have columns of built-in types.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_check_store_owner(name) IS
    'Internal: raises 42704 where there is no such store, 42501 where the caller does not own it, or somebody else a part of it, 55000 where a table was replaced';

CREATE FUNCTION @extschema@.es_create_store(name name DEFAULT 'es') RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    owner name;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'name must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'The name of a store is the name of its schema.';
    END IF;
    IF name = '' THEN
        RAISE EXCEPTION 'a store needs a name'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The name of a store is the name of its schema.';
    END IF;
    IF @extschema@.es_store_exists(name) THEN
        RAISE EXCEPTION 'event store "%" already exists', name
            USING ERRCODE = 'duplicate_object',
                  HINT = 'Choose another name, or drop the store with es_drop_store(name, confirm => true).';
    END IF;
    SELECT pg_get_userbyid(n.nspowner) INTO owner FROM pg_namespace n WHERE n.nspname = name;
    IF owner IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', name);
    ELSIF NOT pg_has_role(owner, current_user, 'USAGE') THEN
        RAISE EXCEPTION 'schema "%" belongs to another role', name
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" could replace the tables of the store.', owner),
                  HINT = format('Create the store as role "%s", or in a schema of your own.', owner);
    END IF;
    PERFORM @extschema@.es_create_store_tables(name);
    PERFORM @extschema@.es_install_store(name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_create_store(name) IS
    'Creates an event store: a schema of that name with the log of events and what goes with it. The caller owns it. 42710 where there is one already, 42501 for a schema that belongs to somebody else';

CREATE FUNCTION @extschema@.es_events_tables(name name) RETURNS SETOF regclass
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_regclass(format('%I.events', name))
     UNION
    SELECT relid FROM pg_partition_tree(to_regclass(format('%I.events', name)))
$$;

COMMENT ON FUNCTION @extschema@.es_events_tables(name) IS
    'Internal: the table of a store''s events and, where it is partitioned, its partitions: each has guards of its own';

/*
 * Whatever of a store depends on the extension, or can be made anew at any
 * time: triggers and views.  Runs when a store is created, and again after an
 * upgrade or after DROP EXTENSION ... CASCADE took the triggers away.
 */
CREATE FUNCTION @extschema@.es_install_store(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    events regclass;
    definitions name;
BEGIN
    PERFORM @extschema@.es_check_store_owner(name);
    FOR events IN SELECT * FROM @extschema@.es_events_tables(name) LOOP
        EXECUTE format($ddl$
            CREATE OR REPLACE TRIGGER es_guard_insert
                BEFORE INSERT ON %1$s
                FOR EACH STATEMENT EXECUTE FUNCTION %2$s.es_guard();

            CREATE OR REPLACE TRIGGER es_guard_change
                BEFORE UPDATE OR DELETE OR TRUNCATE ON %1$s
                FOR EACH STATEMENT EXECUTE FUNCTION %2$s.es_guard();
            ALTER TABLE %1$s ENABLE ALWAYS TRIGGER es_guard_change
        $ddl$, events, '@extschema@');
    END LOOP;
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.streams WITH (security_invoker) AS
            SELECT first.stream,
                   split_part(first.stream, '-', 1) AS category,
                   last.version,
                   first.recorded_at AS first_at,
                   last.recorded_at AS last_at,
                   first.position AS first_position,
                   last.position AS last_position
              FROM %1$I.events first
             CROSS JOIN LATERAL (SELECT e.version, e.recorded_at, e.position
                                   FROM %1$I.events e
                                  WHERE e.stream = first.stream
                                  ORDER BY e.version DESC
                                  LIMIT 1) last
             WHERE first.version = 1;
        COMMENT ON VIEW %1$I.streams IS
            'Every stream: a stream by name, or a page in the order of names, costs a few index probes; where streams are long, es_create_index(''streams'') is for the page';

        CREATE OR REPLACE VIEW %1$I.open_appends WITH (security_invoker) AS
            WITH locks AS MATERIALIZED (SELECT * FROM pg_locks)
            SELECT ((l.objsubid & 32767)::bigint << 32) | l.objid::bigint AS holds_at,
                   l.pid,
                   p.gid,
                   coalesce(a.xact_start, p.prepared) AS since,
                   coalesce(a.usename, p.owner) AS role,
                   a.application_name,
                   a.state,
                   a.query
              FROM locks l
              LEFT JOIN pg_stat_activity a ON a.pid = l.pid
              -- a prepared transaction has no process, but a lock on its own id
              LEFT JOIN (locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid)
                     ON l.pid IS NULL
                    AND x.pid IS NULL
                    AND x.virtualtransaction = l.virtualtransaction
             WHERE l.locktype = 'advisory'
               AND l.database = (SELECT d.oid FROM pg_database d
                                  WHERE d.datname = current_database())
               AND l.classid = %2$L::regclass
               AND l.objsubid < 0;
        COMMENT ON VIEW %1$I.open_appends IS
            'Transactions that appended and have not ended: no reader by position gets past holds_at until they do'
    $ddl$, name, format('%I.events', name));

    -- what sessions keep in memory
    FOREACH definitions IN ARRAY ARRAY['aggregates', 'deciders', 'projection_definitions', 'renamed_types', 'store', 'upcasters'] LOOP
        EXECUTE format($ddl$
            CREATE OR REPLACE TRIGGER es_definition_changed
                AFTER INSERT OR UPDATE OR DELETE ON %1$I.%2$I
                FOR EACH ROW EXECUTE FUNCTION %3$s.es_definition_changed();
            ALTER TABLE %1$I.%2$I ENABLE ALWAYS TRIGGER es_definition_changed
        $ddl$, name, definitions, '@extschema@');
    END LOOP;
    PERFORM @extschema@.es_install_subscription_views(name);
    PERFORM @extschema@.es_install_projection_views(name);
    PERFORM @extschema@.es_install_projections(name);
    PERFORM @extschema@.es_install_timer_views(name);
    PERFORM @extschema@.es_install_interchange_views(name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_store(name) IS
    'Internal: puts a store''s triggers and views in place; they can be made anew at any time';

CREATE FUNCTION @extschema@.es_upgrade_store(name name DEFAULT 'es') RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    newest CONSTANT int := 1;
    layout int;
BEGIN
    PERFORM @extschema@.es_check_store_owner(name);
    -- who else upgrades this store waits here
    EXECUTE format('SELECT s.layout FROM %I.store s FOR UPDATE', name) INTO layout;
    WHILE layout <> newest LOOP
        PERFORM @extschema@.es_upgrade_layout(name, layout);
        layout := layout + 1;
        -- the trigger on it has sessions with an older library look again, and refuse
        EXECUTE format('UPDATE %I.store SET layout = $1', name) USING layout;
    END LOOP;
    PERFORM @extschema@.es_install_store(name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_upgrade_store(name) IS
    'Brings a store to the layout of the installed version, and its triggers and views back in place. For after ALTER EXTENSION UPDATE, and after DROP EXTENSION ... CASCADE and CREATE EXTENSION';

CREATE FUNCTION @extschema@.es_drop_store(name name, confirm boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    events bigint;
BEGIN
    PERFORM @extschema@.es_check_store_owner(name);
    IF NOT coalesce(confirm, false) THEN
        EXECUTE format('SELECT count(*) FROM %I.events', name) INTO events;
        RAISE EXCEPTION 'event store "%" holds % events and was not dropped', name, events
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('To delete it for ever, with its whole schema: SELECT es_drop_store(%L, confirm => true).', name);
    END IF;
    IF EXISTS (SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                WHERE n.nspname = es_drop_store.name) THEN
        RAISE EXCEPTION 'event store "%" was not dropped: its schema holds an extension', name
            USING ERRCODE = 'dependent_objects_still_exist',
                  HINT = 'Drop the extension first, or drop the tables of the store one by one.';
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_drop_store(name, boolean) IS
    'Drops a store, its schema and every event in it. Without confirm => true it only says what would be lost (55000)';

CREATE FUNCTION @extschema@.es_grant(role name, level text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF role IS NULL THEN
        RAISE EXCEPTION 'role must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'Pass the name of a role, or ''public'' for everybody.';
    END IF;
    IF level IS NULL THEN
        RAISE EXCEPTION 'level must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'The levels are ''reader'', ''writer'' and ''consumer''.';
    END IF;
    IF level NOT IN ('reader', 'writer', 'consumer') THEN
        RAISE EXCEPTION 'unknown level of rights: %', quote_literal(level)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The levels are ''reader'', ''writer'' and ''consumer''.';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', store, role);
    EXECUTE format('GRANT SELECT ON %1$I.events, %1$I.streams, %1$I.open_appends, %1$I.outbox, %1$I.counters, %1$I.projections, %1$I.progress TO %2$I', store, role);
    EXECUTE format('GRANT SELECT ON %I.scheduled TO %I', store, role);
    IF level = 'writer' THEN
        EXECUTE format('GRANT INSERT ON %I.events TO %I', store, role);
    END IF;
    IF level = 'consumer' THEN
        -- The views are not updatable: these are marks that the functions check.
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I.subscriptions TO %I', store, role);
        EXECUTE format('GRANT SELECT ON %I.parked TO %I', store, role);
        EXECUTE format('GRANT UPDATE ON %I.projections TO %I', store, role);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_grant(name, text) IS
    'Grants a role what a reader, a writer (reader and appender) or a consumer of the current store needs: ordinary GRANTs, to be revoked with REVOKE. Role ''public'' is everybody';

CREATE FUNCTION @extschema@.es_create_index(kind text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    index name := CASE kind
        WHEN 'category' THEN 'events_category_position_idx'
        WHEN 'type' THEN 'events_type_position_idx'
        WHEN 'tags' THEN 'events_tags_idx'
        WHEN 'streams' THEN 'events_first_idx'
        WHEN 'correlation' THEN 'events_correlation_idx'
    END;
    definition text := CASE kind
        WHEN 'category' THEN '(split_part(stream, ''-'', 1), position)'
        WHEN 'type' THEN '(type, position)'
        WHEN 'tags' THEN 'USING gin (tags)'
        WHEN 'streams' THEN '(stream) WHERE version = 1'
        WHEN 'correlation' THEN '((metadata ->> ''correlation_id'')) WHERE (metadata ->> ''correlation_id'') IS NOT NULL'
    END;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF kind IS NULL THEN
        RAISE EXCEPTION 'kind must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'The kinds are ''category'', ''type'', ''tags'', ''streams'' and ''correlation''.';
    END IF;
    IF index IS NULL THEN
        RAISE EXCEPTION 'unknown kind of index: %', quote_literal(kind)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The kinds are ''category'', ''type'', ''tags'', ''streams'' and ''correlation''.';
    END IF;
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I.events %s', index, store, definition);

    -- what a CREATE INDEX CONCURRENTLY that failed has left behind
    IF EXISTS (SELECT FROM pg_index i
                WHERE i.indexrelid = to_regclass(format('%I.%I', store, index)) AND NOT i.indisvalid) THEN
        RAISE EXCEPTION 'index "%" exists, but is not valid', index
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Building it failed, or is not done yet: no query uses it.',
                  HINT = format('DROP INDEX %I.%I, and create it again.', store, index);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_create_index(text) IS
    'Creates the index that makes es_read_all() fast for a rare ''category'', ''type'' or ''tags'' in a large store, (''streams'') pages of the view streams where streams are long, or (''correlation'') es_trace(). It locks out appends while it is built; run the same CREATE INDEX with CONCURRENTLY by hand on a busy store';
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
/* Handlers. */

CREATE FUNCTION @extschema@.es_create_handler(
    name text,
    script text,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL,
    after bigint DEFAULT 0,
    max_attempts int DEFAULT 10,
    backoff interval DEFAULT '1 second',
    max_backoff interval DEFAULT '10 minutes'
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_handler(text, text, text, text[], text[], bigint, int, interval, interval) IS
    'Creates a handler: SQL statements over new_events, which holds one event, that react to it after its commit, exactly once for what they write to this database. They may append events and schedule timers; what they append names the event as its cause. It is a subscription that the worker or es_run() consumes, with the options of one: after => es_safe_position() starts with what comes next instead of the history. Only the store''s owner may, and the script runs with the owner''s rights. 42710 where there is a subscription of that name; es_drop_subscription() drops it';
/* Timers. */

CREATE FUNCTION @extschema@.es_schedule(
    at timestamptz,
    stream text,
    type text,
    data jsonb DEFAULT '{}',
    key text DEFAULT NULL
) RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_schedule(timestamptz, text, text, jsonb, text) IS
    'Has an event appended at a time, exactly once, with the caller''s rights and the context of now; at once where the time has passed. Returns the key, a new one where none is given. A key has 1 to 1024 bytes; one that is scheduled already is scheduled anew. es_run() or the worker appends it';

CREATE FUNCTION @extschema@.es_cancel(key text) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_cancel(text) IS
    'Cancels what es_schedule() scheduled under the key; false where there is nothing, any more or ever. Waits for one that is being appended just now';

CREATE FUNCTION @extschema@.es_install_timer_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.scheduled WITH (security_barrier) AS
            SELECT t.key, t.at, t.stream, t.type, t.data, t.metadata, t.role, t.attempts, t.error, t.due
              FROM %1$I.timers t
             WHERE pg_has_role(to_regrole(quote_ident(t.role)), 'USAGE')
                OR pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = %2$L::regclass), 'USAGE');
        COMMENT ON VIEW %1$I.scheduled IS
            'Events that es_schedule() is going to append: the caller''s own, all of them for the store''s owner'
    $ddl$, name, format('%I.events', name));
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_timer_views(name) IS
    'Internal: puts the view of a store''s timers in place; called by es_install_store()';
/* Causes and effects. */

CREATE FUNCTION @extschema@.es_trace(correlation_id text)
    RETURNS TABLE (depth int, label text, "position" bigint, stream text, version bigint, type text,
                   recorded_at timestamptz, event_id uuid, causation_id text)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    ROWS 20
AS $$
DECLARE
    store name := @extschema@.es_current_store();
BEGIN
    PERFORM @extschema@.es_check_store(store);
    -- An event is known by its event_id or its position.  Whatever caused it
    -- came before it; where several could have, the last of them did.
    RETURN QUERY EXECUTE format($query$
        WITH RECURSIVE member AS MATERIALIZED (
            SELECT e.position, e.stream, e.version, e.type, e.recorded_at, e.event_id,
                   e.metadata ->> 'causation_id' AS causation_id
              FROM %1$I.events e
             WHERE e.metadata ->> 'correlation_id' = $1
             UNION
            SELECT e.position, e.stream, e.version, e.type, e.recorded_at, e.event_id,
                   e.metadata ->> 'causation_id'
              FROM %1$I.events e
             WHERE e.position = CASE WHEN $1 ~ '^[0-9]{1,18}$' THEN $1::bigint END
        ), id AS (
            SELECT m.position::text AS id, m.position FROM member m
             UNION
            SELECT m.event_id::text, m.position FROM member m WHERE m.event_id IS NOT NULL
        ), parent AS (
            SELECT m.position, max(id.position) AS parent
              FROM member m
              LEFT JOIN id ON id.id = m.causation_id AND id.position < m.position
             GROUP BY m.position
        ), tree AS (
            SELECT p.position, 0 AS depth, ARRAY[p.position] AS path
              FROM parent p
             WHERE p.parent IS NULL
             UNION ALL
            SELECT p.position, t.depth + 1, t.path || p.position
              FROM tree t JOIN parent p ON p.parent = t.position
        )
        SELECT t.depth, repeat('  ', t.depth) || m.type, m.position, m.stream, m.version, m.type,
               m.recorded_at, m.event_id, m.causation_id
          FROM tree t JOIN member m USING (position)
         ORDER BY t.path
    $query$, store) USING correlation_id;
END
$$;

COMMENT ON FUNCTION @extschema@.es_trace(text) IS
    'The tree of causes of what happened under a correlation id: every event of it behind the one that caused it (metadata causation_id: an event_id or a position), label indented. With a position: the tree that began with that event. es_create_index(''correlation'') makes it fast';
/* Appending. */

CREATE FUNCTION @extschema@.es_append(
    stream text,
    type text,
    data jsonb DEFAULT '{}',
    expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_append(text, text, jsonb, bigint, jsonb, uuid, text[]) IS
    'Appends an event and returns the stream''s new version. expected_version: NULL any, 0 a new stream, n exactly n, -1 one that exists; else ZE001. The same event_id again, with the same type and data, changes nothing; with others ZE003. Not an event: ZE006';

CREATE FUNCTION @extschema@.es_append_events(
    stream text,
    events jsonb,
    expected_version bigint DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_append_events(text, jsonb, bigint) IS
    'Appends an array of objects with the keys type (required), data, metadata, event_id, tags as events, all or none, and returns the stream''s new version. Errors as for es_append()';
/* Reading. */

CREATE FUNCTION @extschema@.es_read_support(internal) RETURNS internal
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read_support(internal) IS
    'Internal: planner support, how many rows to expect of es_read() and es_read_all()';

CREATE FUNCTION @extschema@.es_read(
    stream text,
    from_version bigint DEFAULT 1,
    to_version bigint DEFAULT NULL,
    max_count bigint DEFAULT NULL,
    backward boolean DEFAULT false
) RETURNS SETOF @extschema@.es_event
    LANGUAGE c STABLE ROWS 100
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read(text, bigint, bigint, bigint, boolean) IS
    'The events of a stream in the order of versions, from from_version to to_version, at most max_count of them; backward: newest first. No rows for a stream without events';

CREATE FUNCTION @extschema@.es_read_all(
    after bigint DEFAULT 0,
    max_count bigint DEFAULT 1000,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS SETOF @extschema@.es_event
    LANGUAGE c VOLATILE ROWS 1000
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_read_all(bigint, bigint, text, text[], text[]) IS
    'Events of the store in the order of positions, those after "after", at most max_count: of one category, of any of the types (none of them for ''{}''), with all of the tags. Never past the safe position: who goes on from the last position it got misses nothing';

CREATE FUNCTION @extschema@.es_stream_version(stream text) RETURNS bigint
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_stream_version(text) IS
    'The version of a stream: the number of its events, 0 for none';

CREATE FUNCTION @extschema@.es_head_position() RETURNS bigint
    LANGUAGE c STABLE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_head_position() IS
    'The highest position of an event in the store, 0 for an empty one';

CREATE FUNCTION @extschema@.es_safe_position() RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_safe_position() IS
    'The highest position at or below which nothing can still commit. The view open_appends of the store names who holds it back. For readers of the store. In a copy of it, a standby or a logical subscriber, the watermark, see es_advance_watermark(); 0A000 and 55000 where there is none';
/* Projections. */

CREATE FUNCTION @extschema@.es_project() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_project() IS
    'Trigger: has the inline projections take in what was appended';

CREATE FUNCTION @extschema@.es_create_projection(
    name text,
    script text,
    tables regclass[],
    types text[] DEFAULT NULL,
    mode text DEFAULT 'inline',
    granularity text DEFAULT 'event',
    replay boolean DEFAULT true
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_projection(text, text, regclass[], text[], text, text, boolean) IS
    'Creates a projection: SQL statements over new_events that maintain tables, in the appending transaction (mode inline) or after it (async). granularity: new_events holds one event (event), at most one of each stream (stream), or all there are (batch). replay: takes in the history first. Only the store''s owner may, and the script runs with the owner''s rights. 42710 where there is one of that name, 22023 for an empty list of types';

CREATE FUNCTION @extschema@.es_alter_projection(
    name text,
    script text DEFAULT NULL,
    types text[] DEFAULT NULL,
    granularity text DEFAULT NULL,
    rebuild boolean DEFAULT false
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_alter_projection(text, text, text[], text, boolean) IS
    'Changes a projection from the next event on; what is not given stays, and only here types ''{}'' means all of them again. rebuild: the change takes effect with the next es_rebuild(), for the whole history at once, and until then the projection goes on as it is';

CREATE FUNCTION @extschema@.es_pause_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_pause_projection(text) IS
    'Pauses a projection: its tables stay as they are, and appends do without it. It misses nothing, see es_resume_projection()';

CREATE FUNCTION @extschema@.es_resume_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_resume_projection(text) IS
    'Resumes a projection that was paused: an inline one takes in what was appended since, and runs inline again; an async one is due at once, also if it had failed';

CREATE FUNCTION @extschema@.es_drop_projection(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_projection(text) IS
    'Drops a projection. Its tables stay as they are';

CREATE FUNCTION @extschema@.es_install_projections(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    events regclass := format('%I.events', name);
    wanted boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.projection_definitions WHERE mode = ''inline'')', name)
       INTO wanted;
    IF wanted = EXISTS (SELECT FROM pg_trigger WHERE tgrelid = events AND tgname = 'es_project' AND tgenabled IN ('O', 'A')) THEN
        RETURN;
    ELSIF wanted THEN
        -- anew where it is disabled
        EXECUTE format($ddl$
            CREATE OR REPLACE TRIGGER es_project
                AFTER INSERT ON %1$s REFERENCING NEW TABLE AS new_events
                FOR EACH STATEMENT EXECUTE FUNCTION %2$s.es_project()
        $ddl$, events, '@extschema@');
    ELSE
        EXECUTE format('DROP TRIGGER es_project ON %s', events);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_projections(name) IS
    'Internal: puts the trigger of a store''s inline projections in place while there are any; called when that changes, and by es_install_store()';

/*
 * They read the bookkeeping, on which nobody has rights, as their owner.
 */
CREATE FUNCTION @extschema@.es_install_projection_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.projections AS
            SELECT d.name,
                   d.mode,
                   d.granularity,
                   CASE WHEN d.state <> 'paused' AND c.failures > 0 THEN 'failed' ELSE d.state END AS state,
                   p.position,
                   greatest(h.head - p.position, 0) AS lag,
                   CASE WHEN NOT row_security_active(%2$L::regclass) THEN c.last_error END AS last_error,
                   (SELECT greatest(now() - e.recorded_at, '0')
                      FROM %1$I.events e
                     WHERE e.position > p.position
                     ORDER BY e.position
                     LIMIT 1) AS lag_time,
                   CASE WHEN d.mode = 'async' THEN c.events END AS events,
                   c.failures,
                   CASE WHEN d.state <> 'paused' THEN c.retry_at END AS retry_at,
                   d.next_script IS NOT NULL AS altered,
                   d.tables,
                   d.types,
                   d.created_at
              FROM %1$I.projection_definitions d
              JOIN %1$I.projection_cursors c USING (name)
             CROSS JOIN (SELECT coalesce(max(e.position), 0) AS head
                           FROM %1$I.events e) h
             CROSS JOIN LATERAL (SELECT CASE WHEN d.mode = 'inline' AND d.state = 'running'
                                             THEN h.head ELSE c.position END) p (position);
        COMMENT ON VIEW %1$I.projections IS
            'Every projection: its tables have taken in all events up to position; lag is how far behind the log''s head that is, lag_time how old the first event is that is missing. last_error is for those to whom no row security applies, as it may tell of any event. events: taken in so far, counted for async ones only. altered: es_alter_projection() has a change waiting for es_rebuild()';

        CREATE OR REPLACE VIEW %1$I.progress AS
            SELECT r.projection AS name,
                   'rebuild'::text AS kind,
                   CASE WHEN EXISTS (
                       SELECT FROM pg_locks l
                         JOIN pg_class c ON c.oid = l.classid
                        WHERE l.locktype = 'advisory' AND l.objsubid = 8192
                          AND c.relname = 'events' AND c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %1$L)
                          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                          AND l.objid::bigint = hashtext(r.projection)::bigint & 4294967295)
                        THEN r.phase ELSE 'interrupted' END AS phase,
                   r.done,
                   r.total,
                   r.started_at,
                   s.rate,
                   CASE WHEN s.rate > 0
                        THEN r.updated_at + greatest(r.total - r.done, 0) / s.rate * interval '1 second'
                    END AS estimated_end
              FROM %1$I.rebuilds r
             CROSS JOIN LATERAL (SELECT r.done / nullif(extract(epoch FROM r.updated_at - r.started_at), 0)) s (rate);
        COMMENT ON VIEW %1$I.progress IS
            'Long work under way, such as rebuilds: its phase (interrupted: its session has gone, and the next es_rebuild() starts anew), events done and in total, events a second'
    $ddl$, name, format('%I.events', name));
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_projection_views(name) IS
    'Internal: puts the views of a store''s projections in place; called by es_install_store()';
/*
 * Rebuilding projections.  A shadow is an empty table of the same physical
 * layout as a read model, dropped columns included, in the store's schema; its
 * name, and those of its indexes, are a prefix and the original's OID.
 */

CREATE FUNCTION @extschema@.es_fillfactor(original regclass) RETURNS int
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN coalesce((SELECT o.option_value::int
                       FROM pg_class c CROSS JOIN pg_options_to_table(c.reloptions) o
                      WHERE c.oid = original AND o.option_name = 'fillfactor'), 100);

COMMENT ON FUNCTION @extschema@.es_fillfactor(regclass) IS
    'Internal: the percentage to which the pages of a table are filled; called by es_rebuild()';

CREATE FUNCTION @extschema@.es_create_shadow(
    store name,
    original regclass,
    prefix text,
    unlogged boolean,
    roomy boolean
) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET default_tablespace = ''
AS $$
DECLARE
    shadow text := format('%I.%I', store, prefix || original::oid);
    qualified text;
    class pg_class;
    columns text;
    options text[];
    item record;
BEGIN
    SELECT c.* INTO class FROM pg_class c WHERE c.oid = original;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a table of the projection does not exist any more'
            USING ERRCODE = 'undefined_table',
                  DETAIL = format('It had the OID %s. Another one of the same name is not what the projection was created for.', original::oid),
                  HINT = 'Call es_drop_projection(), and create the projection again.';
    END IF;
    qualified := format('%s.%I', class.relnamespace::regnamespace, class.relname);
    SELECT string_agg(
               CASE WHEN a.attisdropped THEN format('"........dropped.%s........" int', a.attnum)
                    ELSE format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
                         || CASE WHEN a.attcollation <> t.typcollation
                                 THEN format(' COLLATE %s.%I', l.collnamespace::regnamespace, l.collname)
                                 ELSE '' END
                         || CASE a.attgenerated
                                 WHEN 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid))
                                 WHEN 'v' THEN format(' GENERATED ALWAYS AS (%s) VIRTUAL', pg_get_expr(d.adbin, d.adrelid))
                                 ELSE '' END
                         || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
               END, ', ' ORDER BY a.attnum)
      INTO columns
      FROM pg_attribute a
      LEFT JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_collation l ON l.oid = a.attcollation
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = original AND a.attnum > 0;

    -- room for newer versions of rows beside the older ones, so that no index changes with them
    options := class.reloptions
            || ARRAY(SELECT 'toast.' || o FROM pg_class t CROSS JOIN unnest(t.reloptions) o WHERE t.oid = class.reltoastrelid);
    IF roomy AND class.relpersistence = 'p' AND class.relam = (SELECT m.oid FROM pg_am m WHERE m.amname = 'heap') THEN
        options := ARRAY(SELECT o FROM unnest(options) o WHERE o NOT LIKE 'fillfactor=%')
                || format('fillfactor=%s', least(@extschema@.es_fillfactor(original), 40));
    END IF;
    EXECUTE format('CREATE %s TABLE %s (%s) USING %I %s %s',
                   CASE WHEN unlogged OR class.relpersistence = 'u' THEN 'UNLOGGED' END,
                   shadow, columns,
                   (SELECT m.amname FROM pg_am m WHERE m.oid = class.relam),
                   'WITH (' || nullif(array_to_string(options, ', '), '') || ')',
                   (SELECT format('TABLESPACE %I', s.spcname) FROM pg_tablespace s WHERE s.oid = class.reltablespace));

    FOR item IN
        SELECT a.attnum FROM pg_attribute a
         WHERE a.attrelid = original AND a.attnum > 0 AND a.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN "........dropped.%s........"', shadow, item.attnum);
    END LOOP;
    FOR item IN
        SELECT a.attname,
               CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END AS storage,
               CASE a.attcompression WHEN 'p' THEN ', ALTER COLUMN %1$I SET COMPRESSION pglz'
                                     WHEN 'l' THEN ', ALTER COLUMN %1$I SET COMPRESSION lz4'
                                     ELSE '' END AS compression
          FROM pg_attribute a
          JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = original AND a.attnum > 0 AND NOT a.attisdropped
           AND (a.attstorage <> t.typstorage OR a.attcompression <> '')
    LOOP
        EXECUTE format('ALTER TABLE %3$s ALTER COLUMN %1$I SET STORAGE %2$s' || item.compression,
                       item.attname, item.storage, shadow);
    END LOOP;
    FOR item IN
        SELECT c.conname, pg_get_constraintdef(c.oid) AS definition
          FROM pg_constraint c
         WHERE c.conrelid = original AND c.contype = 'c'
    LOOP
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', shadow, item.conname, item.definition);
    END LOOP;

    -- BEFORE ROW triggers have a say in what a row is; AFTER triggers are side effects
    FOR item IN
        SELECT pg_get_triggerdef(t.oid) AS definition
          FROM pg_trigger t
         WHERE t.tgrelid = original AND NOT t.tgisinternal AND t.tgtype & 3 = 3
           AND t.tgenabled IN ('O', 'A')
    LOOP
        EXECUTE replace(item.definition, ' ON ' || qualified || ' ', ' ON ' || shadow || ' ');
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.es_create_shadow(name, regclass, text, boolean, boolean) IS
    'Internal: creates the shadow of a table, without indexes; called by es_rebuild() and es_verify_projection()';

CREATE FUNCTION @extschema@.es_index_shadow(
    store name,
    original regclass,
    prefix text,
    late boolean
) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET default_tablespace = ''
AS $$
DECLARE
    shadow text := format('%I.%I', store, prefix || original::oid);
    item record;
BEGIN
    FOR item IN
        SELECT prefix || i.indexrelid AS name,
               i.indisvalid,
               x.relname AS index,
               (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = x.reltablespace) AS tablespace,
               pg_get_constraintdef(c.oid) AS constraint,
               pg_get_indexdef(i.indexrelid) AS definition,
               format('CREATE %sINDEX %I ON %s.%I', CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname,
                      t.relnamespace::regnamespace, t.relname) AS head,
               CASE WHEN i.indisunique THEN 'UNIQUE ' END AS uniqueness
          FROM pg_index i
          JOIN pg_class x ON x.oid = i.indexrelid
          JOIN pg_class t ON t.oid = i.indrelid
          LEFT JOIN pg_constraint c ON c.conrelid = i.indrelid AND c.conindid = i.indexrelid
                                   AND c.contype IN ('p', 'u', 'x')
         WHERE i.indrelid = original AND (i.indisunique OR i.indisexclusion) <> late
         ORDER BY i.indisprimary DESC, i.indexrelid
    LOOP
        PERFORM set_config('default_tablespace', coalesce(item.tablespace, ''), true);
        IF NOT item.indisvalid THEN
            RAISE EXCEPTION 'index "%" of table "%" is not valid', item.index, original
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'A CREATE INDEX CONCURRENTLY failed, or is still running. Drop the index, or wait.';
        ELSIF item.constraint IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', shadow, item.name, item.constraint);
        ELSIF starts_with(item.definition, item.head) THEN
            EXECUTE format('CREATE %sINDEX %I ON %s', item.uniqueness, item.name, shadow)
                    || substr(item.definition, length(item.head) + 1);
        ELSE
            RAISE EXCEPTION 'cannot copy index "%"', item.index;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.es_index_shadow(name, regclass, text, boolean) IS
    'Internal: creates the indexes of the shadow of a table: those that rows are checked by, or (late) the others; called by es_rebuild() and es_verify_projection()';

CREATE FUNCTION @extschema@.es_create_shadows(
    store name,
    tables regclass[],
    prefix text,
    unlogged boolean,
    roomy boolean,
    all_indexes boolean
) RETURNS name[]
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    original regclass;
    item record;
BEGIN
    FOREACH original IN ARRAY tables LOOP
        PERFORM @extschema@.es_create_shadow(store, original, prefix, unlogged, roomy);
        PERFORM @extschema@.es_index_shadow(store, original, prefix, false);
        IF all_indexes THEN
            PERFORM @extschema@.es_index_shadow(store, original, prefix, true);
        END IF;
    END LOOP;

    -- foreign keys between them: a script may rely on their cascades
    FOR item IN
        SELECT c.conrelid, c.confrelid, pg_get_constraintdef(c.oid) AS definition,
               format('REFERENCES %s.%I(', r.relnamespace::regnamespace, r.relname) AS original
          FROM pg_constraint c
          JOIN pg_class r ON r.oid = c.confrelid
         WHERE c.contype = 'f' AND c.conrelid = ANY (tables) AND c.confrelid = ANY (tables)
    LOOP
        EXECUTE format('ALTER TABLE %I.%I ADD ', store, prefix || item.conrelid)
                || replace(item.definition, item.original,
                           format('REFERENCES %I.%I(', store, prefix || item.confrelid));
    END LOOP;
    RETURN ARRAY(SELECT (prefix || t::oid)::name FROM unnest(tables) t);
END
$$;

COMMENT ON FUNCTION @extschema@.es_create_shadows(name, regclass[], text, boolean, boolean, boolean) IS
    'Internal: creates the shadows of tables and returns their names; called by es_rebuild() and es_verify_projection()';

CREATE FUNCTION @extschema@.es_drop_shadows(store name, shadows name[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    list text;
BEGIN
    SELECT string_agg(format('%I.%I', store, s), ', ') INTO list FROM unnest(shadows) s;
    IF list IS NOT NULL THEN
        EXECUTE 'DROP TABLE IF EXISTS ' || list;
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_drop_shadows(name, name[]) IS
    'Internal: drops shadows of tables; called by es_rebuild() and es_verify_projection()';

CREATE FUNCTION @extschema@.es_forget_rebuild(store name, projection text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shadows name[];
BEGIN
    EXECUTE format('SELECT shadows FROM %I.rebuilds WHERE projection = $1', store)
       INTO shadows USING projection;
    -- in this order: a rebuild under way notes its progress while it fills them
    PERFORM @extschema@.es_drop_shadows(store, shadows);
    EXECUTE format('DELETE FROM %I.rebuilds WHERE projection = $1', store) USING projection;
END
$$;

COMMENT ON FUNCTION @extschema@.es_forget_rebuild(name, text) IS
    'Internal: drops what a rebuild that did not end left behind; called by es_rebuild() and es_drop_projection()';

CREATE FUNCTION @extschema@.es_begin_rebuild(
    store name,
    projection text,
    updates boolean,
    all_indexes boolean
) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other text;
    shared regclass;
    tables regclass[];
    types text[];
    total bigint;
    unlogged boolean;
BEGIN
    PERFORM @extschema@.es_forget_rebuild(store, projection);
    EXECUTE format('SELECT d.name, t.table_ FROM %1$I.projection_definitions d CROSS JOIN unnest(d.tables) t (table_)'
                   ' WHERE d.name <> $1 AND t.table_ IN'
                   ' (SELECT unnest(o.tables) FROM %1$I.projection_definitions o WHERE o.name = $1)'
                   ' ORDER BY 1 LIMIT 1', store)
       INTO other, shared USING projection;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'projection "%" cannot be rebuilt, since "%" is a table of projection "%", too', projection, shared, other
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The rebuilt table would lack what the other projection wrote to it.',
                  HINT = 'Give each projection tables of its own, or make one projection of the two.';
    END IF;
    EXECUTE format('SELECT tables, CASE WHEN next_script IS NULL THEN types ELSE next_types END'
                   ' FROM %I.projection_definitions WHERE name = $1', store)
       INTO tables, types USING projection;
    -- now, rather than when all is filled
    PERFORM @extschema@.es_check_key_rights(t) FROM unnest(tables) t;
    EXECUTE format('SELECT count(*) FROM %I.events WHERE $1 IS NULL OR type = ANY ($1)', store)
       INTO total USING types;
    -- rows that are written again and again are written to the WAL once, when all is filled; not where tables refer
    -- to each other, since a logged one must not refer to one that is not
    unlogged := updates AND NOT EXISTS (SELECT FROM pg_constraint c
                                         WHERE c.contype = 'f' AND c.conrelid = ANY (tables)
                                           AND c.confrelid = ANY (tables) AND c.confrelid <> c.conrelid);
    EXECUTE format('INSERT INTO %I.rebuilds (projection, phase, position, done, total, shadows)'
                   ' VALUES ($1, ''fill'', 0, 0, $2, $3)', store)
      USING projection, total,
            @extschema@.es_create_shadows(store, tables, 'rebuild_', unlogged, unlogged, all_indexes);
END
$$;

COMMENT ON FUNCTION @extschema@.es_begin_rebuild(name, text, boolean, boolean) IS
    'Internal: puts the shadows of a projection''s tables in place; called by es_rebuild()';

CREATE FUNCTION @extschema@.es_log_shadow(original regclass, shadow regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (SELECT c.relpersistence FROM pg_class c WHERE c.oid = original) = 'p'
       AND (SELECT c.relpersistence FROM pg_class c WHERE c.oid = shadow) = 'u' THEN
        -- which writes the table anew, without its dead rows and the room for them
        EXECUTE format('ALTER TABLE %s %s SET LOGGED', shadow,
                       (SELECT format('SET (fillfactor = %s),', @extschema@.es_fillfactor(original))
                          FROM pg_class c JOIN pg_am m ON m.oid = c.relam
                         WHERE c.oid = original AND m.amname = 'heap'));
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_log_shadow(regclass, regclass) IS
    'Internal: makes the shadow of a logged table a logged one, too; called by es_rebuild()';

CREATE FUNCTION @extschema@.es_check_shadow(original regclass, shadow regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    SELECT c.conname INTO name
      FROM pg_constraint c
     WHERE c.conrelid = original AND c.contype = 'c'
       AND NOT EXISTS (SELECT FROM pg_constraint s
                        WHERE s.conrelid = shadow AND s.contype = 'c' AND s.conname = c.conname
                          AND pg_get_constraintdef(s.oid) = pg_get_constraintdef(c.oid))
     LIMIT 1;
    IF name IS NOT NULL THEN
        RAISE EXCEPTION 'constraint "%" of table "%" was created or changed while it was being rebuilt', name, original
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call es_rebuild() again.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_check_shadow(regclass, regclass) IS
    'Internal: raises 55000 where a table got a check that its shadow''s rows did not pass; called by es_rebuild() before it swaps contents';

CREATE FUNCTION @extschema@.es_check_key_rights(original regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    SELECT c.conname, t.oid::regclass AS other, row_security_active(t.oid) AS hidden INTO item
      FROM pg_constraint c
     CROSS JOIN LATERAL (VALUES (c.conrelid, c.conkey), (c.confrelid, c.confkey)) k (other, columns)
      JOIN pg_class t ON t.oid = k.other
     WHERE c.contype = 'f' AND c.convalidated AND c.conparentid = 0 AND original IN (c.conrelid, c.confrelid)
       AND NOT pg_has_role(t.relowner, 'USAGE')
       AND (row_security_active(t.oid)
            OR NOT (SELECT bool_and(has_column_privilege(t.oid, a, 'SELECT')) FROM unnest(k.columns) a))
     ORDER BY c.conname
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'foreign key constraint "%" cannot be checked by the store''s owner', item.conname
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = CASE WHEN item.hidden THEN format('Row security may hide rows of table %s from role %I.', item.other, current_user)
                                ELSE format('Role %2$I may not read table %1$s.', item.other, current_user) END,
                  HINT = CASE WHEN item.hidden THEN 'Drop the foreign key for the time of the rebuild, or exempt the role from row security.'
                              ELSE format('GRANT SELECT ON %s TO %I.', item.other, current_user) END;
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_check_key_rights(regclass) IS
    'Internal: raises 42501 where the store''s owner cannot check a foreign key from or to a table; called by es_rebuild()';

CREATE FUNCTION @extschema@.es_check_keys(original regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    row text;
BEGIN
    PERFORM @extschema@.es_check_key_rights(original);
    FOR item IN
        SELECT c.conname,
               format('%I.%I', fn.nspname, f.relname) AS referencing,
               format('%I.%I', pn.nspname, p.relname) AS referenced,
               string_agg(format('f.%I', fa.attname), ', ' ORDER BY k.n) AS columns,
               string_agg(format('f.%I IS NOT NULL', fa.attname), ' AND ') AS given,
               string_agg(format('p.%I OPERATOR(%I.%s) f.%I', pa.attname, n.nspname, o.oprname, fa.attname), ' AND ') AS equal
          FROM pg_constraint c
          JOIN pg_class f ON f.oid = c.conrelid
          JOIN pg_namespace fn ON fn.oid = f.relnamespace
          JOIN pg_class p ON p.oid = c.confrelid
          JOIN pg_namespace pn ON pn.oid = p.relnamespace
         CROSS JOIN LATERAL unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY k (f, p, op, n)
          JOIN pg_attribute fa ON fa.attrelid = c.conrelid AND fa.attnum = k.f
          JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.p
          JOIN pg_operator o ON o.oid = k.op
          JOIN pg_namespace n ON n.oid = o.oprnamespace
         WHERE c.contype = 'f' AND c.convalidated AND c.conparentid = 0 AND original IN (c.conrelid, c.confrelid)
         GROUP BY c.oid, c.conname, fn.nspname, f.relname, pn.nspname, p.relname
    LOOP
        EXECUTE format('SELECT ROW(%s)::text FROM %s f WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s) LIMIT 1',
                       item.columns, item.referencing, item.given, item.referenced, item.equal)
           INTO row;
        IF row IS NOT NULL THEN
            RAISE EXCEPTION 'the rebuilt table "%" violates foreign key constraint "%"', original, item.conname
                USING ERRCODE = 'foreign_key_violation',
                      DETAIL = format('%s of table %s is not in table %s.', row, item.referencing, item.referenced),
                      HINT = 'The read model was left as it was. Correct the script, or the other table.';
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.es_check_keys(regclass) IS
    'Internal: raises 23503 where a table''s rows break a foreign key from or to it; called by es_rebuild() when it has swapped contents';

CREATE FUNCTION @extschema@.es_serial_columns(original regclass) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN ARRAY(SELECT a.attname::text
                   FROM pg_attribute a
                   LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                  WHERE a.attrelid = original AND a.attnum > 0 AND NOT a.attisdropped
                    AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'));

COMMENT ON FUNCTION @extschema@.es_serial_columns(regclass) IS
    'Internal: the columns of a table that a sequence numbers: not a matter of history, so es_verify_projection() leaves them out';

CREATE PROCEDURE @extschema@.es_rebuild(name text, batch_size int DEFAULT 20000)
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON PROCEDURE @extschema@.es_rebuild(text, int) IS
    'Builds a projection''s tables anew from the whole history, beside the old ones, which go on serving and being maintained, and then swaps their contents in one short transaction. Works in transactions of batch_size events; the view progress shows how far it is. Cancelled or killed, it leaves the old contents and can be called again. 25001 inside a transaction block';

CREATE FUNCTION @extschema@.es_verify_projection(name text)
    RETURNS TABLE (relation regclass, difference text, "row" jsonb)
    LANGUAGE c VOLATILE ROWS 10 AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_verify_projection(text) IS
    'Builds a projection''s tables from the history aside and returns how the real ones differ: rows that the history makes and are missing, rows that are there and unexpected. Columns that a sequence numbers don''t count. No rows: all is well';
/* Running what works after commit. */

CREATE PROCEDURE @extschema@.es_run(name text DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON PROCEDURE @extschema@.es_run(text) IS
    'Brings an async projection or a handler, or all that are due, up to the safe position, in transactions of its own. What handlers and triggers append and schedule meanwhile may be left to the next call. One that fails stops alone, and is due again after a while; another session''s is left to it. From a cron job, a client''s loop, or the worker. 25001 inside a transaction block';

CREATE FUNCTION @extschema@.es_advance_watermark() RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_advance_watermark() IS
    'Writes the position of the last event at or below the safe position into the store''s table watermark, and returns it: copies of the store, logical subscribers and standbys, are read by position up to there. From the first call on, the worker and each es_run() without a name do so, too. For the store''s owner. 55000 on a logical subscriber';

CREATE PROCEDURE @extschema@.es_wait(
    name text,
    "position" bigint DEFAULT NULL,
    timeout interval DEFAULT '5 seconds'
)
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON PROCEDURE @extschema@.es_wait(text, bigint, interval) IS
    'Waits until a projection or handler has worked on the events up to a position, by default the last one that this session appended to the store; not at all for an inline projection that is running. ZE010 where it does not get there in time, at once with timeout 0. 42704 where there is none of that name. Commit what you appended first';
/* Aggregates. */

CREATE FUNCTION @extschema@.es_create_aggregate(
    category text,
    apply regprocedure DEFAULT NULL,
    rules jsonb DEFAULT NULL,
    initial jsonb DEFAULT '{}',
    snapshot_every int DEFAULT 100,
    code_version int DEFAULT 1
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_aggregate(text, regprocedure, jsonb, jsonb, int, int) IS
    'Defines, or defines anew, how the events of a category fold into state: by an apply function (state jsonb, event es_event) RETURNS jsonb, or by rules. Only the store''s owner may, and the function runs with the owner''s rights';

CREATE FUNCTION @extschema@.es_alter_aggregate(
    category text,
    snapshot_every int DEFAULT NULL,
    snapshots_kept int DEFAULT NULL,
    code_version int DEFAULT NULL
) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    nrows int;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF category IS NULL THEN
        RAISE EXCEPTION 'category must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF snapshot_every < 0 OR snapshots_kept < 1 THEN
        RAISE EXCEPTION 'snapshot_every must not be negative, and snapshots_kept must be positive'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('snapshot_every: %s, snapshots_kept: %s.',
                                  coalesce(snapshot_every::text, 'as it is'), coalesce(snapshots_kept::text, 'as it is')),
                  HINT = 'Pass snapshot_every => 0 for no snapshots.';
    END IF;
    EXECUTE format('UPDATE %I.aggregates
                       SET snapshot_every = coalesce($2, snapshot_every),
                           snapshots_kept = coalesce($3, snapshots_kept),
                           code_version = coalesce($4, code_version)
                     WHERE category = $1', store)
      USING category, snapshot_every, snapshots_kept, code_version;
    GET DIAGNOSTICS nrows = ROW_COUNT;
    IF nrows = 0 THEN
        RAISE EXCEPTION 'no aggregate is defined for category "%"', category
            USING ERRCODE = 'undefined_object',
                  HINT = format('Define it with es_create_aggregate(%L, ...).', category);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.es_alter_aggregate(text, int, int, int) IS
    'Changes how often snapshots of a category are taken (0: never), how many of a stream are kept, or the code_version, which makes every older snapshot void; NULL leaves a value as it is. For apply, rules and initial call es_create_aggregate() again. For the store''s owner';

CREATE FUNCTION @extschema@.es_drop_aggregate(category text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    nrows int;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF category IS NULL THEN
        RAISE EXCEPTION 'category must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    EXECUTE format('DELETE FROM %I.aggregates WHERE category = $1', store) USING category;
    GET DIAGNOSTICS nrows = ROW_COUNT;
    IF nrows = 0 THEN
        RAISE EXCEPTION 'no aggregate is defined for category "%"', category
            USING ERRCODE = 'undefined_object',
                  HINT = format('The table %I.aggregates lists those that there are.', store);
    END IF;
    EXECUTE format('DELETE FROM %I.deciders WHERE category = $1', store) USING category;
    PERFORM @extschema@.es_drop_snapshots(category);
END
$$;

COMMENT ON FUNCTION @extschema@.es_drop_aggregate(text) IS
    'Drops the definition of a category''s aggregate, with its decider and snapshots; the events stay. For the store''s owner';
/* Snapshots. */

CREATE FUNCTION @extschema@.es_snapshot(stream text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_snapshot(text) IS
    'Takes a snapshot of a stream as it is now and returns its version, 0 for a stream without events. For whoever may append. 42704 where the category has no aggregate';

CREATE FUNCTION @extschema@.es_drop_snapshots(category text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_snapshots(text) IS
    'Drops the snapshots of a category, or all of the store, and returns how many there were. Nothing is lost: a snapshot is a cache. For the store''s owner';
/* The state of a stream. */

CREATE FUNCTION @extschema@.es_load(
    stream text,
    to_version bigint DEFAULT NULL,
    as_of timestamptz DEFAULT NULL,
    OUT version bigint,
    OUT state jsonb
) RETURNS record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_load(text, bigint, timestamptz) IS
    'The state of a stream and the version of the last event in it: now, up to to_version, or as it was at as_of. Version 0 and the initial state where there is no event. 42704 where the category has no aggregate';

CREATE FUNCTION @extschema@.es_replay(
    stream text,
    from_version bigint DEFAULT 1,
    to_version bigint DEFAULT NULL
) RETURNS TABLE (
    version bigint,
    type text,
    data jsonb,
    metadata jsonb,
    recorded_at timestamptz,
    state_before jsonb,
    state_after jsonb
)
    LANGUAGE c STABLE ROWS 100
    SUPPORT @extschema@.es_read_support
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_replay(text, bigint, bigint) IS
    'The events of a stream with the state before and after each of them. 42704 where the category has no aggregate';
/* The command side. */

CREATE FUNCTION @extschema@.es_create_decider(category text, decide regprocedure) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_decider(text, regprocedure) IS
    'Defines, or defines anew, the function that decides on the commands of a category: (state jsonb, command text, payload jsonb) RETURNS jsonb, an array of events, empty for nothing to do; it raises what it refuses. Only the store''s owner may, and the function runs with the owner''s rights';

CREATE FUNCTION @extschema@.es_execute(
    stream text,
    command text,
    payload jsonb DEFAULT '{}',
    expected_version bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_execute(text, text, jsonb, bigint, jsonb) IS
    'Loads a stream, lets its category''s decider decide on a command, appends the events and returns the stream''s version. Commands on one stream never conflict: they wait for each other, and decide on what they find then. metadata goes into every event. Errors of the decider pass through; ZE001 only for a given expected_version. For whoever may append';
/* Looking into histories. */

CREATE FUNCTION @extschema@.es_bisect(stream text, condition text) RETURNS bigint
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    result bigint;
    last bigint := @extschema@.es_stream_version(stream);
    -- Window by window, each as long as all before it: what became true early is
    -- found early, and folding up to the windows costs no more than they do.
    first bigint := 1;
    size bigint := 1000;
BEGIN
    -- NULL would look like a condition that never holds
    IF stream IS NULL OR condition IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', CASE WHEN stream IS NULL THEN 'stream' ELSE 'condition' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    LOOP
        -- the condition is the caller's own SQL: his rights, his search_path
        EXECUTE pg_catalog.format(
            'SELECT r.version FROM (SELECT version, state_after AS state FROM %s.es_replay($1, $2, $3)) r
              WHERE (%s
                    ) ORDER BY r.version LIMIT 1', '@extschema@', condition)
           INTO result USING stream, first, first OPERATOR(pg_catalog.+) size OPERATOR(pg_catalog.-) 1::bigint;
        first := first OPERATOR(pg_catalog.+) size;
        EXIT WHEN result IS NOT NULL OR first OPERATOR(pg_catalog.>) last;
        size := first OPERATOR(pg_catalog.-) 1::bigint;
    END LOOP;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_bisect(text, text) IS
    'The first version of a stream after which a condition over state holds, such as ''(state->>''''balance'''')::numeric < 0''; NULL where it never does. The condition is SQL, run with the caller''s rights: never build it from what others typed in';

CREATE FUNCTION @extschema@.es_diff(before jsonb, after jsonb)
    RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE pair (path, place, old, new, open) AS (
        -- place: the path as it is sorted, elements of arrays by their number
        SELECT NULL::text, '{}'::text[] COLLATE "C", before, after,
               coalesce(before IS DISTINCT FROM after
                        AND jsonb_typeof(before) = jsonb_typeof(after)
                        AND jsonb_typeof(before) IN ('object', 'array'), false)
        UNION ALL
        SELECT concat_ws('.', p.path, k.key), p.place || coalesce(lpad(k.element::text, 10, '0'), k.key), v.old, v.new,
               coalesce(jsonb_typeof(v.old) = jsonb_typeof(v.new)
                        AND jsonb_typeof(v.old) IN ('object', 'array'), false)
          FROM pair p
         CROSS JOIN LATERAL (
               SELECT o.key, NULL::int AS element
                 FROM jsonb_object_keys(CASE jsonb_typeof(p.old) WHEN 'object' THEN p.old END) o (key)
                UNION
               SELECT n.key, NULL
                 FROM jsonb_object_keys(CASE jsonb_typeof(p.new) WHEN 'object' THEN p.new END) n (key)
                UNION
               SELECT i::text, i
                 FROM generate_series(0, CASE jsonb_typeof(p.old) WHEN 'array'
                                         THEN greatest(jsonb_array_length(p.old), jsonb_array_length(p.new)) - 1
                                         END) i) k
         CROSS JOIN LATERAL (
               SELECT CASE WHEN k.element IS NULL THEN p.old -> k.key ELSE p.old -> k.element END AS old,
                      CASE WHEN k.element IS NULL THEN p.new -> k.key ELSE p.new -> k.element END AS new) v
         WHERE p.open AND v.old IS DISTINCT FROM v.new
    )
    SELECT coalesce(p.path, '$'),
           CASE WHEN p.old IS NULL THEN 'added' WHEN p.new IS NULL THEN 'removed' ELSE 'changed' END,
           p.old, p.new
      FROM pair p
     WHERE NOT p.open AND p.old IS DISTINCT FROM p.new
     ORDER BY p.place
$$;

COMMENT ON FUNCTION @extschema@.es_diff(jsonb, jsonb) IS
    'What differs between two states: a row for each path that was added, removed or changed. Elements of arrays are compared by their place; "$" is the whole value';
/* Upcasting: old events in today's shape. */

CREATE FUNCTION @extschema@.es_create_upcaster(type text, from_schema int, fn regprocedure) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_create_upcaster(text, int, regprocedure) IS
    'Lifts data of events of a type from one schema to the next when they are read: fn (data jsonb) RETURNS jsonb IMMUTABLE, NULL to drop the event. Appends are stamped with the current schema in metadata key "$schema". Only the store''s owner may; a call for the same type and schema replaces the function. 22023 for a function that does not fit';

CREATE FUNCTION @extschema@.es_drop_upcaster(type text, from_schema int) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_drop_upcaster(text, int) IS
    'Removes the upcaster of a type from that schema. 42704 where there is none';

CREATE FUNCTION @extschema@.es_rename_type(old text, new text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_rename_type(text, text) IS
    'Lets events that were stored under the old type be read under the new one, which may be a name that the type had before. Its upcasters go with it. es_rename_type(name, name) takes back that the name was renamed. 42710 where old was renamed before, 22023 where there is nothing to take back, or where both have an upcaster from the same schema';
/* The store examines itself. */

CREATE FUNCTION @extschema@.es_fingerprint(category text) RETURNS bytea
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_fingerprint(text) IS
    'The fingerprint of what decides how a category folds now; a snapshot with another one is not used. For the store''s owner';

CREATE FUNCTION @extschema@.es_verify()
    RETURNS TABLE (store name, relation text, problem text, detail text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET eventsourcing.use_snapshots = off
    SET application_name = 'es_verify'
AS $$
DECLARE
    last_position bigint;
    inline boolean;
    snapshot record;
BEGIN
    store := @extschema@.es_current_store();
    PERFORM @extschema@.es_check_store_owner(store);

    -- How far it is, others see in pg_stat_activity.
    PERFORM set_config('application_name', 'es_verify 1/4: streams', true);

    -- One pass over the log by stream finds what is wrong with versions, and
    -- with the order of what else grows with them.
    relation := 'events';
    FOR problem, detail IN EXECUTE format($q$
        SELECT w.problem, w.detail
          FROM (SELECT stream, version, position, recorded_at,
                       lag(version, 1, 0::bigint) OVER w AS previous_version,
                       lag(position) OVER w AS previous_position,
                       lag(recorded_at) OVER w AS previous_recorded_at
                  FROM %1$I.events
                WINDOW w AS (PARTITION BY stream ORDER BY version)) e
         CROSS JOIN LATERAL (
               SELECT 'versions of a stream are not 1 to n',
                      format('stream %%L: version %%s comes after %%s, at position %%s', stream, version, previous_version, position)
                WHERE version <> previous_version + 1
                UNION ALL
               SELECT 'an event is out of order in its stream',
                      format('stream %%L, version %%s: position %%s after %%s, recorded at %%s after %%s',
                             stream, version, position, previous_position, recorded_at, previous_recorded_at)
                WHERE position <= previous_position OR recorded_at < previous_recorded_at) w (problem, detail)
         WHERE version <> previous_version + 1 OR position <= previous_position OR recorded_at < previous_recorded_at
         ORDER BY stream, version, position, w.problem $q$, store)
    LOOP
        RETURN NEXT;
    END LOOP;

    PERFORM set_config('application_name', 'es_verify 2/4: positions', true);
    problem := 'a position is used more than once';
    FOR detail IN EXECUTE format($q$
        SELECT format('position %%s: %%s events', position, count(*))
          FROM %1$I.events
         GROUP BY position
        HAVING count(*) > 1
         ORDER BY position $q$, store)
    LOOP
        RETURN NEXT;
    END LOOP;

    -- Two appends with the same version, or the same event id, meet in these.
    PERFORM set_config('application_name', 'es_verify 3/4: definitions', true);
    problem := 'a unique index is missing or not valid';
    FOR detail IN EXECUTE format($q$
        SELECT format('a unique index on %%s', k.columns)
          FROM (VALUES ('stream,version', NULL), ('stream,event_id', '(event_id IS NOT NULL)')) k (columns, predicate)
         WHERE NOT EXISTS (SELECT FROM pg_index i
                            WHERE i.indrelid = %1$L::regclass AND i.indisunique AND i.indisvalid AND i.indisready AND i.indexprs IS NULL
                              AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM k.predicate
                              AND (SELECT string_agg(a.attname, ',' ORDER BY a.attname DESC)
                                     FROM pg_attribute a
                                    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))
                                  = (SELECT string_agg(c, ',' ORDER BY c DESC) FROM unnest(string_to_array(k.columns, ',')) c))
         ORDER BY 1 $q$, format('%I.events', store))
    LOOP
        RETURN NEXT;
    END LOOP;

    relation := 'events_position_seq';
    problem := 'the sequence of positions is behind the log';
    EXECUTE format('SELECT coalesce(max(position), 0) FROM %I.events', store) INTO last_position;
    FOR detail IN EXECUTE format($q$
        SELECT format('the sequence is at %%s, the highest position is %%s; mend it with es_repair_sequence()',
                      last_value, $1)
          FROM %1$I.events_position_seq
         WHERE $1 > CASE WHEN is_called THEN last_value ELSE last_value - 1 END
           -- a logical subscriber's stands still until it takes over
           AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = ANY ($2)) $q$, store)
        USING last_position, ARRAY(SELECT @extschema@.es_events_tables(store))::oid[]
    LOOP
        RETURN NEXT;
    END LOOP;

    problem := 'the sequence of positions is not in order';
    FOR detail IN
        SELECT format('cache is %s, increment %s, cycle %s; they have to be 1, 1, f', s.seqcache, s.seqincrement, s.seqcycle)
          FROM pg_sequence s
         WHERE s.seqrelid = to_regclass(format('%I.events_position_seq', store))
           AND (s.seqcache, s.seqincrement, s.seqcycle) <> (1, 1, false)
    LOOP
        RETURN NEXT;
    END LOOP;

    -- Positions that were handed out and rolled back are cursors' as well.
    problem := 'a cursor is past the head of the log';
    FOR relation, detail IN EXECUTE format($q$
        SELECT c.relation, format('%%s %%L is at %%s, the head at %%s', c.kind, c.name, c.position, h.head)
          FROM (SELECT greatest($1, last_value) FROM %1$I.events_position_seq) h (head)
          JOIN (SELECT 'subscription_cursors', 'subscription', name, taken FROM %1$I.subscription_cursors
                 UNION ALL
                SELECT 'projection_cursors', 'projection', name, position FROM %1$I.projection_cursors
                 UNION ALL
                SELECT 'rebuilds', 'the rebuild of', projection, position FROM %1$I.rebuilds
                 UNION ALL
                SELECT 'watermark', 'the mark', 'watermark', position FROM %1$I.watermark)
               c (relation, kind, name, position) ON c.position > h.head
         ORDER BY 1, 2 $q$, store)
        USING last_position
    LOOP
        RETURN NEXT;
    END LOOP;

    problem := 'a definition refers to what is not there';
    FOR relation, detail IN EXECUTE format($q$
        SELECT 'projection_definitions', format('projection %%L: table %%s', d.name, t::oid)
          FROM %1$I.projection_definitions d CROSS JOIN unnest(d.tables) t
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t)
         UNION ALL
        SELECT 'projection_definitions', format('projection %%L: its cursor', d.name)
          FROM %1$I.projection_definitions d
         WHERE NOT EXISTS (SELECT FROM %1$I.projection_cursors c WHERE c.name = d.name)
         UNION ALL
        SELECT 'projection_cursors', format('the cursor %%L: its projection', c.name)
          FROM %1$I.projection_cursors c
         WHERE NOT EXISTS (SELECT FROM %1$I.projection_definitions d WHERE d.name = c.name)
         UNION ALL
        SELECT 'rebuilds', format('the rebuild of %%L: its projection', r.projection)
          FROM %1$I.rebuilds r
         WHERE NOT EXISTS (SELECT FROM %1$I.projection_definitions d WHERE d.name = r.projection)
         UNION ALL
        SELECT 'handlers', format('handler %%L: its cursor', h.name)
          FROM %1$I.handlers h
         WHERE NOT EXISTS (SELECT FROM %1$I.subscription_cursors c WHERE c.name = h.name)
         UNION ALL
        SELECT DISTINCT 'deliveries', format('deliveries: subscription %%L', d.subscription)
          FROM %1$I.deliveries d
         WHERE NOT EXISTS (SELECT FROM %1$I.subscription_cursors c WHERE c.name = d.subscription)
         UNION ALL
        SELECT DISTINCT 'leases', format('leases: subscription %%L', l.subscription)
          FROM %1$I.leases l
         WHERE NOT EXISTS (SELECT FROM %1$I.subscription_cursors c WHERE c.name = l.subscription)
         UNION ALL
        SELECT 'deliveries', format('subscription %%L: event %%s of stream %%L', d.subscription, d.position, d.stream)
          FROM %1$I.deliveries d
         WHERE NOT EXISTS (SELECT FROM %1$I.events e WHERE e.position = d.position AND e.stream = d.stream)
         UNION ALL
        SELECT 'aggregates', format('aggregate %%L: function %%s', a.category, a.apply)
          FROM %1$I.aggregates a
         WHERE a.apply IS NOT NULL AND to_regprocedure(a.apply) IS NULL
         UNION ALL
        SELECT 'deciders', format('decider %%L: function %%s', d.category, d.decide)
          FROM %1$I.deciders d
         WHERE to_regprocedure(d.decide) IS NULL
         UNION ALL
        SELECT 'upcasters', format('upcaster of %%L from %%s: function %%s', u.type, u.from_schema, u.function)
          FROM %1$I.upcasters u
         WHERE to_regprocedure(u.function) IS NULL
         ORDER BY 1, 2 $q$, store)
    LOOP
        RETURN NEXT;
    END LOOP;

    problem := 'a trigger is missing or disabled';
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.projection_definitions WHERE mode = ''inline'')', store) INTO inline;
    FOR relation, detail IN
        SELECT t.tablename, format('trigger %I; put it back with es_upgrade_store(%L)', t.triggername, store)
          FROM (SELECT e.events, c.relname, g.*
                  FROM @extschema@.es_events_tables(store) e (events)
                  JOIN pg_class c ON c.oid = e.events
                 CROSS JOIN (VALUES ('es_guard_insert', '{O,A}'::"char"[]), ('es_guard_change', '{A}')) g
                 UNION ALL
                SELECT to_regclass(format('%I.%I', store, d)), d, 'es_definition_changed', '{A}'
                  FROM unnest('{aggregates,deciders,projection_definitions,renamed_types,store,upcasters}'::text[]) d
                 UNION ALL
                SELECT to_regclass(format('%I.events', store)), 'events', 'es_project', '{O,A}'
                 WHERE inline)
               t (relid, tablename, triggername, enabled)
         WHERE NOT EXISTS (SELECT FROM pg_trigger g
                            WHERE g.tgrelid = t.relid
                              AND g.tgname = t.triggername
                              AND g.tgenabled = ANY (t.enabled))
         ORDER BY t.tablename, t.triggername
    LOOP
        RETURN NEXT;
    END LOOP;

    -- One by one, since a fold that fails is to be reported as well.
    relation := 'snapshots';
    FOR snapshot IN EXECUTE format($q$
        SELECT s.stream, s.version, a.category, s.state, row_number() OVER (ORDER BY s.stream, s.version) AS done
          FROM %1$I.aggregates a
          JOIN %1$I.snapshots s ON split_part(s.stream, '-', 1) = a.category
         WHERE (a.apply IS NULL OR to_regprocedure(a.apply) IS NOT NULL)
           AND NOT EXISTS (SELECT FROM %1$I.upcasters WHERE to_regprocedure(function) IS NULL)
           AND s.fingerprint = %2$s.es_fingerprint(a.category)
         ORDER BY s.stream, s.version $q$, store, '@extschema@')
    LOOP
        IF snapshot.done % 1000 = 1 THEN
            PERFORM set_config('application_name', format('es_verify 4/4: snapshot %s', snapshot.done), true);
        END IF;
        BEGIN
            SELECT 'a snapshot differs from the fold of the events',
                   format('stream %L, version %s; drop it with es_drop_snapshots(%L)', snapshot.stream, snapshot.version, snapshot.category)
              INTO problem, detail
              FROM @extschema@.es_load(snapshot.stream, snapshot.version) l
             WHERE l.version <> snapshot.version OR l.state <> snapshot.state;
            CONTINUE WHEN NOT FOUND;
        EXCEPTION WHEN OTHERS THEN
            problem := 'the events of a snapshot do not fold';
            detail := format('stream %L, version %s: %s', snapshot.stream, snapshot.version, SQLERRM);
        END;
        RETURN NEXT;
    END LOOP;

    relation := 'store';
    problem := 'a setting breaks a promise';
    FOR detail IN
        SELECT format('%s is %s: %s', s.name, s.setting, w.why)
          FROM pg_settings s
          JOIN (VALUES ('fsync', 'off', 'events that were acknowledged can be lost in a crash'),
                       ('full_page_writes', 'off', 'pages of the log can be torn in a crash'),
                       ('synchronous_commit', 'off', 'the last events that were acknowledged can be lost in a crash'))
               w (name, setting, why) USING (name, setting)
         ORDER BY s.name
    LOOP
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.es_verify() IS
    'Examines the current store and returns what is wrong with it, nothing if all is well: gaps and duplicates of versions and positions, order, the sequence, unique indexes, cursors past the head, definitions without what they refer to, guards, snapshots against the fold of the events, settings. Streams without a snapshot are not folded, and read models not compared: see es_verify_projection(). Reads the whole log; pg_stat_activity shows how far it is as the session''s application_name. For the store''s owner';

CREATE FUNCTION @extschema@.es_repair_sequence() RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    result bigint;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    EXECUTE format('LOCK TABLE %I.events IN SHARE ROW EXCLUSIVE MODE', store);
    EXECUTE format('SELECT setval(%L, greatest(last_value, (SELECT max(position) FROM %2$I.events)), '
                   '              is_called OR EXISTS (SELECT FROM %2$I.events))'
                   '  FROM %2$I.events_position_seq',
                   format('%I.events_position_seq', store), store)
       INTO result;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_repair_sequence() IS
    'Puts the sequence of positions at or above the highest position in the log, after a restore that left it behind, and returns where it stands. Appends wait meanwhile. For the store''s owner';
/* Events from an ordinary table. */

CREATE FUNCTION @extschema@.es_capture_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_capture_row() IS
    'Trigger: appends what happens to the rows of a captured table as events; es_capture() makes it';

CREATE FUNCTION @extschema@.es_captured_tables("table" regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT "table"
     UNION
    SELECT relid FROM pg_partition_tree("table")
$$;

COMMENT ON FUNCTION @extschema@.es_captured_tables(regclass) IS
    'Internal: a table and its partitions: PostgreSQL gives row triggers to partitions by itself, but not those for TRUNCATE';

-- The settings are those with which the trigger makes the key's text.
CREATE FUNCTION @extschema@.es_capture("table" regclass, category text, key text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET bytea_output = 'hex'
    SET datestyle = 'ISO, YMD'
    SET extra_float_digits = 1
    SET intervalstyle = 'postgres'
    SET lc_monetary = 'C'
    SET timezone = 'UTC'
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    known boolean;
    part regclass;
    result bigint;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF "table" IS NULL OR category IS NULL OR key IS NULL THEN
        RAISE EXCEPTION '% must not be NULL',
                        CASE WHEN "table" IS NULL THEN 'table' WHEN category IS NULL THEN 'category' ELSE 'key' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF (SELECT c.relowner FROM pg_class c WHERE c.oid = "table")
       <> (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(format('%I.events', store))) THEN
        RAISE EXCEPTION 'table "%" does not belong to the owner of event store "%"', "table", store
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'The events are appended as the store''s owner, who has to own the table as well.';
    END IF;
    IF (SELECT @extschema@.es_store_exists(n.nspname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = "table") THEN
        RAISE EXCEPTION 'table "%" cannot be captured', "table"
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It is in an event store''s own schema.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = "table" AND a.attname = key AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table "%" has no column "%"', "table", key
            USING ERRCODE = 'undefined_column',
                  HINT = 'The key is the column whose value names the stream of a row, usually the primary key.';
    END IF;

    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = "table" AND t.tgname = '00_es_capture_row') THEN
        RAISE EXCEPTION 'table "%" is captured already', "table"
            USING ERRCODE = 'duplicate_object',
                  HINT = 'End that with es_uncapture() first.';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'cannot begin to capture in a transaction that is %', current_setting('transaction_isolation')
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'Rows that others wrote since it began would be in no event.',
                  HINT = 'Call es_capture() in a READ COMMITTED transaction.';
    END IF;
    IF row_security_active("table") THEN
        RAISE EXCEPTION 'cannot capture "%": row security hides rows from you', "table"
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Capture it as its owner without FORCE ROW LEVEL SECURITY, or as a role that has BYPASSRLS.';
    END IF;

    -- The lock of CREATE TRIGGER keeps writers out: no row is missed or doubled.
    -- It has a name that sorts first, so that it sees a row before another
    -- trigger changes it again.
    EXECUTE format('CREATE TRIGGER "00_es_capture_row" AFTER INSERT OR UPDATE OR DELETE ON %s
                        FOR EACH ROW EXECUTE FUNCTION %s.es_capture_row(%L, %L, %L)',
                   "table", '@extschema@', store, category, key);
    FOR part IN SELECT * FROM @extschema@.es_captured_tables("table") LOOP
        EXECUTE format('CREATE TRIGGER "00_es_capture_truncate" BEFORE TRUNCATE ON %s
                            FOR EACH STATEMENT EXECUTE FUNCTION %s.es_capture_row(%L, %L, %L)',
                       part, '@extschema@', store, category, key);
    END LOOP;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.aggregates a WHERE a.category = $1)', store)
       INTO known USING category;
    IF NOT known THEN
        -- a row that comes again under the key of one that was deleted has all
        -- of its columns in the event
        PERFORM @extschema@.es_create_aggregate(category, rules => '{
            "Created": [{"$unset": "deleted"}, {"$merge": "$"}],
            "Updated": {"$merge": "$"},
            "Deleted": {"$set": {"deleted": true}}}');
    END IF;
    -- Triggers see a row as it is stored: without virtual columns, and not those
    -- of tables that inherit from this one.
    -- format() makes of a key what the trigger does; a cast to text need not.
    -- row_to_json(t) would be that of a column t.
    EXECUTE format('SELECT count(%4$s.es_append($1 || ''-'' || CASE WHEN t.%1$I IS NOT NULL THEN format(''%%s'', t.%1$I) END,
                                                       ''Created'', row_to_json(t.*)::jsonb - $2)) FROM %2$s %3$s t',
                   key, CASE WHEN (SELECT relkind FROM pg_class WHERE oid = "table") = 'r' THEN 'ONLY' ELSE '' END, "table", '@extschema@')
       INTO result
      USING category, ARRAY(SELECT a.attname::text FROM pg_attribute a
                             WHERE a.attrelid = "table" AND a.attgenerated = 'v');
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_capture(regclass, text, text) IS
    'Begins to append what happens to the rows of a table as events Created, Updated (with the columns that changed) and Deleted of the streams category-key, in the same transaction, and imports the rows that are there; returns how many. Defines an aggregate whose state is the row, unless the category has one. One role has to own the store and the table: the events are appended with its rights';

CREATE FUNCTION @extschema@.es_uncapture("table" regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    part regclass;
BEGIN
    IF "table" IS NULL THEN
        RAISE EXCEPTION 'table must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = "table" AND t.tgname = '00_es_capture_row') THEN
        RAISE EXCEPTION 'table "%" is not captured', "table"
            USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('DROP TRIGGER "00_es_capture_row" ON %s', "table");
    FOR part IN SELECT * FROM @extschema@.es_captured_tables("table") LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS "00_es_capture_truncate" ON %s', part);
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.es_uncapture(regclass) IS
    'Ends what es_capture() began; the events stay';
/* Events in formats of others. */

CREATE FUNCTION @extschema@.es_cloudevent(event @extschema@.es_event, source text DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
               'specversion', '1.0',
               'id', event.stream || '@' || event.version,
               'source', coalesce(source, format('/%s/%s', current_database(), @extschema@.es_current_store())),
               'type', event.type,
               'subject', event.stream,
               'time', to_char(event.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               'datacontenttype', 'application/json',
               -- an integer of CloudEvents has 32 bits
               'position', event.position::text,
               'version', event.version::text,
               'eventid', event.event_id,
               'actor', event.metadata ->> 'actor',
               'correlationid', event.metadata ->> 'correlation_id',
               'causationid', event.metadata ->> 'causation_id',
               'traceparent', event.metadata ->> 'traceparent'))
           || jsonb_build_object('data', event.data)
     WHERE event IS DISTINCT FROM NULL
$$;

COMMENT ON FUNCTION @extschema@.es_cloudevent(@extschema@.es_event, text) IS
    'An event as a CloudEvents 1.0 object in JSON. source defaults to /database/store; id is stream@version, unique within it; position, version and what metadata says of cause and trace are extension attributes';

CREATE FUNCTION @extschema@.es_cloudevents(
    after bigint DEFAULT 0,
    max_count bigint DEFAULT 1000,
    category text DEFAULT NULL,
    types text[] DEFAULT NULL,
    tags text[] DEFAULT NULL,
    source text DEFAULT NULL
) RETURNS TABLE ("position" bigint, event jsonb)
    LANGUAGE sql VOLATILE ROWS 1000
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.position, @extschema@.es_cloudevent(e, source)
      FROM @extschema@.es_read_all(after, max_count, category, types, tags) e
$$;

COMMENT ON FUNCTION @extschema@.es_cloudevents(bigint, bigint, text, text[], text[], text) IS
    'es_read_all() as CloudEvents 1.0, for a relay to a broker or a webhook: go on after the last position';

/* What a connector that reads an outbox expects, with Debezium's names. */
CREATE FUNCTION @extschema@.es_install_interchange_views(name name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format($ddl$
        CREATE OR REPLACE VIEW %1$I.outbox WITH (security_invoker) AS
            SELECT coalesce(e.event_id, md5(e.stream || '@' || e.version)::uuid) AS id,
                   split_part(e.stream, '-', 1) AS aggregatetype,
                   CASE WHEN strpos(e.stream, '-') = 0 THEN e.stream
                        ELSE substr(e.stream, strpos(e.stream, '-') + 1) END AS aggregateid,
                   e.type,
                   e.data AS payload,
                   e.recorded_at AS "timestamp",
                   'traceparent=' || (e.metadata ->> 'traceparent') AS tracingspancontext,
                   e.position,
                   e.version
              FROM %1$I.events e;
        COMMENT ON VIEW %1$I.outbox IS
            'The log in the shape of an outbox, with the column names that Debezium''s event router expects. Read it up to es_safe_position()'
    $ddl$, name);
END
$$;

COMMENT ON FUNCTION @extschema@.es_install_interchange_views(name) IS
    'Internal: puts the views of a store for other systems in place; called by es_install_store()';
/* Bringing in events that another store recorded. */

CREATE FUNCTION @extschema@.es_import_event(
    stream text,
    version bigint,
    type text,
    data jsonb,
    recorded_at timestamptz,
    metadata jsonb DEFAULT NULL,
    event_id uuid DEFAULT NULL,
    tags text[] DEFAULT NULL
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_import_event(text, bigint, text, jsonb, timestamptz, jsonb, uuid, text[]) IS
    'Appends an event that another store recorded, with its version, time and metadata as they were, and returns the stream''s new version. ZE001 unless version is the stream''s next, 22023 for a time before that of the version before. Bulk: COPY into a table of your own, then SELECT es_import_event(...) FROM it ORDER BY stream, version. For the store''s owner';

CREATE FUNCTION @extschema@.es_import_events(events jsonb) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_import_events(jsonb) IS
    'es_import_event() for an array of objects, such as SELECT jsonb_agg(e ORDER BY position) FROM es.events e of another store makes it; returns how many there were. ZE006 for what is no event; CONTEXT names the element';
/* Testing event-sourced code in pgTAP: given events, when a command, then events. */

CREATE FUNCTION @extschema@.es_given(stream text, events jsonb) RETURNS SETOF text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF events IS NULL THEN
        RAISE EXCEPTION 'events must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'Pass [] for none.';
    END IF;
    -- what the test set up is told from what happened then by its metadata
    PERFORM @extschema@.es_append_events(stream, (
        SELECT coalesce(jsonb_agg(e.value || jsonb_build_object('metadata',
                            coalesce(nullif(e.value -> 'metadata', 'null'), '{}') || '{"given": true}') ORDER BY e.ordinality), '[]')
          FROM jsonb_array_elements(events) WITH ORDINALITY e));
END
$$;

COMMENT ON FUNCTION @extschema@.es_given(text, jsonb) IS
    'For tests in pgTAP: appends the events that a stream has before the command under test, with "given" in their metadata. Returns no rows';

-- No search_path of its own: pgTAP's functions need the one that they were found in.
CREATE FUNCTION @extschema@.es_then(stream text, events jsonb, description text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE plpgsql
AS $$
DECLARE
    happened jsonb;
    expected jsonb;
BEGIN
    IF events IS NULL THEN
        RAISE EXCEPTION 'events must not be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'Pass [] for none.';
    END IF;
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('type', e.type, 'data', e.data) ORDER BY e.version), '[]')
      INTO happened
      FROM @extschema@.es_read(es_then.stream) e
     WHERE (e.metadata OPERATOR(pg_catalog.->) 'given'::text) IS NULL;
    SELECT coalesce(pg_catalog.jsonb_agg('{"data": {}}'::jsonb OPERATOR(pg_catalog.||) e.value ORDER BY e.ordinality), '[]')
      INTO expected
      FROM pg_catalog.jsonb_array_elements(events) WITH ORDINALITY e;
    RETURN QUERY EXECUTE 'SELECT is($1, $2, $3)'
        USING happened, expected, coalesce(description, pg_catalog.format('events of %s', es_then.stream));
END
$$;

COMMENT ON FUNCTION @extschema@.es_then(text, jsonb, text) IS
    'For tests in pgTAP: checks which events (type and data) a stream got besides those of es_given(), [] for none. Needs pgTAP in the search_path';
