/*-------------------------------------------------------------------------
 *
 * store.c
 *		Finding the store that a call works on.
 *
 * A backend keeps one EsStore per store name, for ever: others may hold
 * pointers to it.  Invalidation only clears its valid flag; es_store_current()
 * looks its relations up again.  Saved plans hang on the store's name, and
 * since they were made from text with that name in it, PostgreSQL's plan cache
 * makes them anew itself when the relations behind it change.
 *
 * A definition (an aggregate, a projection, ...) that another session changed
 * arrives here as a relcache invalidation of the table that holds it, sent by
 * the trigger es_definition_changed(); whoever caches definitions compares
 * the store's epoch with the one it was built at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "compat.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "store.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

typedef struct PlanKey
{
	EsStore    *store;
	const EsQuery *query;
} PlanKey;

typedef struct PlanEntry
{
	PlanKey		key;
	SPIPlanPtr	plan;
} PlanEntry;

/* The tables whose rows sessions keep; each has the trigger. */
static const char *const definition_tables[] = {
	"aggregates",
	"deciders",
	"projection_definitions",
	"renamed_types",
	"upcasters"
};

StaticAssertDecl(lengthof(definition_tables) == ES_STORE_DEFINITIONS,
				 "every table of definitions has its place in EsStore");

static HTAB *stores = NULL;
static HTAB *plans = NULL;
static EsStore *current = NULL;

PG_FUNCTION_INFO_V1(es_definition_changed);

/*
 * Callbacks may come at any time, also in the middle of a transaction: they
 * only set flags.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	EsStore    *store;

	hash_seq_init(&status, stores);
	while ((store = hash_seq_search(&status)) != NULL)
	{
		if (!OidIsValid(relid) || relid == store->events)
			store->valid = false;
		for (int i = 0; i < ES_STORE_DEFINITIONS; i++)
		{
			if (relid == store->definitions[i])
				store->valid = false;
		}
	}
}

static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	relation_changed((Datum) 0, InvalidOid);
}

/*
 * Sets up the caches.  Called once, when the library is loaded.
 */
void
es_store_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = NAMEDATALEN;
	ctl.entrysize = sizeof(EsStore);
	stores = hash_create("eventsourcing stores", 8, &ctl,
						 HASH_ELEM | HASH_STRINGS);

	ctl.keysize = sizeof(PlanKey);
	ctl.entrysize = sizeof(PlanEntry);
	plans = hash_create("eventsourcing plans", 64, &ctl,
						HASH_ELEM | HASH_BLOBS);

	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
}

/*
 * The layout number in a store's one-row table "store".  Read below SQL: the
 * caller may have no right on the table, and needs none.
 */
static int
read_layout(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple = systable_getnext(scan);
	AttrNumber	attnum = get_attnum(relid, "layout");
	int			layout = 0;

	if (HeapTupleIsValid(tuple) && attnum != InvalidAttrNumber)
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

		if (!isnull)
			layout = DatumGetInt32(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return layout;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Fills a store's entry from the catalogs, or raises that there is no such
 * store.
 */
static void
look_up(EsStore *store)
{
	const char *name = NameStr(store->name);
	Oid			marker = InvalidOid;
	int			layout;

	/* an invalidation that arrives while we look clears the flag again */
	store->valid = true;
	store->epoch++;

	store->events = InvalidOid;
	store->schema = get_namespace_oid(name, true);
	if (OidIsValid(store->schema))
	{
		marker = get_relname_relid("store", store->schema);
		store->events = get_relname_relid("events", store->schema);
		store->sequence = get_relname_relid("events_position_seq", store->schema);
		for (int i = 0; i < ES_STORE_DEFINITIONS; i++)
			store->definitions[i] = get_relname_relid(definition_tables[i], store->schema);
		store->subscriptions = get_relname_relid("subscriptions", store->schema);
	}
	if (!OidIsValid(marker) || !OidIsValid(store->events) || !OidIsValid(store->sequence))
	{
		store->valid = false;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event store \"%s\" does not exist", name),
				 OidIsValid(store->schema) ?
				 errdetail("Schema \"%s\" exists, but does not hold a store's tables.", name) : 0,
				 errhint("Create it with SELECT es_create_store(%s), or name another store in the setting eventsourcing.store.",
						 quote_literal_cstr(name))));
	}

	layout = read_layout(marker);
	if (layout != ES_STORE_LAYOUT)
	{
		store->valid = false;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" has a layout that this version of eventsourcing does not know", name),
				 errdetail("The store has layout %d, the library works with layout %d.",
						   layout, ES_STORE_LAYOUT),
				 layout < ES_STORE_LAYOUT ?
				 errhint("Migrate it with SELECT es_upgrade_store(%s).", quote_literal_cstr(name)) :
				 errhint("Install the newer version of the extension that made this store.")));
	}
	store->owner = relation_owner(store->events);
}

/*
 * Returns the store of that name with its relations looked up; the entry lives
 * as long as the backend.  Raises 42704 where there is no such store, 55000 for
 * a layout that we don't know.
 */
EsStore *
es_store_named(const char *name)
{
	NameData	key;
	EsStore    *store;
	bool		found;

	namestrcpy(&key, name);
	store = hash_search(stores, NameStr(key), HASH_ENTER, &found);
	if (!found)
		memset((char *) store + NAMEDATALEN, 0, sizeof(EsStore) - NAMEDATALEN);
	if (!store->valid)
		look_up(store);
	return store;
}

/*
 * Returns the store that the setting eventsourcing.store names; otherwise the
 * same.
 */
EsStore *
es_store_current(void)
{
	if (current == NULL || !current->valid ||
		strcmp(NameStr(current->name), es_guc_store) != 0)
		current = es_store_named(es_guc_store);
	return current;
}

/*
 * Returns the events table of the store that the setting names, or InvalidOid:
 * for the planner, which must not raise.
 */
Oid
es_store_events_or_none(void)
{
	Oid			schema = get_namespace_oid(es_guc_store, true);

	return OidIsValid(schema) ? get_relname_relid("events", schema) : InvalidOid;
}

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
 * Returns the saved plan of a query over the store's relations, made when it
 * is first asked for.  To be called between SPI_connect() and SPI_finish().
 */
SPIPlanPtr
es_store_plan(EsStore *store, const EsQuery *query)
{
	PlanKey		key;
	PlanEntry  *entry;
	SPIPlanPtr	plan;

	memset(&key, 0, sizeof(key));
	key.store = store;
	key.query = query;
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->plan;

	plan = SPI_prepare(es_store_expand(store, query->sql), query->nargs,
					   (Oid *) query->argtypes);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	entry = hash_search(plans, &key, HASH_ENTER, NULL);
	entry->plan = plan;
	return plan;
}

/*
 * Raises 42501 unless the caller owns the store.
 */
void
es_store_check_owner(EsStore *store)
{
	if (!object_ownercheck(RelationRelationId, store->events, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of event store \"%s\"", NameStr(store->name)),
				 errhint("What a store runs, it runs with its owner's rights, so only the owner, role \"%s\", may define it.",
						 GetUserNameFromId(store->owner, true))));
}

static uint64
run_as_owner(EsStore *store, const EsQuery *query, Datum *values,
			 const char *nulls, Snapshot snapshot, bool read_only)
{
	Oid			save_userid;
	int			save_sec_context;
	int			rc;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(store->owner,
						   save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	rc = SPI_execute_snapshot(es_store_plan(store, query), values, nulls,
							  snapshot, InvalidSnapshot, read_only, true, 0);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

/*
 * Runs a query on the store's bookkeeping, as its owner, whose right it is: the
 * caller has been checked and has no rights on those tables.  Returns the
 * number of rows; a result is in SPI_tuptable.  Between SPI_connect() and
 * SPI_finish().
 */
uint64
es_store_execute(EsStore *store, const EsQuery *query, Datum *values,
				 const char *nulls)
{
	return run_as_owner(store, query, values, nulls, InvalidSnapshot, false);
}

/*
 * The same for a SELECT that sees all that is committed by now, whatever the
 * caller's isolation level: what a lock that was waited for stands for.
 */
uint64
es_store_select_latest(EsStore *store, const EsQuery *query, Datum *values,
					   const char *nulls)
{
	/* our own earlier changes, too */
	CommandCounterIncrement();
	return run_as_owner(store, query, values, nulls, GetLatestSnapshot(), true);
}

/*
 * The same for a SELECT that may have to see what the calling statement sees,
 * and not what a new one would.
 */
uint64
es_store_select(EsStore *store, const EsQuery *query, Datum *values,
				const char *nulls, bool as_statement)
{
	return run_as_owner(store, query, values, nulls, InvalidSnapshot, as_statement);
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
 * es_definition_changed(): the row trigger on tables of definitions that tells
 * every backend that one of them changed.  ENABLE ALWAYS, so it also speaks up
 * when logical replication or a data-only restore brings the row.
 */
Datum
es_definition_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("es_definition_changed() can only be called as a trigger")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}
