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
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(es_import_event);

/*
 * es_import_event(stream, version, type, data, recorded_at, metadata, event_id,
 * tags)
 */
Datum
es_import_event(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsNewEvent	event = {0};
	text	   *stream;
	int64		version;
	TimestampTz recorded_at;

	PreventCommandIfReadOnly("es_import_event()");
	es_check_argument(fcinfo, 0, "stream");
	es_check_argument(fcinfo, 1, "version");
	es_check_argument(fcinfo, 2, "type");
	es_check_argument(fcinfo, 3, "data");
	es_check_argument(fcinfo, 4, "recorded_at");
	es_store_check_owner(store);

	stream = PG_GETARG_TEXT_PP(0);
	version = PG_GETARG_INT64(1);
	event.type = PG_GETARG_TEXT_PP(2);
	event.data = PG_GETARG_JSONB_P(3);
	recorded_at = PG_GETARG_TIMESTAMPTZ(4);
	if (!PG_ARGISNULL(5))
		event.metadata = PG_GETARG_JSONB_P(5);
	if (!PG_ARGISNULL(6))
		event.event_id = PG_GETARG_UUID_P(6);
	if (!PG_ARGISNULL(7))
		event.tags = PG_GETARG_ARRAYTYPE_P(7);

	if (version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version " INT64_FORMAT " of an event is not valid", version),
				 errhint("The first event of a stream has version 1.")));
	if (TIMESTAMP_NOT_FINITE(recorded_at) || recorded_at > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event cannot have been recorded at %s",
						timestamptz_to_str(recorded_at)),
				 errhint("The time of an imported event lies in the past.")));

	PG_RETURN_INT64(es_append_recorded(store, stream, &event, version, recorded_at));
}
