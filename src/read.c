/*-------------------------------------------------------------------------
 *
 * read.c
 *		Reading events: of a stream, and of the whole store by position.
 *
 * Rows go straight from the scan into a tuplestore, which spills to disk at
 * work_mem: memory stays bounded however many there are.
 *
 * Reading by position never goes past the safe position.  Its limit is
 * established first and the scan's snapshot taken after that; see floor.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "floor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "log.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "read.h"
#include "upcast.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(es_read);
PG_FUNCTION_INFO_V1(es_read_all);
PG_FUNCTION_INFO_V1(es_read_support);
PG_FUNCTION_INFO_V1(es_stream_version);
PG_FUNCTION_INFO_V1(es_head_position);
PG_FUNCTION_INFO_V1(es_safe_position);

/*
 * Returns argument n as a number of events, -1 for "all" where it is NULL.
 */
static int64
get_max_count(FunctionCallInfo fcinfo, int n)
{
	int64		max_count;

	if (PG_ARGISNULL(n))
		return -1;
	max_count = PG_GETARG_INT64(n);
	if (max_count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_count must not be negative, but is " INT64_FORMAT, max_count),
				 errhint("Pass NULL for no limit.")));
	return max_count;
}

typedef struct Reading
{
	ReturnSetInfo *rsinfo;
	EsUpcast   *upcast;
	int64		nread;			/* by the last scan */
	int64		ndropped;		/* of them, by an upcaster */
	int64		version;		/* of the last one */
	int64		position;
} Reading;

/* Prepares for a function that returns a set of events. */
static void
begin_reading(Reading *reading, FunctionCallInfo fcinfo, EsStore *store)
{
	InitMaterializedSRF(fcinfo, 0);
	reading->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	reading->upcast = es_upcast_begin(store);
	reading->nread = 0;
	reading->ndropped = 0;
}

/*
 * Whether a scan has to go on behind its last event: what an upcaster drops does
 * not count for a limit.  Else a client that reads page by page would take a page
 * of nothing but dropped events for the end.  Sets the new limit.
 */
static bool
read_on(Reading *reading, int64 *max_count)
{
	if (reading->ndropped == 0 || reading->nread < *max_count)
		return false;
	*max_count = reading->ndropped;
	reading->nread = 0;
	reading->ndropped = 0;
	return true;
}

/* An event sink: a row of the result. */
static bool
put_event(const EsEvent *stored, void *arg)
{
	Reading    *reading = arg;
	EsEvent		event = *stored;

	reading->nread++;
	reading->version = EsEventVersion(stored);
	reading->position = EsEventPosition(stored);
	if (es_upcast_event(reading->upcast, &event))
		tuplestore_putvalues(reading->rsinfo->setResult, reading->rsinfo->setDesc,
							 event.values, event.nulls);
	else
		reading->ndropped++;
	return true;
}

/*
 * es_read(stream, from_version, to_version, max_count, backward)
 */
Datum
es_read(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsStreamRange range = {0};
	Reading		reading;

	es_check_argument(fcinfo, 0, "stream");
	range.from_version = PG_ARGISNULL(1) ? 1 : PG_GETARG_INT64(1);
	range.to_version = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT64(2);
	range.max_count = get_max_count(fcinfo, 3);
	range.backward = PG_ARGISNULL(4) ? false : PG_GETARG_BOOL(4);

	begin_reading(&reading, fcinfo, store);
	es_log_scan_stream(store, PG_GETARG_DATUM(0), &range, put_event, &reading);
	while (range.max_count >= 0 && read_on(&reading, &range.max_count))
	{
		if (range.backward)
			range.to_version = reading.version - 1;
		else
			range.from_version = reading.version + 1;
		es_log_scan_stream(store, PG_GETARG_DATUM(0), &range, put_event, &reading);
	}
	es_upcast_end(reading.upcast);
	return (Datum) 0;
}

/*
 * Returns the limit for reading by position from "after" on: the safe position,
 * and in REPEATABLE READ no further than the transaction's snapshot is complete.
 */
int64
es_read_limit(EsStore *store, int64 after)
{
	int64		safe = es_floor_safe(store);
	int64		unseen;

	/* nothing to read: not because the sequence was left behind, we hope */
	if (safe <= after)
		es_floor_check(store);
	unseen = es_log_first_unseen(store, after, safe);
	return Min(safe, unseen - 1);
}

/*
 * es_read_all(after, max_count, category, types, tags)
 */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsPositionRange range = {0};
	Reading		reading;

	range.after = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	range.max_count = get_max_count(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		range.category = PG_GETARG_TEXT_PP(2);
	if (!PG_ARGISNULL(3))
		range.types = es_upcast_types(store, PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4) && ARR_NDIM(PG_GETARG_ARRAYTYPE_P(4)) > 0)
		range.tags = PG_GETARG_ARRAYTYPE_P(4);
	range.upto = es_read_limit(store, range.after);

	begin_reading(&reading, fcinfo, store);
	es_log_scan_positions(store, &range, put_event, &reading);
	while (range.max_count >= 0 && read_on(&reading, &range.max_count))
	{
		range.after = reading.position;
		es_log_scan_positions(store, &range, put_event, &reading);
	}
	es_upcast_end(reading.upcast);
	return (Datum) 0;
}

/*
 * es_stream_version(stream)
 */
Datum
es_stream_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_log_stream_version(es_store_current(), PG_GETARG_DATUM(0)));
}

/*
 * es_head_position()
 */
Datum
es_head_position(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_log_head(es_store_current()));
}

/*
 * es_safe_position(): for who may read events, since it tells how many there
 * may be.
 */
Datum
es_safe_position(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();

	es_store_check_reader(store);
	PG_RETURN_INT64(es_read_limit(store, 0));
}

/*
 * Fills in, from the planner's statistics, how many events the store and a
 * stream of it have; guesses where there are none.
 */
static void
estimate_events(double *in_store, double *in_stream)
{
	Oid			events = es_store_events_or_none();
	HeapTuple	tuple;

	*in_store = 1000;
	*in_stream = 100;
	if (!OidIsValid(events))
		return;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(events));
	if (!HeapTupleIsValid(tuple))
		return;
	if (((Form_pg_class) GETSTRUCT(tuple))->reltuples > 0)
		*in_store = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	ReleaseSysCache(tuple);

	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(events),
							Int16GetDatum(get_attnum(events, "stream")),
							BoolGetDatum(false));
	if (HeapTupleIsValid(tuple))
	{
		double		distinct = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;

		/* negative: a fraction of the number of rows */
		if (distinct < 0)
			distinct *= -*in_store;
		if (distinct > 0)
			*in_stream = *in_store / distinct;
		ReleaseSysCache(tuple);
	}
}

/*
 * Returns a call's n-th argument where the planner knows it, or fallback where
 * it does not or it is NULL.
 */
static double
known_argument(List *args, int n, double fallback)
{
	Const	   *arg;

	if (n >= list_length(args))
		return fallback;
	arg = list_nth(args, n);
	if (!IsA(arg, Const) || arg->constisnull)
		return fallback;
	return (double) DatumGetInt64(arg->constvalue);
}

/*
 * es_read_support(internal): tells the planner how many rows to expect of
 * es_read(stream, from_version, to_version, max_count, ...), of
 * es_replay(stream, from_version, to_version) and of es_read_all(after, max_count, ...).
 */
Datum
es_read_support(PG_FUNCTION_ARGS)
{
	SupportRequestRows *request = (SupportRequestRows *) PG_GETARG_POINTER(0);
	List	   *args;
	double		in_store;
	double		in_stream;
	double		rows;

	if (!IsA(request, SupportRequestRows) || !is_funcclause(request->node))
		PG_RETURN_POINTER(NULL);

	args = ((FuncExpr *) request->node)->args;
	estimate_events(&in_store, &in_stream);
	if (exprType(linitial(args)) == INT8OID)
		rows = Min(in_store, known_argument(args, 1, in_store));
	else
	{
		double		from = known_argument(args, 1, 1);
		double		to = known_argument(args, 2, from + in_stream - 1);

		rows = Min(to - from + 1, in_stream);
		rows = Min(rows, known_argument(args, 3, rows));
	}
	request->rows = Max(rows, 1);
	PG_RETURN_POINTER(request);
}
