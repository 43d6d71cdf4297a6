/*-------------------------------------------------------------------------
 *
 * replay.c
 *		The state of a stream: now, at a version, at a time, at each event.
 *
 * A fold depends on the initial state, the definition of the aggregate and the
 * events, and on nothing else.  It reads the stream once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "log.h"
#include "replay.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(es_load);
PG_FUNCTION_INFO_V1(es_replay);

typedef struct Fold
{
	EsReducer  *reducer;
	TimestampTz as_of;
	int64		version;		/* of the last event folded */
} Fold;

/* An event sink: folds the event, or ends the scan at the time limit. */
static bool
fold_event(const EsEvent *event, void *arg)
{
	Fold	   *fold = arg;

	if (EsEventRecordedAt(event) > fold->as_of)
		return false;
	es_reducer_apply(fold->reducer, event);
	fold->version = EsEventVersion(event);
	return true;
}

/*
 * Returns the state of a stream, allocated in the current memory context, and
 * sets *version to that of the last event in it, 0 for none.  Raises 42704 if
 * the stream's category has no aggregate.
 */
Jsonb *
es_fold(EsStore *store, Datum stream, const EsFoldLimit *limit, int64 *version)
{
	EsAggregate *aggregate = es_aggregate_get(store, stream);
	EsStreamRange range = {0};
	Fold		fold = {0};
	Jsonb	   *state;
	Jsonb	   *result;

	fold.reducer = es_reducer_create(store, aggregate, NULL, NULL, NULL);
	fold.as_of = limit->as_of;
	range.from_version = 1;
	range.to_version = limit->version;
	range.max_count = -1;
	range.latest = limit->latest;
	es_log_scan_stream(store, stream, &range, fold_event, &fold);

	state = es_reducer_state(fold.reducer);
	result = palloc(VARSIZE(state));
	memcpy(result, state, VARSIZE(state));
	es_reducer_destroy(fold.reducer);
	*version = fold.version;
	return result;
}

static int64
get_version(FunctionCallInfo fcinfo, int n, const char *name, int64 fallback)
{
	int64		version;

	if (PG_ARGISNULL(n))
		return fallback;
	version = PG_GETARG_INT64(n);
	if (version < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative, but is " INT64_FORMAT, name, version)));
	return version;
}

/*
 * es_load(stream, to_version, as_of, OUT version, OUT state)
 */
Datum
es_load(PG_FUNCTION_ARGS)
{
	EsFoldLimit limit = {0};
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};
	int64		version;

	es_check_argument(fcinfo, 0, "stream");
	limit.version = get_version(fcinfo, 1, "to_version", PG_INT64_MAX);
	limit.as_of = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	values[1] = JsonbPGetDatum(es_fold(es_store_current(), PG_GETARG_DATUM(0),
									   &limit, &version));
	values[0] = Int64GetDatum(version);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

typedef struct Replay
{
	Fold		fold;
	ReturnSetInfo *rsinfo;
	int64		from_version;
} Replay;

/* A state sink: a row of es_replay(). */
static void
put_state(const EsEvent *event, Jsonb *before, Jsonb *after, void *arg)
{
	Replay	   *replay = arg;
	Datum		values[7];
	bool		nulls[7] = {false};

	if (EsEventVersion(event) < replay->from_version)
		return;
	values[0] = event->values[ES_EVENT_VERSION];
	values[1] = event->values[ES_EVENT_TYPE];
	values[2] = event->values[ES_EVENT_DATA];
	values[3] = event->values[ES_EVENT_METADATA];
	nulls[3] = event->nulls[ES_EVENT_METADATA];
	values[4] = event->values[ES_EVENT_RECORDED_AT];
	values[5] = JsonbPGetDatum(before);
	values[6] = JsonbPGetDatum(after);
	tuplestore_putvalues(replay->rsinfo->setResult, replay->rsinfo->setDesc,
						 values, nulls);
}

/*
 * es_replay(stream, from_version, to_version)
 */
Datum
es_replay(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsStreamRange range = {0};
	Replay		replay;

	es_check_argument(fcinfo, 0, "stream");
	memset(&replay, 0, sizeof(replay));
	replay.from_version = get_version(fcinfo, 1, "from_version", 1);
	range.from_version = 1;
	range.to_version = get_version(fcinfo, 2, "to_version", PG_INT64_MAX);
	range.max_count = -1;

	InitMaterializedSRF(fcinfo, 0);
	replay.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	replay.fold.as_of = DT_NOEND;
	replay.fold.reducer = es_reducer_create(store,
											es_aggregate_get(store, PG_GETARG_DATUM(0)),
											NULL, put_state, &replay);
	es_log_scan_stream(store, PG_GETARG_DATUM(0), &range, fold_event, &replay.fold);
	(void) es_reducer_state(replay.fold.reducer);
	es_reducer_destroy(replay.fold.reducer);
	return (Datum) 0;
}
