/*-------------------------------------------------------------------------
 *
 * event.h
 *		The event in memory.
 *
 * An event is nine datums in the column order of the SQL type es_event, so
 * that it can be handed to a tuplestore, to heap_form_tuple() or to an
 * executor slot without being rearranged.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_EVENT_H
#define ES_EVENT_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef enum EsEventColumn
{
	ES_EVENT_POSITION,
	ES_EVENT_STREAM,
	ES_EVENT_VERSION,
	ES_EVENT_TYPE,
	ES_EVENT_DATA,
	ES_EVENT_METADATA,
	ES_EVENT_EVENT_ID,
	ES_EVENT_TAGS,
	ES_EVENT_RECORDED_AT
} EsEventColumn;

#define ES_EVENT_NATTS	9

/*
 * Only metadata, event_id and tags can be null.  Who hands an EsEvent over
 * says how long its datums live; they may be toasted.
 */
typedef struct EsEvent
{
	Datum		values[ES_EVENT_NATTS];
	bool		nulls[ES_EVENT_NATTS];
} EsEvent;

#define EsEventPosition(e)		DatumGetInt64((e)->values[ES_EVENT_POSITION])
#define EsEventVersion(e)		DatumGetInt64((e)->values[ES_EVENT_VERSION])
#define EsEventRecordedAt(e)	DatumGetTimestampTz((e)->values[ES_EVENT_RECORDED_AT])

#endif							/* ES_EVENT_H */
