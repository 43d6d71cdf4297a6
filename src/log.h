/*-------------------------------------------------------------------------
 *
 * log.h
 *		The narrow door to the events table.
 *
 * No other module reads or writes the table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_LOG_H
#define ES_LOG_H

#include "event.h"
#include "store.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* An event that is to be appended.  The pointers are the appender's. */
typedef struct EsNewEvent
{
	int64		position;
	text	   *type;
	Jsonb	   *data;
	Jsonb	   *metadata;		/* or NULL */
	pg_uuid_t  *event_id;		/* or NULL */
	ArrayType  *tags;			/* or NULL */
} EsNewEvent;

/* The last event of a stream; version 0 where there is none. */
typedef struct EsTip
{
	int64		version;
	TimestampTz recorded_at;
	bool		ours;			/* appended by the current transaction */
	bool		alone;			/* no rival was in flight for the next
								 * version; false where nobody looked */
} EsTip;

/* An event of the stream that carries an id that was asked for. */
typedef struct EsKnownId
{
	int			ordinal;		/* which of the ids, from 0 */
	int64		version;
	Datum		type;
	Datum		data;
} EsKnownId;

/* Where an event is. */
typedef struct EsPlace
{
	int64		position;
	text	   *stream;
} EsPlace;

/*
 * Takes an event that a scan found; its datums are gone when it returns.
 * False ends the scan.
 */
typedef bool (*EsEventSink) (const EsEvent *event, void *arg);

/* Whose eyes a scan of a stream sees with. */
typedef enum EsVisibility
{
	ES_SEE_STATEMENT,			/* as the caller, what his statement sees */
	ES_SEE_ALL					/* as the owner, past row security, all that
								 * is committed by now */
} EsVisibility;

/* Which events of a stream, and in which order. */
typedef struct EsStreamRange
{
	int64		from_version;
	int64		to_version;		/* PG_INT64_MAX for all */
	int64		max_count;		/* negative for all */
	bool		backward;
	EsVisibility visibility;
} EsStreamRange;

/* Which events of the store, in the order of positions. */
typedef struct EsPositionRange
{
	int64		after;
	int64		upto;
	int64		max_count;		/* negative for all */
	bool		snapshot;		/* what the active snapshot sees, and not what
								 * is committed by now */
	text	   *category;		/* these three or NULL */
	ArrayType  *types;
	ArrayType  *tags;
} EsPositionRange;

extern EsTip es_log_tip(EsStore *store, Datum stream, int64 expected);
extern bool es_log_may_be_at(EsStore *store, Datum stream, int64 expected,
							 EsTip *tip);
extern int	es_log_find_ids(EsStore *store, Datum stream, int nevents,
							const EsNewEvent *events, EsKnownId **known);
extern bool es_log_insert(EsStore *store, Datum stream, const EsTip *tip,
						  TimestampTz recorded_at, int nevents,
						  const EsNewEvent *events, bool raise);
extern void es_log_scan_stream(EsStore *store, Datum stream,
							   const EsStreamRange *range,
							   EsEventSink sink, void *arg);
extern void es_log_scan_positions(EsStore *store, const EsPositionRange *range,
								  EsEventSink sink, void *arg);
extern void es_log_scan_list(EsStore *store, ArrayType *positions,
							 EsEventSink sink, void *arg);
extern int	es_log_find_places(EsStore *store, ArrayType *positions,
							   EsPlace **places);
extern void es_log_check_unique(EsStore *store);
extern int64 es_log_stream_version(EsStore *store, Datum stream);
extern int64 es_log_head(EsStore *store);
extern int64 es_log_last_position(EsStore *store, int64 upto);
extern int64 es_log_first_unseen(EsStore *store, int64 after, int64 upto);

#endif							/* ES_LOG_H */
