/*-------------------------------------------------------------------------
 *
 * log_heap.h
 *		The direct way into the events table, behind log.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_LOG_HEAP_H
#define ES_LOG_HEAP_H

#include "log.h"
#include "nodes/execnodes.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

/* The columns of the table, in its order (es_event has another). */
typedef enum EsLogColumn
{
	ES_LOG_POSITION,
	ES_LOG_VERSION,
	ES_LOG_RECORDED_AT,
	ES_LOG_STREAM,
	ES_LOG_TYPE,
	ES_LOG_DATA,
	ES_LOG_METADATA,
	ES_LOG_EVENT_ID,
	ES_LOG_TAGS
}			EsLogColumn;

#define ES_LOG_NATTS	9

/* The indexes that every store has. */
typedef enum EsLogIndex
{
	ES_LOG_BY_VERSION,			/* unique on (stream, version) */
	ES_LOG_BY_EVENT_ID,			/* unique on (stream, event_id), where not
								 * null */
	ES_LOG_BY_POSITION
}			EsLogIndex;

#define ES_LOG_NINDEXES	3
#define ES_LOG_MAXKEYS	2

/* What an index is on; the columns end with -1. */
typedef struct EsLogIndexKeys
{
	int			nkeys;
	EsLogColumn columns[ES_LOG_MAXKEYS];
}			EsLogIndexKeys;

extern const EsLogIndexKeys es_log_index_keys[ES_LOG_NINDEXES];

/*
 * What was found when a store's events table was last looked at; one per store,
 * for ever.  Holds while the store's epoch does.
 */
typedef struct EsLogShape
{
	uint64		epoch;
	const char *obstacle;		/* to the direct way, or NULL: there is none */
	bool		row_security;
	bool		after_triggers; /* statement triggers that an INSERT fires */
	char		projects;		/* if es_project() is the only one: when it
								 * fires */
	bool		guarded;		/* against the removal of events */
	Oid			indexes[ES_LOG_NINDEXES];
	IndexInfo	index_infos[ES_LOG_NINDEXES];
}			EsLogShape;

/* log_shape.c */
extern Relation es_log_heap_open(EsStore *store, LOCKMODE lockmode, AclMode right);

/* log_heap.c: these close the relation that es_log_heap_open() returned */
extern EsTip es_log_heap_tip(EsStore *store, Relation rel, Datum stream,
							 int64 expected);
extern bool es_log_heap_insert(EsStore *store, Relation rel, Datum stream,
							   const EsTip *tip, TimestampTz recorded_at,
							   int nevents, const EsNewEvent *events, bool raise);

/* log_heap_scan.c: so do these */
extern int	es_log_heap_find_ids(EsStore *store, Relation rel, Datum stream,
								 int nevents, const EsNewEvent *events,
								 EsKnownId **known);
extern void es_log_heap_scan_stream(EsStore *store, Relation rel, Datum stream,
									const EsStreamRange *range,
									EsEventSink sink, void *arg);
extern void es_log_heap_scan_positions(EsStore *store, Relation rel,
									   const EsPositionRange *range,
									   EsEventSink sink, void *arg);
extern int64 es_log_heap_stream_version(EsStore *store, Relation rel, Datum stream);
extern int64 es_log_heap_head(EsStore *store, Relation rel);

#endif							/* ES_LOG_HEAP_H */
