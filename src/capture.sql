/* Events from an ordinary table. */

CREATE FUNCTION @extschema@.es_capture_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_capture_row() IS
    'Trigger: appends what happens to the rows of a captured table as events; es_capture() makes it';

CREATE FUNCTION @extschema@.es_capture("table" regclass, category text, key text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    store name := @extschema@.es_current_store();
    known boolean;
    result bigint;
BEGIN
    PERFORM @extschema@.es_check_store_owner(store);
    IF "table" IS NULL OR category IS NULL OR key IS NULL THEN
        RAISE EXCEPTION 'table, category and key must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = "table" AND a.attname = key AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table "%" has no column "%"', "table", key
            USING ERRCODE = 'undefined_column',
                  HINT = 'The key is the column whose value names the stream of a row, usually the primary key.';
    END IF;

    -- the lock of CREATE TRIGGER keeps writers out: no row is missed or doubled
    EXECUTE format('CREATE TRIGGER es_capture_row AFTER INSERT OR UPDATE OR DELETE ON %s
                        FOR EACH ROW EXECUTE FUNCTION @extschema@.es_capture_row(%L, %L, %L)',
                   "table", store, category, key);
    EXECUTE format('CREATE TRIGGER es_capture_truncate BEFORE TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.es_capture_row(%L, %L, %L)',
                   "table", store, category, key);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.aggregates a WHERE a.category = $1)', store)
       INTO known USING category;
    IF NOT known THEN
        PERFORM @extschema@.es_create_aggregate(category, rules => '{
            "Created": {"$merge": "$"},
            "Updated": {"$merge": "$"},
            "Deleted": {"$set": {"deleted": true}}}');
    END IF;
    EXECUTE format('SELECT count(@extschema@.es_append($1 || ''-'' || t.%I, ''Created'', to_jsonb(t))) FROM %s t',
                   key, "table")
       INTO result USING category;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.es_capture(regclass, text, text) IS
    'Begins to append what happens to the rows of a table as events Created, Updated (with the columns that changed) and Deleted of the streams category-key, in the same transaction, and imports the rows that are there; returns how many. Defines an aggregate whose state is the row, unless the category has one. For who owns the store and the table; the events are appended with the rights of the table''s owner';

CREATE FUNCTION @extschema@.es_uncapture("table" regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = "table" AND t.tgname = 'es_capture_row') THEN
        RAISE EXCEPTION 'table "%" is not captured', "table"
            USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('DROP TRIGGER es_capture_row ON %s', "table");
    EXECUTE format('DROP TRIGGER IF EXISTS es_capture_truncate ON %s', "table");
END
$$;

COMMENT ON FUNCTION @extschema@.es_uncapture(regclass) IS
    'Ends what es_capture() began; the events stay';
