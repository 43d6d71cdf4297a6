/*-------------------------------------------------------------------------
 *
 * append.h
 *		Appending events to a stream.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_APPEND_H
#define ES_APPEND_H

#include "fmgr.h"
#include "log.h"

/* What an appender believes of the stream's version. */
#define ES_VERSION_ANY		PG_INT64_MIN
#define ES_VERSION_EXISTS	(-1)

/* What an event has that another store recorded. */
typedef struct EsRecorded
{
	text	   *stream;
	int64		version;
	TimestampTz recorded_at;
}			EsRecorded;

extern int64 es_append_to(EsStore *store, text *stream, int nevents,
						  EsNewEvent *events, int64 expected, bool *conflict);
extern int64 es_append_recorded(EsStore *store, text *stream, EsNewEvent *event,
								int64 version, TimestampTz recorded_at);
extern void es_append_check_rights(EsStore *store, Oid role);
extern int64 es_append_get_expected(FunctionCallInfo fcinfo, int n);
extern void es_append_check_version(text *stream, int64 expected, int64 actual);
extern void es_append_push_context(ErrorContextCallback *callback, text *stream);

/* append_input.c */
extern void es_append_check_event(EsNewEvent *event);
extern void es_append_check_events(int nevents, EsNewEvent *events);
extern void es_append_check_stream(text *stream);
extern void es_append_push_element(ErrorContextCallback *callback, int *number);
extern int	es_parse_events(Jsonb *json, EsNewEvent **events);
extern int	es_parse_recorded(Jsonb *json, EsNewEvent **events, EsRecorded * *recorded);

#endif							/* ES_APPEND_H */
