/*-------------------------------------------------------------------------
 *
 * rebuild.c
 *		Read models built anew from the history, and compared with it.
 *
 * es_rebuild() fills shadows of a projection's tables, slice by slice, each with
 * its effects and how far it got in one transaction, while the tables themselves
 * go on serving and being maintained.  When little is left it swaps contents in
 * one short transaction.  Until that commits the tables are as if nothing had
 * happened; whatever was left behind is dropped by the next attempt.
 *
 * The swap locks the cursor, the events table (for an inline projection: what is
 * appended next has to go into the new contents), and the tables, in this order,
 * and waits for none of them as long as it would take to be called a deadlock:
 * it gives up what it has, catches up, and tries again.
 *
 * es_verify_projection() fills its shadows in the caller's transaction, from the
 * events that one snapshot sees, and compares with what the same snapshot sees
 * of the tables.  Event and inline effect commit together, so they must agree.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "attempt.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "floor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shadow.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "waitpoint.h"
#include "work.h"

PG_FUNCTION_INFO_V1(es_rebuild);
PG_FUNCTION_INFO_V1(es_verify_projection);

#define REBUILD_PREFIX	"rebuild_"

/* field 4 of the lock tag; SQL's advisory locks use 1 and 2 */
#define REBUILD_TAG		0x2000

static const EsQuery update_progress = {
	"UPDATE {es}.rebuilds SET phase = $2, position = $3,"
	" done = done OPERATOR(pg_catalog.+) $4, updated_at = pg_catalog.clock_timestamp()"
	" WHERE projection OPERATOR(pg_catalog.=) $1",
	4, {TEXTOID, TEXTOID, INT8OID, INT8OID}
};

/* A rebuild under way. */
typedef struct Rebuild
{
	MemoryContext context;		/* to the end of the rebuild */
	MemoryContext work;			/* to the end of the transaction */
	char	   *name;
	int			batch_size;
	bool		updates;		/* rows: see es_begin_rebuild() */
	bool		late_indexes;	/* are still to be made */
	EsProjectionBody body;		/* what it is built by */
	EsScript   *script;
	int64		position;		/* so far */
	bool		caught_up;		/* to where the log was settled */
	const char *phase;
	int			patience;		/* of the swap, in milliseconds */
} Rebuild;

static char *
copy_string(Rebuild *rebuild, const char *string)
{
	return MemoryContextStrdup(rebuild->context, string);
}

static bool
same_types(ArrayType *a, ArrayType *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

/*
 * Returns what a projection is to be built by.
 */
static EsProjectionBody *
next_body(EsProjection *projection)
{
	return projection->next.text !=NULL ? &projection->next : &projection->body;
}

/*
 * Returns the projection, unless it is another than the one that the rebuild
 * began with.
 */
static EsProjection *
get_projection(Rebuild *rebuild, EsProjection *projection)
{
	if (projection == NULL ||
		!es_projection_is(rebuild->script, rebuild->name, next_body(projection),
						  rebuild->batch_size) ||
		!same_types(rebuild->body.types, next_body(projection)->types))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" was changed or dropped while it was being rebuilt",
						rebuild->name),
				 errhint("Call es_rebuild() again.")));
	return projection;
}

static void
note_progress(EsStore *store, Rebuild *rebuild, int64 position, int nevents)
{
	Datum		values[4];

	values[0] = CStringGetTextDatum(rebuild->name);
	values[1] = CStringGetTextDatum(rebuild->phase);
	values[2] = Int64GetDatum(position);
	values[3] = Int64GetDatum(nevents);
	SPI_connect();
	if (es_store_execute(store, &update_progress, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rebuild of projection \"%s\" was dropped", rebuild->name),
				 errhint("Call es_rebuild() again.")));
	SPI_finish();
}

/*
 * Looks at the projection and makes empty shadows.
 */
static void
begin(void *arg)
{
	Rebuild    *rebuild = arg;
	EsStore    *store = es_store_current();
	EsProjection *projection = es_projection_lock(store, rebuild->name);
	EsProjectionBody *body = next_body(projection);

	rebuild->body.text = copy_string(rebuild, body->text);
	rebuild->body.search_path = copy_string(rebuild, body->search_path);
	rebuild->body.granularity = copy_string(rebuild, body->granularity);
	if (body->types != NULL)
	{
		rebuild->body.types = MemoryContextAlloc(rebuild->context, VARSIZE(body->types));
		memcpy(rebuild->body.types, body->types, VARSIZE(body->types));
	}
	rebuild->script = es_projection_prepare(store, rebuild->name, body, rebuild->batch_size);

	/*
	 * A script that only inserts needs the indexes that check rows; another
	 * may find its rows by any of them.
	 */
	(void) es_script_targets(rebuild->script, &rebuild->late_indexes);
	rebuild->updates = es_script_updates(rebuild->script);
	es_store_call(store, "es_begin_rebuild(%s::pg_catalog.name, %s::pg_catalog.text, %s, %s)",
				  quote_literal_cstr(NameStr(store->name)),
				  quote_literal_cstr(rebuild->name),
				  rebuild->updates ? "true" : "false",
				  rebuild->late_indexes ? "false" : "true");
	es_shadow_mark(es_shadow_open(store, projection, REBUILD_PREFIX));
}

/*
 * Takes a slice of events into the shadows, up to a position.
 */
static void
fill_to(EsStore *store, Rebuild *rebuild, EsShadows *shadows, int64 upto,
		int64 *position)
{
	EsSlice    *slice = es_slice_begin(store, rebuild->script, rebuild->body.types,
									   *position);
	int			nevents;

	nevents = es_slice_read(slice, upto, rebuild->batch_size, false);
	es_shadow_run(shadows, slice);
	*position = slice->position;
	rebuild->caught_up = slice->done;
	ES_WAIT_POINT("rebuild: slice");
	note_progress(store, rebuild, *position, nevents);
	es_slice_end(slice);
}

static void
fill(void *arg)
{
	Rebuild    *rebuild = arg;
	EsStore    *store = es_store_current();
	int64		safe = es_floor_safe(store);
	int64		position = rebuild->position;
	EsProjection *projection =
	get_projection(rebuild, es_projection_get(store, rebuild->name, ES_SEE_ALL));
	EsShadows  *shadows = es_shadow_open(store, projection, REBUILD_PREFIX);

	rebuild->caught_up = true;
	if (position < safe)
		fill_to(store, rebuild, shadows, safe, &position);
	rebuild->position = position;
}

static void
note_phase(void *arg)
{
	Rebuild    *rebuild = arg;

	note_progress(es_store_current(), rebuild, rebuild->position, 0);
}

/*
 * Does to the shadows what is better done to full tables.
 */
static void
finish_shadows(void *arg)
{
	Rebuild    *rebuild = arg;
	EsStore    *store = es_store_current();
	EsProjection *projection =
	get_projection(rebuild, es_projection_get(store, rebuild->name, ES_SEE_ALL));
	EsShadows  *shadows = es_shadow_open(store, projection, REBUILD_PREFIX);

	ES_WAIT_POINT("rebuild: index");
	for (int i = 0; rebuild->updates && i < shadows->count; i++)
		es_store_call(store, "es_log_shadow(%u::pg_catalog.regclass, %u::pg_catalog.regclass)",
					  shadows->tables[i], shadows->shadows[i]);
	es_shadow_mark(shadows);
	for (int i = 0; rebuild->late_indexes && i < shadows->count; i++)
		es_store_call(store, "es_index_shadow(%s::pg_catalog.name, %u::pg_catalog.regclass, '%s'::pg_catalog.text, true)",
					  quote_literal_cstr(NameStr(store->name)),
					  shadows->tables[i], REBUILD_PREFIX);
}

static int
compare_oids(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return x < y ? -1 : x > y;
}

static void
swap(void *arg)
{
	Rebuild    *rebuild = arg;
	EsStore    *store = es_store_current();
	int64		position = rebuild->position;
	EsProjection *projection;
	EsShadows  *shadows;
	int64		upto;
	bool		live;
	Oid		   *order;

	(void) set_config_option("lock_timeout", psprintf("%d", rebuild->patience),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	projection = get_projection(rebuild, es_projection_lock(store, rebuild->name));
	live = projection->is_inline && projection->state == ES_PROJECTION_RUNNING;
	upto = live ? es_floor_settle(store) : es_floor_safe(store);
	shadows = es_shadow_open(store, projection, REBUILD_PREFIX);
	rebuild->caught_up = false;
	while (position < upto && !rebuild->caught_up)
		fill_to(store, rebuild, shadows, upto, &position);

	order = palloc(shadows->count * sizeof(Oid));
	memcpy(order, shadows->tables, shadows->count * sizeof(Oid));
	qsort(order, shadows->count, sizeof(Oid), compare_oids);
	for (int i = 0; i < shadows->count; i++)
	{
		LockRelationOid(order[i], AccessExclusiveLock);
		LockRelationOid(es_shadow_of(shadows, order[i]), AccessExclusiveLock);
	}

	ES_WAIT_POINT("rebuild: locked");

	/* it may have been changed before we got the lock */
	shadows = es_shadow_open(store, projection, REBUILD_PREFIX);
	es_shadow_swap(shadows);
	if (projection->next.text !=NULL)
		es_projection_set_body(store, rebuild->name, &rebuild->body);
	es_projection_set_position(store, rebuild->name, Max(position, upto), 0);
	ES_WAIT_POINT("rebuild: swapped");
}

/*
 * Does a part of the work in a transaction of its own.  On an error the shadows
 * are dropped, and it is raised again; but a lock that was not to be had only
 * makes it return false.
 */
static bool
do_part(Rebuild *rebuild, void (*part) (void *))
{
	ErrorData  *error;

	CHECK_FOR_INTERRUPTS();
	PushActiveSnapshot(GetTransactionSnapshot());
	error = es_attempt(part, rebuild, rebuild->work);
	if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
	{
		EsStore    *store = es_store_current();

		es_store_call(store, "es_forget_rebuild(%s::pg_catalog.name, %s::pg_catalog.text)",
					  quote_literal_cstr(NameStr(store->name)),
					  quote_literal_cstr(rebuild->name));
		PopActiveSnapshot();
		es_work_next(rebuild->work);
		ReThrowError(error);
	}
	PopActiveSnapshot();
	es_work_next(rebuild->work);
	return error == NULL;
}

/*
 * The same until it succeeds.
 */
static void
insist_on(Rebuild *rebuild, void (*part) (void *))
{
	while (!do_part(rebuild, part))
		;
}

static void
fill_all(Rebuild *rebuild, const char *phase)
{
	rebuild->phase = phase;
	do
	{
		insist_on(rebuild, fill);
	} while (!rebuild->caught_up);
}

/*
 * Tries to swap until it has all locks at once.
 */
static void
swap_in_the_end(Rebuild *rebuild)
{
	/* noted at once: it may wait for long */
	rebuild->phase = "swap";
	insist_on(rebuild, note_phase);
	ES_WAIT_POINT("rebuild: filled");
	for (int attempt = 1;; attempt++)
	{
		rebuild->patience = es_floor_patience(attempt);
		if (do_part(rebuild, swap))
			break;
		es_floor_pause(attempt);
		fill_all(rebuild, "swap");
	}
}

static void
do_all(Rebuild *rebuild)
{
	insist_on(rebuild, begin);
	fill_all(rebuild, "fill");
	if (rebuild->late_indexes || rebuild->updates)
	{
		rebuild->phase = "index";
		insist_on(rebuild, note_phase);
		insist_on(rebuild, finish_shadows);
		fill_all(rebuild, "catch up");
	}
	swap_in_the_end(rebuild);
}

/*
 * Keeps other sessions from rebuilding the projection, or raises 55006 where one
 * does.  A session's lock, since it has to outlast the transactions; it goes with
 * the session at the latest.
 */
static void
lock_rebuild(EsStore *store, const char *name, LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, store->events,
						 hash_bytes((const unsigned char *) name, strlen(name)),
						 REBUILD_TAG);
	if (LockAcquire(tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("projection \"%s\" is being rebuilt by another session", name),
				 errhint("The view %s.progress shows how far it is.",
						 quote_identifier(NameStr(store->name)))));
}

/*
 * es_rebuild(name, batch_size)
 */
Datum
es_rebuild(PG_FUNCTION_ARGS)
{
	Rebuild		rebuild = {0};
	LOCKTAG		tag;

	es_check_argument(fcinfo, 0, "name");
	es_check_argument(fcinfo, 1, "batch_size");
	rebuild.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	rebuild.batch_size = PG_GETARG_INT32(1);
	if (rebuild.batch_size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be positive, but is %d", rebuild.batch_size)));
	es_store_check_owner(es_store_current());

	rebuild.work = es_work_begin(fcinfo, "es_rebuild()");
	rebuild.context = CurrentMemoryContext;
	lock_rebuild(es_store_current(), rebuild.name, &tag);
	PG_TRY();
	{
		do_all(&rebuild);
	}
	PG_FINALLY();
	{
		(void) LockRelease(&tag, ExclusiveLock, true);
		if (rebuild.script != NULL)
			es_script_free(rebuild.script);
	}
	PG_END_TRY();
	es_work_end(rebuild.work);
	PG_RETURN_VOID();
}

/*
 * Puts the rows of one of two tables that the other has not into the result.
 */
static void
put_differences(ReturnSetInfo *rsinfo, Snapshot snapshot, Oid table,
				const char *difference, const char *these, const char *those)
{
	SPIPlanPtr	plan;
	char	   *serial = psprintf("%s.es_serial_columns(%u::pg_catalog.regclass)",
								  quote_identifier(get_namespace_name(es_extension_schema())),
								  table);

	/* not to_jsonb(x), which is the column x where there is one */
	char	   *sql = psprintf("SELECT pg_catalog.to_jsonb(x.*) OPERATOR(pg_catalog.-) %s FROM %s x"
							   " EXCEPT ALL"
							   " SELECT pg_catalog.to_jsonb(x.*) OPERATOR(pg_catalog.-) %s FROM %s x"
							   " ORDER BY 1", serial, these, serial, those);

	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, NULL, NULL, snapshot, InvalidSnapshot, false, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not compare: %s", sql);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = ObjectIdGetDatum(table);
		values[1] = CStringGetTextDatum(difference);
		values[2] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &nulls[2]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
compare_tables(EsStore *store, EsShadows *shadows, Snapshot snapshot,
			   ReturnSetInfo *rsinfo)
{
	EsOwnerState owner;

	SPI_connect();
	es_store_enter(&owner, store->owner, SECURITY_NOFORCE_RLS);
	for (int i = 0; i < shadows->count; i++)
	{
		char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(shadows->tables[i])),
													   get_rel_name(shadows->tables[i]));
		char	   *shadow = quote_qualified_identifier(NameStr(store->name),
														get_rel_name(shadows->shadows[i]));

		put_differences(rsinfo, snapshot, shadows->tables[i], "missing", shadow, table);
		put_differences(rsinfo, snapshot, shadows->tables[i], "unexpected", table, shadow);
	}
	es_store_leave(&owner);
	SPI_finish();
}

/*
 * es_verify_projection(name)
 *
 * All of it is one transaction, in which PostgreSQL keeps a combo command id for
 * each update of a row that the transaction itself wrote: there is no way to
 * free these before its end.
 */
Datum
es_verify_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	Snapshot	snapshot;
	EsProjection *projection;
	EsScript   *script;
	char	   *prefix;
	EsShadows  *shadows;
	EsSlice    *slice;
	int64		upto;

	PreventCommandIfReadOnly("es_verify_projection()");
	es_check_argument(fcinfo, 0, "name");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	es_store_check_owner(store);
	InitMaterializedSRF(fcinfo, 0);

	snapshot = RegisterSnapshot(GetActiveSnapshot());
	projection = es_projection_get(store, name, ES_SEE_STATEMENT);
	if (projection == NULL)
		es_projection_raise_unknown(store, name);
	upto = projection->is_inline && projection->state == ES_PROJECTION_RUNNING ?
		PG_INT64_MAX : projection->position;

	prefix = psprintf("verify_%d_", MyProcPid);
	script = es_projection_prepare(store, name, &projection->body, ES_PROJECTION_SLICE);
	es_store_call(store, "es_create_shadows(%s::pg_catalog.name, %s, '%s'::pg_catalog.text, true, %s, true)",
				  quote_literal_cstr(NameStr(store->name)),
				  es_shadow_list(projection), prefix,
				  es_script_updates(script) ? "true" : "false");
	shadows = es_shadow_open(store, projection, prefix);
	slice = es_slice_begin(store, script, projection->body.types, 0);
	do
	{
		PushActiveSnapshot(snapshot);
		(void) es_slice_read(slice, upto, ES_PROJECTION_SLICE, true);
		PopActiveSnapshot();
		es_shadow_run(shadows, slice);
	} while (!slice->done);
	es_slice_end(slice);
	es_script_free(script);

	compare_tables(store, shadows, snapshot, (ReturnSetInfo *) fcinfo->resultinfo);
	es_store_call(store, "es_drop_shadows(%s::pg_catalog.name,"
				  " ARRAY(SELECT pg_catalog.concat('%s', t::pg_catalog.oid) FROM pg_catalog.unnest(%s) t)::pg_catalog.name[])",
				  quote_literal_cstr(NameStr(store->name)), prefix,
				  es_shadow_list(projection));
	UnregisterSnapshot(snapshot);
	return (Datum) 0;
}
