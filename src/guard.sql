/* The append-only triggers of the events table; es_install_store() sets them. */

CREATE FUNCTION @extschema@.es_guard() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION @extschema@.es_guard() IS
    'Trigger: refuses whatever changes the log of events past the extension (ZE005)';
