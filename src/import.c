/*-------------------------------------------------------------------------
 *
 * import.c
 *		Bringing in events that another store recorded.
 *
 * The one way to append an event with a version and a time of its own.  It keeps
 * what an append keeps: versions without gaps, times that do not go back within
 * a stream, new positions.  For the store's owner, since a time is a claim.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "append.h"
#include "catalog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(es_import_event);
PG_FUNCTION_INFO_V1(es_import_events);

/*
 * Appends the event as it was recorded, and returns the stream's new version.
 */
static int64
import_event(EsStore *store, const EsRecorded * recorded, EsNewEvent *event)
{
	if (recorded->version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version must be positive, but is " INT64_FORMAT, recorded->version),
				 errhint("The first event of a stream has version 1.")));
	if (TIMESTAMP_NOT_FINITE(recorded->recorded_at) ||
		recorded->recorded_at > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event cannot have been recorded at %s",
						timestamptz_to_str(recorded->recorded_at)),
				 errdetail("Version " INT64_FORMAT " of stream \"%s\".",
						   recorded->version, text_to_cstring(recorded->stream)),
				 errhint("The time of an imported event lies in the past.")));
	return es_append_recorded(store, recorded->stream, event, recorded->version,
							  recorded->recorded_at);
}

/*
 * es_import_event(stream, version, type, data, recorded_at, metadata, event_id,
 * tags)
 */
Datum
es_import_event(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsNewEvent	event = {0};
	EsRecorded	recorded;

	PreventCommandIfReadOnly("es_import_event()");
	es_check_argument(fcinfo, 0, "stream");
	es_check_argument(fcinfo, 1, "version");
	es_check_argument(fcinfo, 2, "type");
	es_check_argument(fcinfo, 3, "data");
	es_check_argument(fcinfo, 4, "recorded_at");
	es_store_check_owner(store);

	recorded.stream = PG_GETARG_TEXT_PP(0);
	recorded.version = PG_GETARG_INT64(1);
	recorded.recorded_at = PG_GETARG_TIMESTAMPTZ(4);
	event.type = PG_GETARG_TEXT_PP(2);
	event.data = PG_GETARG_JSONB_P(3);
	if (!PG_ARGISNULL(5))
		event.metadata = PG_GETARG_JSONB_P(5);
	if (!PG_ARGISNULL(6))
		event.event_id = PG_GETARG_UUID_P(6);
	if (!PG_ARGISNULL(7))
		event.tags = PG_GETARG_ARRAYTYPE_P(7);
	PG_RETURN_INT64(import_event(store, &recorded, &event));
}

/*
 * es_import_events(events)
 */
Datum
es_import_events(PG_FUNCTION_ARGS)
{
	EsStore    *store;
	EsNewEvent *events;
	EsRecorded *recorded;
	int			nevents;
	int			number;
	ErrorContextCallback callback;
	MemoryContext context;
	MemoryContext caller;

	PreventCommandIfReadOnly("es_import_events()");
	es_check_argument(fcinfo, 0, "events");
	store = es_store_current_for(RowExclusiveLock);
	es_store_check_owner(store);
	nevents = es_parse_recorded(PG_GETARG_JSONB_P(0), &events, &recorded);

	context = AllocSetContextCreate(CurrentMemoryContext, "eventsourcing import",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	es_append_push_element(&callback, &number);
	for (number = 1; number <= nevents; number++)
	{
		(void) import_event(store, &recorded[number - 1], &events[number - 1]);
		MemoryContextReset(context);
	}
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	PG_RETURN_INT64(nevents);
}
