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
