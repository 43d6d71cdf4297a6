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
AS $$
DECLARE
    last_position bigint;
BEGIN
    store := @extschema@.es_current_store();
    PERFORM @extschema@.es_check_store_owner(store);

    relation := 'events';
    problem := 'versions of a stream are not 1 to n';
    FOR detail IN EXECUTE format($q$
        SELECT format('stream %%L: %%s events, versions %%s to %%s', stream, count(*), min(version), max(version))
          FROM %1$I.events
         GROUP BY stream
        HAVING min(version) <> 1 OR max(version) <> count(*)
         ORDER BY stream $q$, store)
    LOOP
        RETURN NEXT;
    END LOOP;

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

    problem := 'an event is out of order in its stream';
    FOR detail IN EXECUTE format($q$
        SELECT format('stream %%L, version %%s: position %%s after %%s, recorded at %%s after %%s',
                      stream, version, position, previous_position, recorded_at, previous_recorded_at)
          FROM (SELECT stream, version, position, recorded_at,
                       lag(position) OVER w AS previous_position,
                       lag(recorded_at) OVER w AS previous_recorded_at
                  FROM %1$I.events
                WINDOW w AS (PARTITION BY stream ORDER BY version)) e
         WHERE position <= previous_position OR recorded_at < previous_recorded_at
         ORDER BY stream, version $q$, store)
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
         WHERE $1 > CASE WHEN is_called THEN last_value ELSE last_value - 1 END $q$, store)
        USING last_position
    LOOP
        RETURN NEXT;
    END LOOP;

    problem := 'a trigger is missing or disabled';
    FOR relation, detail IN
        SELECT t.tablename, format('trigger %I; put it back with es_upgrade_store(%L)', t.triggername, store)
          FROM (SELECT e.events, c.relname, g.*
                  FROM @extschema@.es_events_tables(store) e (events)
                  JOIN pg_class c ON c.oid = e.events
                 CROSS JOIN (VALUES ('es_guard_insert', '{O,A}'::"char"[]), ('es_guard_change', '{A}')) g
                 UNION ALL
                SELECT to_regclass(format('%I.%I', store, d)), d, 'es_definition_changed', '{A}'
                  FROM unnest('{aggregates,deciders,renamed_types,upcasters}'::text[]) d)
               t (relid, tablename, triggername, enabled)
         WHERE NOT EXISTS (SELECT FROM pg_trigger g
                            WHERE g.tgrelid = t.relid
                              AND g.tgname = t.triggername
                              AND g.tgenabled = ANY (t.enabled))
         ORDER BY t.tablename, t.triggername
    LOOP
        RETURN NEXT;
    END LOOP;

    relation := 'snapshots';
    problem := 'a snapshot differs from the fold of the events';
    FOR detail IN EXECUTE format($q$
        SELECT format('stream %%L, version %%s; drop it with es_drop_snapshots(%%L)', s.stream, s.version, a.category)
          FROM %1$I.aggregates a
          JOIN %1$I.snapshots s ON split_part(s.stream, '-', 1) = a.category
         CROSS JOIN LATERAL @extschema@.es_load(s.stream, s.version) l
         WHERE s.fingerprint = @extschema@.es_fingerprint(a.category)
           AND (l.version <> s.version OR l.state <> s.state)
         ORDER BY s.stream, s.version $q$, store)
    LOOP
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
    'Examines the current store and returns what is wrong with it, nothing if all is well: gaps and duplicates of versions and positions, order, the sequence, guards, snapshots against the events, settings. Reads the whole log. For the store''s owner';

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
