/*-------------------------------------------------------------------------
 *
 * projection_async.c
 *		Read models that are kept after commit.
 *
 * The rule: a projection's cursor and its effects commit together, and whoever
 * moves them holds the cursor's row.  A second runner finds it locked and goes
 * on to the next one.
 *
 * A failure stops that projection alone.  What comes before the event that fails
 * is taken in first, so its error is about that event; then it is noted with the
 * cursor, and es_run() leaves the projection alone for a while that doubles each
 * time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "attempt.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "executor/spi.h"
#include "floor.h"
#include "projection.h"
#include "run.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "waitpoint.h"
#include "work.h"

/* From one step of a run to the next. */
typedef struct Async
{
	EsScript   *script;
	int			limit;			/* of events in a step; less after a failure */
} Async;

static const EsQuery select_due = {
	"SELECT d.name, c.position, d.state OPERATOR(pg_catalog.=) 'building'"
	" FROM {es}.projection_definitions d"
	" JOIN {es}.projection_cursors c ON c.name OPERATOR(pg_catalog.=) d.name"
	" WHERE d.mode OPERATOR(pg_catalog.=) 'async' AND d.state OPERATOR(pg_catalog.<>) 'paused'"
	" AND (c.retry_at IS NULL OR c.retry_at OPERATOR(pg_catalog.<=) $1)"
	" ORDER BY d.created_at, d.name",
	1, {TIMESTAMPTZOID}
};

static const EsQuery note_failure = {
	"UPDATE {es}.projection_cursors SET last_error = $2,"
	" failures = failures OPERATOR(pg_catalog.+) 1,"
	" retry_at = $3 OPERATOR(pg_catalog.+)"
	" (interval '1 second' OPERATOR(pg_catalog.*)"
	" least(pg_catalog.power(2::pg_catalog.float8, least(failures, 10)), 600::pg_catalog.float8)),"
	" updated_at = pg_catalog.clock_timestamp()"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	3, {TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static bool
exists(EsStore *store, const char *name)
{
	return es_projection_get(store, name, ES_SEE_ALL) != NULL;
}

static List *
due(EsStore *store)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		now = TimestampTzGetDatum(es_clock_now());
	List	   *names = NIL;
	int64		upto = 0;
	uint64		count;
	SPITupleTable *rows;

	SPI_connect();
	count = es_store_execute(store, &select_due, &now, NULL);
	rows = SPI_tuptable;
	if (count > 0)
		upto = es_floor_safe(store);
	for (uint64 i = 0; i < count; i++)
	{
		char	   *name = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
		bool		isnull;
		int64		position = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		bool		building = DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull));
		MemoryContext oldcontext;

		if (position >= upto && !building)
			continue;
		oldcontext = MemoryContextSwitchTo(caller);
		names = lappend(names, pstrdup(name));
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
	return names;
}

static int64
reached(EsStore *store, const char *name)
{
	EsProjection *projection = es_projection_get(store, name, ES_SEE_ALL);

	if (projection == NULL)
		return -1;
	if (projection->is_inline && projection->state == ES_PROJECTION_RUNNING)
		return PG_INT64_MAX;
	return projection->position;
}

static void
set_script(Async *async, EsStore *store, EsProjection *projection)
{
	if (async->script != NULL &&
		es_projection_is(async->script, projection->name, &projection->body,
						 ES_PROJECTION_SLICE))
		return;
	if (async->script != NULL)
		es_script_free(async->script);
	async->script = NULL;
	async->script = es_projection_prepare(store, projection->name, &projection->body,
										  ES_PROJECTION_SLICE);
}

/* A slice, or the first events of one, that is to be taken in. */
typedef struct Part
{
	EsStore    *store;
	EsProjection *projection;
	Async	   *async;
	EsSlice    *slice;
	int64		upto;			/* what there is to read */
	int			nevents;
	bool		prepared;		/* the script is not to blame as a whole */
} Part;

static void
read_part(void *arg)
{
	Part	   *part = arg;

	(void) es_slice_read(part->slice, part->upto, part->async->limit, false);
}

static void
run_part(void *arg)
{
	Part	   *part = arg;
	EsSlice    *slice = part->slice;

	part->prepared = false;
	set_script(part->async, part->store, part->projection);
	part->prepared = true;
	slice->script = part->async->script;
	es_slice_run(slice, part->nevents);
	ES_WAIT_POINT("run: slice");
}

/*
 * Moves the cursor past the events that were run.  Not in the subtransaction that
 * ran them: its id and that of the transaction, which holds the row's lock, would
 * have to share the old row as a MultiXact.  Whoever walks past that row
 * afterwards, which is all until it is vacuumed, would have to look it up.
 */
static void
move_past(const Part *part)
{
	const EsSlice *slice = part->slice;
	int64		position = part->nevents < slice->batch->nevents ?
	EsEventPosition(&slice->batch->events[part->nevents - 1]) : slice->position;

	es_projection_set_position(part->store, part->projection->name, position,
							   part->nevents);
	ES_WAIT_POINT("run: moved");
}

/*
 * Notes with its cursor that a projection failed.
 */
static void
fail(EsStore *store, const char *name, const ErrorData *error)
{
	StringInfoData text;
	Datum		values[3];
	bool		hidden;

	initStringInfo(&text);
	appendStringInfo(&text, "%s (SQLSTATE %s)", error->message,
					 unpack_sql_state(error->sqlerrcode));
	if (error->detail != NULL)
		appendStringInfo(&text, "\nDETAIL: %s", error->detail);
	if (error->context != NULL)
		appendStringInfo(&text, "\nCONTEXT: %s", error->context);
	values[0] = CStringGetTextDatum(name);
	values[1] = PointerGetDatum(cstring_to_text_with_len(text.data, text.len));
	values[2] = TimestampTzGetDatum(es_clock_now());
	SPI_connect();
	(void) es_store_execute(store, &note_failure, values, NULL);
	SPI_finish();
	/* it may tell of any event */
	hidden = check_enable_rls(store->events, InvalidOid, true) == RLS_ENABLED;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 hidden ? errmsg("projection \"%s\" failed", name) :
			 errmsg("projection \"%s\" failed: %s", name, error->message),
			 hidden ? errdetail_log("%s", text.data) :
			 error->context != NULL ? errdetail_internal("%s", error->context) : 0,
			 errhint("It stays where it is, and is tried again after a while. The view projections of the store tells more.")));
}

/*
 * A projection is not to blame for being cancelled.
 */
static void
pass_on_cancel(ErrorData *error)
{
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
		ReThrowError(error);
}

/*
 * Takes the next events in.  Returns whether there may be more to do.
 */
static bool
take_in(EsStore *store, EsProjection *projection, int64 upto, Async *async)
{
	Part		part = {0};
	bool		more;
	ErrorData  *error;

	part.store = store;
	part.projection = projection;
	part.async = async;
	part.slice = es_slice_begin(store, NULL, projection->body.types, projection->position);
	part.upto = upto;
	error = es_attempt(read_part, &part, CurrentMemoryContext);
	part.nevents = part.slice->batch->nevents;
	if (error != NULL)
	{
		/* an upcaster failed: first what comes before its event */
		pass_on_cancel(error);
		if (part.nevents == 0)
		{
			fail(store, projection->name, error);
			return false;
		}
	}
	more = !part.slice->done;
	/* where there are none for it, the script is not even parsed */
	while (part.nevents > 0 &&
		   (error = es_attempt(run_part, &part, CurrentMemoryContext)) != NULL)
	{
		int			failed_at = part.prepared ? es_script_failed_at() : 0;

		pass_on_cancel(error);
		if (failed_at < 0 && part.nevents > 1)
			async->limit = part.nevents = part.nevents / 2;
		else if (failed_at > 0)
			part.nevents = failed_at;
		else
		{
			fail(store, projection->name, error);
			return false;
		}
		more = true;
	}
	move_past(&part);
	if (!more && projection->state == ES_PROJECTION_BUILDING)
		es_projection_set_state(store, projection->name, "running");
	return more;
}

static bool
step(EsStore *store, const char *name, int64 upto, void **state)
{
	Async	   *async = *state;
	EsProjection *projection;

	if (es_projection_lock_or_skip(store, name) < 0)
		return false;
	projection = es_projection_get(store, name, ES_SEE_ALL);
	if (projection->is_inline || projection->state == ES_PROJECTION_PAUSED)
		return false;
	if (projection->position >= upto)
	{
		if (projection->state == ES_PROJECTION_BUILDING)
			es_projection_set_state(store, name, "running");
		return false;
	}

	if (async == NULL)
	{
		/* to end(); the worker has no portal */
		async = MemoryContextAllocZero(TopMemoryContext, sizeof(Async));
		async->limit = ES_PROJECTION_SLICE;
		*state = async;
	}
	return take_in(store, projection, upto, async);
}

static void
end(void *state)
{
	Async	   *async = state;

	if (async->script != NULL)
		es_script_free(async->script);
	pfree(async);
}

const EsRunKind es_projection_run_kind = {
	exists, due, reached, step, end
};
