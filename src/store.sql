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
