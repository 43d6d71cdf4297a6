/*-------------------------------------------------------------------------
 *
 * projection_rows.c
 *		What a store has written down of a projection: definition and cursor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "executor/spi.h"
#include "projection.h"
#include "utils/builtins.h"

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
 * Whether a table is one of a projection's.
 */
bool
es_projection_has_table(const EsProjection *projection, Oid relid)
{
	Oid		   *tables = (Oid *) ARR_DATA_PTR(projection->tables);
	int			count = ArrayGetNItems(ARR_NDIM(projection->tables), ARR_DIMS(projection->tables));

	for (int i = 0; i < count; i++)
	{
		if (tables[i] == relid)
			return true;
	}
	return false;
}

/*
 * Raises 42704.
 */
void
es_projection_raise_unknown(EsStore *store, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("projection \"%s\" does not exist", name),
			 errhint("The view %s.projections lists those that there are; es_create_projection() creates one.",
					 quote_identifier(NameStr(store->name)))));
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
		es_projection_raise_unknown(store, name);
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

/*
 * Puts down what a projection is to do from its next rebuild on.
 */
void
es_projection_set_next_body(EsStore *store, const char *name, const EsProjectionBody *body)
{
	set_body(store, &update_next_body, name, body);
}

/*
 * Writes down a new projection that is still to be built; the caller gives it a
 * cursor.  Returns false if there is one of the name already.
 */
bool
es_projection_insert(EsStore *store, const EsProjection *projection)
{
	Datum		values[8];
	char		nulls[9];
	bool		inserted;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(projection->name);
	values[1] = CStringGetTextDatum(projection->is_inline ? "inline" : "async");
	values[2] = CStringGetTextDatum(projection->body.granularity);
	values[3] = CStringGetTextDatum("building");
	values[4] = CStringGetTextDatum(projection->body.text);
	values[5] = CStringGetTextDatum(projection->body.search_path);
	values[6] = PointerGetDatum(projection->tables);
	values[7] = PointerGetDatum(projection->body.types);
	nulls[7] = projection->body.types == NULL ? 'n' : ' ';
	connect();
	inserted = es_store_execute(store, &insert_definition, values, nulls) > 0;
	SPI_finish();
	return inserted;
}

/*
 * Gives a new projection its cursor.
 */
void
es_projection_insert_cursor(EsStore *store, const char *name, int64 position)
{
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = Int64GetDatum(position);
	execute(store, &insert_cursor, values, NULL);
}

/*
 * Removes a projection's definition and cursor.
 */
void
es_projection_delete(EsStore *store, const char *name)
{
	Datum		value = CStringGetTextDatum(name);

	execute(store, &delete_definition, &value, NULL);
	execute(store, &delete_cursor, &value, NULL);
}

/*
 * Whether the store has no inline projection but this one.
 */
bool
es_projection_is_last_inline(EsStore *store, const char *name)
{
	Datum		value = CStringGetTextDatum(name);
	bool		last;

	connect();
	last = es_store_execute(store, &select_other_inline, &value, NULL) == 0;
	SPI_finish();
	return last;
}
