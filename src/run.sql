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
