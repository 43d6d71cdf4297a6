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
