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
