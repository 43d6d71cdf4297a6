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
