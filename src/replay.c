/*-------------------------------------------------------------------------
 *
 * replay.c
 *		The state of a stream: now, at a version, at a time, at each event.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "snapshot.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(es_load);
PG_FUNCTION_INFO_V1(es_replay);

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
	EsStore    *store = es_store_current();
	EsFoldLimit limit = {0};
	EsFolded	folded;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	es_check_argument(fcinfo, 0, "stream");
	limit.version = get_version(fcinfo, 1, "to_version", PG_INT64_MAX);
	limit.as_of = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	limit.visibility = ES_SEE_STATEMENT;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	(void) es_snapshot_load(store, PG_GETARG_DATUM(0), &limit, &folded);
	values[0] = Int64GetDatum(folded.version);
	values[1] = JsonbPGetDatum(folded.state);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

typedef struct Replay
{
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
	EsAggregate *aggregate;
	EsFoldLimit limit = {0};
	EsFolded	folded;
	Replay		replay;
	int64		to_version;

	es_check_argument(fcinfo, 0, "stream");
	replay.from_version = get_version(fcinfo, 1, "from_version", 1);
	InitMaterializedSRF(fcinfo, 0);
	replay.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	to_version = get_version(fcinfo, 2, "to_version", PG_INT64_MAX);
	limit.as_of = DT_NOEND;
	limit.visibility = ES_SEE_STATEMENT;

	do
	{
		tuplestore_clear(replay.rsinfo->setResult);

		/* the state before the window, from a snapshot if there is one */
		limit.version = Max(replay.from_version - 1, 0);
		aggregate = es_snapshot_load(store, PG_GETARG_DATUM(0), &limit, &folded);

		limit.version = to_version;
		es_fold(store, aggregate, PG_GETARG_DATUM(0), &limit, &folded, put_state, &replay);
	} while (!es_aggregate_is_current(store, aggregate, PG_GETARG_DATUM(0)));
	return (Datum) 0;
}
