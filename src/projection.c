/*-------------------------------------------------------------------------
 *
 * projection.c
 *		Read models: their definitions, and taking them forward.
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
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "floor.h"
#include "fmgr.h"
#include "log.h"
#include "miscadmin.h"
#include "owner.h"
#include "projection.h"
#include "storage/lmgr.h"
#include "upcast.h"
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

static const EsQuery insert_definition = {
	"INSERT INTO {es}.projection_definitions"
	" (name, mode, granularity, state, script, search_path, tables, types)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
	8, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, REGCLASSARRAYOID, TEXTARRAYOID}
};

static const EsQuery insert_cursor = {
	"INSERT INTO {es}.projection_cursors (name, position) VALUES ($1, $2)",
	2, {TEXTOID, INT8OID}
};

static const EsQuery select_definition = {
	"SELECT d.mode, d.state, d.script, d.search_path, d.granularity, d.types,"
	" d.next_script, d.next_search_path, d.next_granularity, d.next_types,"
	" d.tables, c.position, c.failures"
	" FROM {es}.projection_definitions d"
	" JOIN {es}.projection_cursors c ON c.name OPERATOR(pg_catalog.=) d.name"
	" WHERE d.name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery lock_cursor = {
	"SELECT position FROM {es}.projection_cursors"
	" WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
	1, {TEXTOID}
};

static const EsQuery lock_cursor_or_skip = {
	"SELECT position FROM {es}.projection_cursors"
	" WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED",
	1, {TEXTOID}
};

static const EsQuery update_cursor = {
	"UPDATE {es}.projection_cursors SET position = $2,"
	" events = events OPERATOR(pg_catalog.+) $3,"
	" failures = 0, retry_at = NULL, last_error = NULL,"
	" updated_at = pg_catalog.clock_timestamp()"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	3, {TEXTOID, INT8OID, INT8OID}
};

static const EsQuery update_state = {
	"UPDATE {es}.projection_definitions SET state = $2"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	2, {TEXTOID, TEXTOID}
};

static const EsQuery update_body = {
	"UPDATE {es}.projection_definitions SET"
	" script = $2, search_path = $3, granularity = $4, types = $5,"
	" next_script = NULL, next_search_path = NULL, next_granularity = NULL, next_types = NULL"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	5, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID}
};

static const EsQuery update_next_body = {
	"UPDATE {es}.projection_definitions SET"
	" next_script = $2, next_search_path = $3, next_granularity = $4, next_types = $5"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	5, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID}
};

static const EsQuery select_other_inline = {
	"SELECT FROM {es}.projection_definitions"
	" WHERE mode OPERATOR(pg_catalog.=) 'inline' AND name OPERATOR(pg_catalog.<>) $1 LIMIT 1",
	1, {TEXTOID}
};

static const EsQuery delete_definition = {
	"DELETE FROM {es}.projection_definitions WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery delete_cursor = {
	"DELETE FROM {es}.projection_cursors WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static void
connect(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
execute(EsStore *store, const EsQuery *query, Datum *values, const char *nulls)
{
	connect();
	(void) es_store_execute(store, query, values, nulls);
	SPI_finish();
}

static char *
column_string(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static Datum
column_datum(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

static ArrayType *
column_array(int column)
{
	bool		isnull;
	Datum		value = column_datum(column, &isnull);

	return isnull ? NULL : DatumGetArrayTypePCopy(value);
}

static void
read_body(EsProjectionBody *body, int column)
{
	body->text = column_string(column);
	body->search_path = column_string(column + 1);
	body->granularity = column_string(column + 2);
	body->types = column_array(column + 3);
}

static EsProjectionState
parse_state(const char *state)
{
	if (strcmp(state, "building") == 0)
		return ES_PROJECTION_BUILDING;
	if (strcmp(state, "paused") == 0)
		return ES_PROJECTION_PAUSED;
	return ES_PROJECTION_RUNNING;
}

/*
 * Returns a projection, in the current memory context, or NULL if there is none
 * of the name: as it is now, or as the calling statement sees it.
 */
EsProjection *
es_projection_get(EsStore *store, const char *name, EsVisibility visibility)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		value = CStringGetTextDatum(name);
	EsProjection *projection = NULL;
	uint64		found;

	connect();
	found = visibility == ES_SEE_ALL ?
		es_store_select_latest(store, &select_definition, &value, NULL) :
		es_store_select(store, &select_definition, &value, NULL, true);
	if (found > 0)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(caller);
		bool		isnull;

		projection = palloc0(sizeof(EsProjection));
		projection->name = pstrdup(name);
		projection->is_inline = strcmp(column_string(1), "inline") == 0;
		projection->state = parse_state(column_string(2));
		read_body(&projection->body, 3);
		read_body(&projection->next, 7);
		projection->tables = column_array(11);
		es_check_list(projection->tables,
					  ArrayGetNItems(ARR_NDIM(projection->tables), ARR_DIMS(projection->tables)),
					  "projection_definitions");
		projection->position = DatumGetInt64(column_datum(12, &isnull));
		projection->failures = DatumGetInt32(column_datum(13, &isnull));
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
	return projection;
}

/*
 * Raises 42704.
 */
void
es_projection_raise_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("projection \"%s\" does not exist", name),
			 errhint("Create it with es_create_projection(%s, ...).", quote_literal_cstr(name))));
}

/*
 * Returns a projection, with its cursor locked to the end of the transaction.
 * Raises 42704 if there is none of the name.
 */
EsProjection *
es_projection_lock(EsStore *store, const char *name)
{
	Datum		value = CStringGetTextDatum(name);
	EsProjection *projection;
	bool		found;

	connect();
	found = es_store_execute(store, &lock_cursor, &value, NULL) > 0;
	SPI_finish();
	projection = found ? es_projection_get(store, name, ES_SEE_ALL) : NULL;
	if (projection == NULL)
		es_projection_raise_unknown(name);
	return projection;
}

/*
 * Locks a projection's cursor to the end of the transaction and returns where it
 * stands; -1 if somebody else has it, or there is none.
 */
int64
es_projection_lock_or_skip(EsStore *store, const char *name)
{
	Datum		value = CStringGetTextDatum(name);
	int64		position = -1;

	connect();
	if (es_store_execute(store, &lock_cursor_or_skip, &value, NULL) > 0)
	{
		bool		isnull;

		position = DatumGetInt64(column_datum(1, &isnull));
	}
	SPI_finish();
	return position;
}

/*
 * Puts a projection's cursor to a position, with nevents more events behind it.
 */
void
es_projection_set_position(EsStore *store, const char *name, int64 position,
						   int64 nevents)
{
	Datum		values[3];

	values[0] = CStringGetTextDatum(name);
	values[1] = Int64GetDatum(position);
	values[2] = Int64GetDatum(nevents);
	execute(store, &update_cursor, values, NULL);
}

/*
 * Sets a projection's state, and with it makes every session read its definition
 * again.
 */
void
es_projection_set_state(EsStore *store, const char *name, const char *state)
{
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(state);
	execute(store, &update_state, values, NULL);
}

static void
set_body(EsStore *store, const EsQuery *query, const char *name,
		 const EsProjectionBody *body)
{
	Datum		values[5];
	char		nulls[6];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(body->text);
	values[2] = CStringGetTextDatum(body->search_path);
	values[3] = CStringGetTextDatum(body->granularity);
	values[4] = PointerGetDatum(body->types);
	nulls[4] = body->types == NULL ? 'n' : ' ';
	execute(store, query, values, nulls);
}

/*
 * Puts a new definition of what a projection does in force.
 */
void
es_projection_set_body(EsStore *store, const char *name, const EsProjectionBody *body)
{
	set_body(store, &update_body, name, body);
}

static EsScriptSource
make_source(const char *name, const EsProjectionBody *body, int expected)
{
	EsScriptSource source = {0};

	source.kind = ES_SCRIPT_PROJECTION;
	source.name = name;
	source.text = body->text;
	source.search_path = body->search_path;
	source.granularity = es_granularity_parse(body->granularity);
	source.expected = expected;
	return source;
}

/*
 * Returns the script of a projection, for runs of about so many events.
 */
EsScript *
es_projection_prepare(EsStore *store, const char *name, const EsProjectionBody *body,
					  int expected)
{
	EsScriptSource source = make_source(name, body, expected);

	return es_script_prepare(store, &source);
}

/*
 * Whether a script is what es_projection_prepare() would make.
 */
bool
es_projection_is(const EsScript *script, const char *name, const EsProjectionBody *body,
				 int expected)
{
	EsScriptSource source = make_source(name, body, expected);

	return es_script_is(script, &source);
}

/*
 * Begins to read a projection's events in slices, from a position on.
 */
EsSlice *
es_slice_begin(EsStore *store, EsScript *script, ArrayType *types, int64 after)
{
	EsSlice    *slice = palloc0(sizeof(EsSlice));

	slice->store = store;
	slice->script = script;
	slice->types = types == NULL ? NULL : es_upcast_types(store, types);
	slice->batch = es_event_batch_create();
	slice->position = after;
	return slice;
}

typedef struct Reading
{
	EsSlice    *slice;
	EsUpcast   *upcast;
	int			nevents;
} Reading;

/* An event sink. */
static bool
read_event(const EsEvent *stored, void *arg)
{
	Reading    *reading = arg;
	EsEvent		event = *stored;

	reading->nevents++;
	if (es_upcast_event(reading->upcast, &event))
		es_event_batch_add(reading->slice->batch, &event);
	reading->slice->position = EsEventPosition(stored);
	return true;
}

/*
 * Reads the next events up to a position, at most max_count, as the store's
 * owner and past row security; snapshot: as the active one sees them, instead of
 * all that is committed by now.  Returns how many there are to run.  Where that
 * raises an error, because of an upcaster, the slice holds what comes before.
 */
int
es_slice_read(EsSlice *slice, int64 upto, int max_count, bool snapshot)
{
	EsStore    *store = slice->store;
	EsPositionRange range = {0};
	Reading		reading = {0};
	EsOwnerState owner;

	es_event_batch_reset(slice->batch);
	slice->done = false;
	range.after = slice->position;
	range.upto = upto;
	range.max_count = max_count;
	range.types = slice->types;
	range.snapshot = snapshot;
	reading.slice = slice;

	es_store_enter(&owner, store->owner, SECURITY_NOFORCE_RLS);
	reading.upcast = es_upcast_begin(store);
	es_log_scan_positions(store, &range, read_event, &reading);
	es_upcast_end(reading.upcast);
	es_store_leave(&owner);

	slice->done = reading.nevents < max_count;
	if (slice->done)
		slice->position = upto;
	return slice->batch->nevents;
}

/*
 * Runs the first so many of the events read.
 */
void
es_slice_run(EsSlice *slice, int nevents)
{
	es_script_run(slice->script, nevents, slice->batch->events);
}

void
es_slice_end(EsSlice *slice)
{
	es_event_batch_destroy(slice->batch);
	pfree(slice);
}

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

/*
 * Raises 22023 unless argument n is a non-empty plain array without NULLs.
 */
static ArrayType *
get_list(FunctionCallInfo fcinfo, int n, const char *name)
{
	ArrayType  *list = PG_GETARG_ARRAYTYPE_P(n);

	if (ARR_NDIM(list) != 1 || array_contains_nulls(list))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a list of one or more values", name)));
	return list;
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
check_targets(EsScript *script, ArrayType *tables)
{
	bool		only_inserts;
	ListCell   *lc;

	foreach(lc, es_script_targets(script, &only_inserts))
	{
		Oid			target = lfirst_oid(lc);
		Oid		   *oids = (Oid *) ARR_DATA_PTR(tables);
		bool		found = false;

		for (int i = 0; i < ArrayGetNItems(ARR_NDIM(tables), ARR_DIMS(tables)); i++)
			found = found || oids[i] == target;
		if (!found)
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
	char	   *granularity;
	EsProjection projection = {0};
	bool		replay;
	EsScript   *script;
	Datum		values[8];
	char		nulls[9];

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
	granularity = text_to_cstring(PG_GETARG_TEXT_PP(5));
	replay = PG_GETARG_BOOL(6);

	projection.name = name;
	projection.is_inline = strcmp(mode, "inline") == 0;
	projection.body.text = text_to_cstring(PG_GETARG_TEXT_PP(1));
	projection.body.search_path = es_owner_search_path();
	projection.body.granularity = granularity;
	projection.body.types = PG_ARGISNULL(3) ? NULL : get_list(fcinfo, 3, "types");
	projection.tables = get_list(fcinfo, 2, "tables");
	check_tables(store, projection.tables);
	script = es_projection_prepare(store, name, &projection.body, 1);
	check_targets(script, projection.tables);
	es_script_free(script);

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(4);
	values[2] = PG_GETARG_DATUM(5);
	values[3] = CStringGetTextDatum("building");
	values[4] = PG_GETARG_DATUM(1);
	values[5] = CStringGetTextDatum(projection.body.search_path);
	values[6] = PG_GETARG_DATUM(2);
	values[7] = PG_GETARG_DATUM(3);
	nulls[7] = PG_ARGISNULL(3) ? 'n' : ' ';
	connect();
	if (es_store_execute(store, &insert_definition, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("projection \"%s\" already exists", name),
				 errhint("Change it with es_alter_projection(), or drop it with es_drop_projection().")));
	SPI_finish();

	if (!projection.is_inline)
		projection.position = replay ? 0 : es_floor_safe(store);
	else if (!replay)
		projection.position = lock_out_appends(store, ShareRowExclusiveLock);
	values[1] = Int64GetDatum(projection.position);
	execute(store, &insert_cursor, values, NULL);

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
	if (!PG_ARGISNULL(2))
		body.types = ARR_NDIM(PG_GETARG_ARRAYTYPE_P(2)) == 0 ?
			NULL : get_list(fcinfo, 2, "types");
	if (!PG_ARGISNULL(3))
		body.granularity = text_to_cstring(PG_GETARG_TEXT_PP(3));
	script = es_projection_prepare(store, name, &body, 1);
	check_targets(script, projection->tables);
	es_script_free(script);

	/* every event is handled by the one definition or by the other */
	if (projection->is_inline && !PG_GETARG_BOOL(4))
		(void) lock_out_appends(store, ShareRowExclusiveLock);
	set_body(store, PG_GETARG_BOOL(4) ? &update_next_body : &update_body, name, &body);
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
 * Whether the store has no inline projection but this one.
 */
static bool
is_last_inline(EsStore *store, const char *name)
{
	Datum		value = CStringGetTextDatum(name);
	bool		last;

	connect();
	last = es_store_execute(store, &select_other_inline, &value, NULL) == 0;
	SPI_finish();
	return last;
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
	Datum		value;

	PreventCommandIfReadOnly("es_drop_projection()");
	name = get_name(fcinfo);
	es_store_check_owner(store);
	projection = es_projection_lock(store, name);

	/* the lock that dropping the trigger takes, and not first a weaker one */
	if (projection->is_inline && is_last_inline(store, name))
		(void) lock_out_appends(store, AccessExclusiveLock);
	es_store_call(store, "es_forget_rebuild(%s::pg_catalog.name, %s::pg_catalog.text)",
				  quote_literal_cstr(NameStr(store->name)), quote_literal_cstr(name));
	value = CStringGetTextDatum(name);
	execute(store, &delete_definition, &value, NULL);
	execute(store, &delete_cursor, &value, NULL);
	if (projection->is_inline)
		install_trigger(store);
	PG_RETURN_VOID();
}
