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
