/*-------------------------------------------------------------------------
 *
 * store_query.c
 *		Queries over a store's relations, as its owner, and their saved plans.
 *
 * Saved plans hang on the store's name, and since they were made from text with
 * that name in it, PostgreSQL's plan cache makes them anew itself when the
 * relations behind it change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "guc.h"
#include "miscadmin.h"
#include "store.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

/*
 * PostgreSQL makes a plan anew where row security is another one, by the role,
 * but not where the same role is once subject to row security that is forced
 * upon a table's owner and once not.  So these have plans of their own.
 */
typedef struct PlanKey
{
	EsStore    *store;
	const EsQuery *query;
	bool		not_forced;
} PlanKey;

typedef struct PlanEntry
{
	PlanKey		key;
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

/*
 * Returns sql with every "{es}" replaced by the store's quoted schema,
 * allocated in the current memory context.
 */
char *
es_store_expand(EsStore *store, const char *sql)
{
	const char *schema = quote_identifier(NameStr(store->name));
	StringInfoData buf;
	const char *next;

	initStringInfo(&buf);
	while ((next = strstr(sql, "{es}")) != NULL)
	{
		appendBinaryStringInfo(&buf, sql, next - sql);
		appendStringInfoString(&buf, schema);
		sql = next + strlen("{es}");
	}
	appendStringInfoString(&buf, sql);
	return buf.data;
}

/*
 * Whether a rule made nothing at all of the statement.  Such a plan has no
 * relation whose change would invalidate it, not even when the rule is dropped.
 */
static bool
is_empty(SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	return source->query_list == NIL;
}

/*
 * Returns the saved plan of a query over the store's relations, made when it
 * is first asked for.  To be called between SPI_connect() and SPI_finish().
 */
SPIPlanPtr
es_store_plan(EsStore *store, const EsQuery *query)
{
	PlanKey		key;
	PlanEntry  *entry;
	SPIPlanPtr	plan;

	/* code of the user's may have run, and altered a table, since the look-up */
	es_store_validate(store);

	if (plans == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(PlanKey);
		ctl.entrysize = sizeof(PlanEntry);
		plans = hash_create("eventsourcing plans", 64, &ctl,
							HASH_ELEM | HASH_BLOBS);
	}

	memset(&key, 0, sizeof(key));
	key.store = store;
	key.query = query;
	key.not_forced = InNoForceRLSOperation();
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	if (entry != NULL && is_empty(entry->plan))
	{
		SPI_freeplan(entry->plan);
		(void) hash_search(plans, &key, HASH_REMOVE, NULL);
		entry = NULL;
	}
	if (entry == NULL)
	{
		plan = SPI_prepare(es_store_expand(store, query->sql), query->nargs,
						   (Oid *) query->argtypes);
		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		entry = hash_search(plans, &key, HASH_ENTER, NULL);
		entry->plan = plan;
	}
	return entry->plan;
}

/*
 * What a plan that goes by indexes, a row at a time and in their order, does
 * without.
 */
static const char *const not_by_index[] = {
	"enable_bitmapscan",
	"enable_hashjoin",
	"enable_mergejoin",
	"enable_seqscan",
	"enable_sort"
};

/*
 * The same for a query that an index is made for, planned once and for all.  A
 * plan stays as it is until the table is analyzed again, and one that was made
 * for a small table would scan the whole of it for each append of a transaction
 * that makes it a large one, or for each fetch while events pile up.
 */
SPIPlanPtr
es_store_index_plan(EsStore *store, const EsQuery *query)
{
	SPIPlanPtr	plan = es_store_plan(store, query);
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	CachedPlan *cached;
	int			nestlevel;

	if (source->is_valid && source->gplan != NULL && source->gplan->is_valid)
		return plan;
	source->cursor_options |= CURSOR_OPT_GENERIC_PLAN;
	nestlevel = NewGUCNestLevel();
	for (int i = 0; i < lengthof(not_by_index); i++)
		es_guc_set_for_now(not_by_index[i], "off");
	cached = SPI_plan_get_cached_plan(plan);
	if (cached != NULL)
		ReleaseCachedPlan(cached, CurrentResourceOwner);
	AtEOXact_GUC(false, nestlevel);
	return plan;
}

/*
 * The same for a query whose plan depends on its parameters: planned anew for
 * each call, because the index that serves a rare value is none for a frequent
 * one.  PostgreSQL itself would go over to one plan for all of them after some
 * calls, and read the whole log for the rare value.
 */
SPIPlanPtr
es_store_custom_plan(EsStore *store, const EsQuery *query)
{
	SPIPlanPtr	plan = es_store_plan(store, query);
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	source->cursor_options |= CURSOR_OPT_CUSTOM_PLAN;
	return plan;
}

/*
 * Becomes another role, until es_store_leave(state), in a security-restricted
 * operation: the triggers on what that role owns can run now, but not later, with
 * the rights of whoever called, and leave no setting behind.  After an error
 * nothing has to be undone: the end of the (sub)transaction does it.
 */
void
es_store_enter(EsOwnerState *state, Oid role, int sec_context)
{
	GetUserIdAndSecContext(&state->userid, &state->sec_context);
	SetUserIdAndSecContext(role, state->sec_context | sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	state->guc_nestlevel = NewGUCNestLevel();
}

/*
 * Goes back to what es_store_enter() found.
 */
void
es_store_leave(const EsOwnerState *state)
{
	AtEOXact_GUC(false, state->guc_nestlevel);
	SetUserIdAndSecContext(state->userid, state->sec_context);
}

static uint64
run_as_owner(EsStore *store, const EsQuery *query, bool by_index, Datum *values,
			 const char *nulls, Snapshot snapshot, bool read_only)
{
	EsOwnerState owner;
	int			rc;

	es_store_enter(&owner, store->owner, 0);
	rc = SPI_execute_snapshot(by_index ? es_store_index_plan(store, query) :
							  es_store_plan(store, query),
							  values, nulls, snapshot, InvalidSnapshot, read_only, true, 0);
	es_store_leave(&owner);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));

	/* the tables are locked now, and the result is worth what they are */
	es_store_validate(store);
	return SPI_processed;
}

/*
 * A snapshot of all that is committed by now, and of our own changes, whatever
 * the caller's isolation level.
 */
static Snapshot
latest_snapshot(void)
{
	CommandCounterIncrement();
	return GetLatestSnapshot();
}

/*
 * Runs a query on the store's bookkeeping, as its owner, whose right it is: the
 * caller has been checked and has no rights on those tables.  Returns the
 * number of rows; a result is in SPI_tuptable.  Between SPI_connect() and
 * SPI_finish().
 *
 * It sees all that is committed by now: what an old snapshot shows of a
 * definition must not get into a cache that outlives the transaction, and
 * bookkeeping is no reason for a serialization failure.
 */
uint64
es_store_execute(EsStore *store, const EsQuery *query, Datum *values,
				 const char *nulls)
{
	return run_as_owner(store, query, false, values, nulls,
						IsolationUsesXactSnapshot() ? latest_snapshot() : InvalidSnapshot,
						false);
}

/*
 * The same for a query that an index is made for.
 */
uint64
es_store_execute_by_index(EsStore *store, const EsQuery *query, Datum *values,
						  const char *nulls)
{
	return run_as_owner(store, query, true, values, nulls,
						IsolationUsesXactSnapshot() ? latest_snapshot() : InvalidSnapshot,
						false);
}

/*
 * The same for a SELECT that sees all that is committed by now, whatever the
 * caller's isolation level: what a lock that was waited for stands for.
 */
uint64
es_store_select_latest(EsStore *store, const EsQuery *query, Datum *values,
					   const char *nulls)
{
	return run_as_owner(store, query, false, values, nulls, latest_snapshot(), true);
}

/*
 * The same for a SELECT that an index is made for, and that may have to see what
 * the calling statement sees, and not what a new one would.
 */
uint64
es_store_select(EsStore *store, const EsQuery *query, Datum *values,
				const char *nulls, bool as_statement)
{
	return run_as_owner(store, query, true, values, nulls, InvalidSnapshot, as_statement);
}

/*
 * Returns a value of the result in SPI_tuptable; rows count from 0, columns
 * from 1.
 */
Datum
es_result_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/*
 * Returns one of variable length, detoasted, as a copy that outlives
 * SPI_finish(), or NULL.
 */
void *
es_result_copy(uint64 row, int column)
{
	bool		isnull;
	Datum		value = es_result_value(row, column, &isnull);

	if (isnull)
		return NULL;
	value = PointerGetDatum(PG_DETOAST_DATUM(value));
	return DatumGetPointer(SPI_datumTransfer(value, false, -1));
}

/*
 * Calls one of the extension's SQL functions as the store's owner, by its name
 * and arguments as SQL text.  The arguments are of the function's very types: a
 * literal without one would rather go to another function of this name, which
 * somebody may have put into the same schema.
 */
void
es_store_call(EsStore *store, const char *format,...)
{
	StringInfoData sql;
	int			start;
	int			needed;
	EsOwnerState owner;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s.",
					 quote_identifier(get_namespace_name(es_extension_schema())));
	start = sql.len;
	for (;;)
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		sql.len = start;
		enlargeStringInfo(&sql, needed);
	}

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	es_store_enter(&owner, store->owner, 0);
	if (SPI_execute(sql.data, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute failed: %s", sql.data);
	es_store_leave(&owner);
	SPI_finish();
}
