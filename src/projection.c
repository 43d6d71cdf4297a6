/*-------------------------------------------------------------------------
 *
 * projection.c
 *		Read models: creating, changing and dropping projections.
 *
 * The rule: a read model has taken in each event of its history exactly once, in
 * the order of positions.  An inline projection that is running takes in what is
 * appended, in the appending transaction; every other has a cursor, a position
 * that its effects commit together with.
 *
 * Going from a cursor to inline (created over a history, resumed) is done
 * without a gap and without a double: what is settled is taken in while appends
 * go on, then appends are locked out for the rest, es_floor_settle(), and go on
 * when the projection is known to be running.  Going the other way (paused)
 * takes the same lock, so that the cursor can be put exactly where inline ended.
 *
 * The order of locks: the projection's cursor, then the events table, then read
 * models.  Whoever changes a projection's state or cursor holds the cursor's row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "compat.h"
#include "floor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "owner.h"
#include "projection.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "waitpoint.h"

PG_FUNCTION_INFO_V1(es_create_projection);
PG_FUNCTION_INFO_V1(es_alter_projection);
PG_FUNCTION_INFO_V1(es_pause_projection);
PG_FUNCTION_INFO_V1(es_resume_projection);
PG_FUNCTION_INFO_V1(es_drop_projection);

/* a longer name is an error */
#define MAX_NAME_LENGTH 512

/* A projection on its way to the present. */
typedef struct Joining
{
	EsStore    *store;
	EsSlice    *slice;
	int64		nevents;		/* taken in so far */
}			Joining;

static void
take_in(Joining * joining, int64 upto)
{
	EsSlice    *slice = joining->slice;

	if (upto <= slice->position)
		return;
	do
	{
		joining->nevents += es_slice_read(slice, upto, ES_PROJECTION_SLICE, false);
		es_slice_run(slice, slice->batch->nevents);
	} while (!slice->done);
}

/*
 * Takes in what is settled, and again what was settled meanwhile, until a look
 * finds little.
 */
static void
catch_up(void *arg)
{
	Joining    *joining = arg;
	int64		before;

	do
	{
		before = joining->nevents;
		take_in(joining, es_floor_safe(joining->store));
	} while (joining->nevents - before >= ES_PROJECTION_SLICE);
}

/*
 * Takes a projection's read models from its cursor to the present, and has it
 * run inline from then on.  The caller holds the cursor's row.
 */
static void
join_live_flow(EsStore *store, EsProjection *projection)
{
	EsScript   *script = es_projection_prepare(store, projection->name,
											   &projection->body,
											   ES_PROJECTION_SLICE);
	Joining		joining = {store, NULL, 0};
	int64		last;

	/* within the transaction's old snapshot, the end would not be in sight */
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot bring projection \"%s\" up to date within a REPEATABLE READ transaction",
						projection->name),
				 errhint("Use the isolation level READ COMMITTED.")));

	/* most of it while appends go on, until little is left */
	joining.slice = es_slice_begin(store, script, projection->body.types,
								   projection->position);
	catch_up(&joining);
	ES_WAIT_POINT("join: caught up");

	/* the rest, and the appenders that wait find the projection running */
	last = es_floor_settle_patiently(store, ShareRowExclusiveLock, catch_up, &joining);
	take_in(&joining, last);
	es_projection_set_position(store, projection->name, last, joining.nevents);
	es_projection_set_state(store, projection->name, "running");
	ES_WAIT_POINT("join: settled");
	es_slice_end(joining.slice);
	es_script_free(script);
}

/*
 * Waits until no appends are open, and locks them out for the rest of the
 * transaction; see es_floor_settle_patiently().
 */
static int64
lock_out_appends(EsStore *store, LOCKMODE mode)
{
	return es_floor_settle_patiently(store, mode, NULL, NULL);
}

/*
 * Puts the trigger of inline projections in place, or takes it away, as the
 * store's definitions have it.
 */
static void
install_trigger(EsStore *store)
{
	es_store_call(store, "es_install_projections(%s::pg_catalog.name)",
				  quote_literal_cstr(NameStr(store->name)));
}

/*
 * Raises unless a relation can be a read model: a table that the store's owner
 * owns, and that a rebuild can swap.
 */
void
es_projection_check_table(EsStore *store, Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	const char *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relkind != RELKIND_RELATION)
		problem = "It is not an ordinary table.";
	else if (form->relpersistence == RELPERSISTENCE_TEMP)
		problem = "It is a temporary table.";
	else if (form->relispartition || find_inheritance_children(relid, NoLock) != NIL ||
			 has_superclass(relid))
		problem = "It is part of an inheritance or partition tree.";
	else if (IsCatalogRelationOid(relid))
		problem = "It is a system catalog.";
	else if (form->relnamespace == store->schema)
		problem = "It is in the event store's own schema.";
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be the table of a projection", NameStr(form->relname)),
				 errdetail("%s", problem)));
	if (!object_ownercheck(RelationRelationId, relid, store->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" does not belong to the owner of event store \"%s\"",
						NameStr(form->relname), NameStr(store->name)),
				 errhint("Projections run with the rights of role \"%s\", which has to own their tables.",
						 GetUserNameFromId(store->owner, true))));
	ReleaseSysCache(tuple);
}

static void
check_tables(EsStore *store, ArrayType *tables)
{
	Oid		   *oids = (Oid *) ARR_DATA_PTR(tables);
	int			count = ArrayGetNItems(ARR_NDIM(tables), ARR_DIMS(tables));

	for (int i = 0; i < count; i++)
	{
		es_projection_check_table(store, oids[i]);
		for (int j = 0; j < i; j++)
		{
			if (oids[i] == oids[j])
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("tables contains \"%s\" more than once", get_rel_name(oids[i]))));
		}
	}
}

static char *
get_name(FunctionCallInfo fcinfo)
{
	es_check_argument(fcinfo, 0, "name");
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/*
 * Raises 22023 where the script changes a table that is not among the
 * projection's: a rebuild would apply its history to it once more.
 */
static void
check_targets(EsScript *script, const EsProjection *projection)
{
	bool		only_inserts;
	ListCell   *lc;

	foreach(lc, es_script_targets(script, &only_inserts))
	{
		Oid			target = lfirst_oid(lc);

		if (!es_projection_has_table(projection, target))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the script changes \"%s\", which is not one of the projection's tables",
							get_rel_name(target)),
					 errdetail("A rebuild fills new copies of a projection's tables, and must not touch others."),
					 errhint("Add it to the argument tables.")));
	}
}

/*
 * es_create_projection(name, script, tables, types, mode, granularity, replay)
 */
Datum
es_create_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	char	   *mode;
	EsProjection projection = {0};
	bool		replay;
	EsScript   *script;

	PreventCommandIfReadOnly("es_create_projection()");
	name = get_name(fcinfo);
	es_check_argument(fcinfo, 1, "script");
	es_check_argument(fcinfo, 2, "tables");
	es_check_argument(fcinfo, 4, "mode");
	es_check_argument(fcinfo, 5, "granularity");
	es_check_argument(fcinfo, 6, "replay");
	es_store_check_owner(store);
	if (name[0] == '\0' || strlen(name) > MAX_NAME_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a name for a projection", name),
				 errhint("A name has 1 to %d bytes.", MAX_NAME_LENGTH)));
	mode = text_to_cstring(PG_GETARG_TEXT_PP(4));
	if (strcmp(mode, "inline") != 0 && strcmp(mode, "async") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\" of a projection", mode),
				 errhint("The modes are \"inline\", in the appending transaction, and \"async\", after it.")));
	replay = PG_GETARG_BOOL(6);

	projection.name = name;
	projection.is_inline = strcmp(mode, "inline") == 0;
	projection.body.text = text_to_cstring(PG_GETARG_TEXT_PP(1));
	projection.body.search_path = es_owner_search_path();
	projection.body.granularity = text_to_cstring(PG_GETARG_TEXT_PP(5));
	projection.body.types = es_get_types(fcinfo, 3);
	projection.tables = es_get_list(fcinfo, 2, "tables",
									"They are the tables that the script maintains.");
	check_tables(store, projection.tables);
	script = es_projection_parse(store, name, &projection.body);
	check_targets(script, &projection);
	es_script_free(script);

	if (!es_projection_insert(store, &projection))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("projection \"%s\" already exists", name),
				 errhint("Change it with es_alter_projection(), or drop it with es_drop_projection().")));

	if (!projection.is_inline)
		projection.position = replay ? 0 : es_floor_safe(store);
	else if (!replay)
		projection.position = lock_out_appends(store, ShareRowExclusiveLock);
	es_projection_insert_cursor(store, name, projection.position);

	if (projection.is_inline)
	{
		join_live_flow(store, &projection);
		install_trigger(store);
	}
	else if (!replay)
		es_projection_set_state(store, name, "running");
	PG_RETURN_VOID();
}

/*
 * es_alter_projection(name, script, types, granularity, rebuild)
 */
Datum
es_alter_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	EsProjection *projection;
	EsProjectionBody body;
	EsScript   *script;

	PreventCommandIfReadOnly("es_alter_projection()");
	name = get_name(fcinfo);
	es_check_argument(fcinfo, 4, "rebuild");
	es_store_check_owner(store);
	projection = es_projection_lock(store, name);

	body = projection->body;
	if (!PG_ARGISNULL(1))
	{
		body.text = text_to_cstring(PG_GETARG_TEXT_PP(1));
		body.search_path = es_owner_search_path();
	}

	/* NULL leaves them, so what would be a mistake else lifts the restriction */
	if (!PG_ARGISNULL(2))
		body.types = ARR_NDIM(PG_GETARG_ARRAYTYPE_P(2)) == 0 ? NULL : es_get_types(fcinfo, 2);
	if (!PG_ARGISNULL(3))
		body.granularity = text_to_cstring(PG_GETARG_TEXT_PP(3));
	script = es_projection_parse(store, name, &body);
	check_targets(script, projection);
	es_script_free(script);

	/* every event is handled by the one definition or by the other */
	if (projection->is_inline && !PG_GETARG_BOOL(4))
		(void) lock_out_appends(store, ShareRowExclusiveLock);
	if (PG_GETARG_BOOL(4))
		es_projection_set_next_body(store, name, &body);
	else
		es_projection_set_body(store, name, &body);
	PG_RETURN_VOID();
}

/*
 * es_pause_projection(name)
 */
Datum
es_pause_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	EsProjection *projection;

	PreventCommandIfReadOnly("es_pause_projection()");
	name = get_name(fcinfo);
	es_store_check_owner(store);
	projection = es_projection_lock(store, name);
	if (projection->state == ES_PROJECTION_PAUSED)
		PG_RETURN_VOID();

	/* from here on the cursor counts */
	if (projection->is_inline)
		es_projection_set_position(store, name,
								   lock_out_appends(store, ShareRowExclusiveLock), 0);
	es_projection_set_state(store, name, "paused");
	PG_RETURN_VOID();
}

/*
 * es_resume_projection(name)
 */
Datum
es_resume_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	EsProjection *projection;

	PreventCommandIfReadOnly("es_resume_projection()");
	name = get_name(fcinfo);
	es_store_check_owner(store);
	projection = es_projection_lock(store, name);

	if (!projection->is_inline)
	{
		/* also for one that failed: try again now */
		es_projection_set_position(store, name, projection->position, 0);
		if (projection->state == ES_PROJECTION_PAUSED)
			es_projection_set_state(store, name, "running");
	}
	else if (projection->state != ES_PROJECTION_RUNNING)
		join_live_flow(store, projection);
	PG_RETURN_VOID();
}

/*
 * es_drop_projection(name)
 */
Datum
es_drop_projection(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	EsProjection *projection;

	PreventCommandIfReadOnly("es_drop_projection()");
	name = get_name(fcinfo);
	es_store_check_owner(store);
	projection = es_projection_lock(store, name);

	/* the lock that dropping the trigger takes, and not first a weaker one */
	if (projection->is_inline && es_projection_is_last_inline(store, name) && !store->subscribed)
		(void) lock_out_appends(store, AccessExclusiveLock);
	es_store_call(store, "es_forget_rebuild(%s::pg_catalog.name, %s::pg_catalog.text)",
				  quote_literal_cstr(NameStr(store->name)), quote_literal_cstr(name));
	es_projection_delete(store, name);
	if (projection->is_inline)
		install_trigger(store);
	PG_RETURN_VOID();
}
