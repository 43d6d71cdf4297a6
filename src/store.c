/*-------------------------------------------------------------------------
 *
 * store.c
 *		Finding the store that a call works on.
 *
 * A backend keeps one EsStore per store name, for ever: others may hold
 * pointers to it.  Invalidation only clears its valid flag; es_store_current()
 * looks its relations up again.
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
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "fmgr.h"
#include "guc.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "waitpoint.h"

/*
 * What the code takes for granted of the tables that it reads: these columns,
 * of these types, and not null where it says so.  A store's owner can alter his
 * tables, or make tables of these names by hand, and a datum of another type
 * than expected would be a wild pointer.
 */
typedef struct Column
{
	const char *name;
	Oid			type;
	bool		not_null;
} Column;

typedef struct Table
{
	const char *name;
	Column		columns[14];
} Table;

static const Table tables[] = {
	/* these two first: see look_up() */
	{"store", {
			{"layout", INT4OID, true}
	}},
	{"events", {
			{"position", INT8OID, true},
			{"version", INT8OID, true},
			{"recorded_at", TIMESTAMPTZOID, true},
			{"stream", TEXTOID, true},
			{"type", TEXTOID, true},
			{"data", JSONBOID, true},
			{"metadata", JSONBOID, false},
			{"event_id", UUIDOID, false},
			{"tags", TEXTARRAYOID, false}
	}},
	{"aggregates", {
			{"apply", TEXTOID, false},
			{"rules", JSONBOID, false},
			{"initial", JSONBOID, true},
			{"snapshot_every", INT4OID, true},
			{"snapshots_kept", INT4OID, true},
			{"code_version", INT4OID, true},
			{"search_path", TEXTOID, true}
	}},
	{"deciders", {
			{"decide", TEXTOID, true},
			{"search_path", TEXTOID, true}
	}},
	{"deliveries", {
			{"subscription", TEXTOID, true},
			{"stream", TEXTOID, true},
			{"position", INT8OID, true},
			{"attempts", INT4OID, true},
			{"company", CHAROID, true}
	}},
	{"handlers", {
			{"name", TEXTOID, true},
			{"script", TEXTOID, true},
			{"search_path", TEXTOID, true}
	}},
	{"leases", {
			{"subscription", TEXTOID, true},
			{"position", INT8OID, true},
			{"consumer", TEXTOID, true},
			{"positions", INT8ARRAYOID, true},
			{"streams", INT8ARRAYOID, true},
			{"attempts", INT4ARRAYOID, false}
	}},
	{"projection_cursors", {
			{"position", INT8OID, true},
			{"failures", INT4OID, true}
	}},
	{"projection_definitions", {
			{"name", TEXTOID, true},
			{"mode", TEXTOID, true},
			{"granularity", TEXTOID, true},
			{"state", TEXTOID, true},
			{"script", TEXTOID, true},
			{"search_path", TEXTOID, true},
			{"tables", REGCLASSARRAYOID, true},
			{"types", TEXTARRAYOID, false},
			{"next_script", TEXTOID, false},
			{"next_search_path", TEXTOID, false},
			{"next_granularity", TEXTOID, false},
			{"next_types", TEXTARRAYOID, false}
	}},
	{"rebuilds", {
			{"projection", TEXTOID, true}
	}},
	{"renamed_types", {
			{"old_type", TEXTOID, true},
			{"new_type", TEXTOID, true}
	}},
	{"snapshots", {
			{"stream", TEXTOID, true},
			{"version", INT8OID, true},
			{"state", JSONBOID, true},
			{"recorded_at", TIMESTAMPTZOID, true},
			{"fingerprint", BYTEAOID, true}
	}},
	{"subscription_cursors", {
			{"taken", INT8OID, true},
			{"max_attempts", INT4OID, true},
			{"backoff", INTERVALOID, true},
			{"max_backoff", INTERVALOID, true},
			{"category", TEXTOID, false},
			{"types", TEXTARRAYOID, false},
			{"tags", TEXTARRAYOID, false},
			{"role", NAMEOID, true}
	}},
	{"timers", {
			{"key", TEXTOID, true},
			{"due", TIMESTAMPTZOID, true},
			{"stream", TEXTOID, true},
			{"type", TEXTOID, true},
			{"data", JSONBOID, true},
			{"metadata", JSONBOID, false},
			{"role", NAMEOID, true},
			{"schema", INT4OID, true},
			{"attempts", INT4OID, true}
	}},
	{"upcasters", {
			{"type", TEXTOID, true},
			{"from_schema", INT4OID, true},
			{"function", TEXTOID, true},
			{"search_path", TEXTOID, true}
	}},
	{"watermark", {
			{"position", INT8OID, true}
	}}
};

StaticAssertDecl(lengthof(tables) == ES_STORE_TABLES,
				 "every table has its place in EsStore");

static HTAB *stores = NULL;
static EsStore *current = NULL;

/*
 * The epoch given last.  Of all entries together: a schema may be renamed, and then
 * a table is met under two of them.
 */
static uint64 last_epoch = 0;

PG_FUNCTION_INFO_V1(es_current_store);
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
		if (!OidIsValid(relid) || relid == store->sequence)
			store->valid = false;
		for (int i = 0; i < ES_STORE_TABLES; i++)
		{
			if (relid == store->tables[i])
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

	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, schema_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, schema_changed, (Datum) 0);
}

/*
 * The layout number in a store's one-row table "store".  Read below SQL: the
 * caller may have no right on the table, and needs none.  False if another
 * session dropped the table while we waited for it.
 */
static bool
read_layout(Oid relid, int *layout)
{
	Relation	rel = try_table_open(relid, AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	AttrNumber	attnum;

	*layout = 0;
	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	attnum = get_attnum(relid, "layout");
	if (HeapTupleIsValid(tuple) && attnum != InvalidAttrNumber)
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

		if (!isnull)
			*layout = DatumGetInt32(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return true;
}

/*
 * Whether a subscription brings rows into the table, or a partition of it.
 */
static bool
is_subscribed(Oid relid)
{
	Relation	rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		ScanKeyData key;
		SysScanDesc scan;

		ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(lfirst_oid(lc)));
		scan = systable_beginscan(rel, SubscriptionRelSrrelidSrsubidIndexId, true, NULL, 1, &key);
		found = found || HeapTupleIsValid(systable_getnext(scan));
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The relation's owner, or InvalidOid if another session dropped it.
 */
static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static Oid
schema_owner(Oid schema)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Raises 42501 where a part of the store belongs to a role that could not act as
 * the store's owner anyway.  What the code does to the store's relations it
 * does with the owner's rights, and so would the triggers and policies of
 * whoever else owned one of them, or could put his own in its place.  A part
 * that is gone by now, without an owner, has the whole looked up again.
 */
static void
check_part_owner(EsStore *store, Oid role, const char *part)
{
	if (!OidIsValid(role))
	{
		store->valid = false;
		return;
	}
	if (role == store->owner || has_privs_of_role(role, store->owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("event store \"%s\" does not wholly belong to its owner",
					NameStr(store->name)),
			 errdetail("The events belong to role \"%s\", but %s belongs to role \"%s\".",
					   GetUserNameFromId(store->owner, true), part,
					   GetUserNameFromId(role, true)),
			 errhint("Give the schema of a store and all that is in it to one role.")));
}

/*
 * Raises 55000 unless the relation is a table with the columns that the code
 * reads from it.
 */
static void
check_table(EsStore *store, const Table *table, Oid relid)
{
	HeapTuple	tuple;
	char		kind = get_rel_relkind(relid);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" is missing", NameStr(store->name), table->name),
				 errhint("Restore it from a backup.")));
	/* the log alone may have partitions: others are read below SQL, too */
	if (kind != RELKIND_RELATION &&
		(kind != RELKIND_PARTITIONED_TABLE || relid != store->events))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s.%s\" is not a table", NameStr(store->name), table->name),
				 errhint("The tables of a store are made by es_create_store(), and by nobody else.")));

	for (const Column *column = table->columns; column->name != NULL; column++)
	{
		AttrNumber	attnum = get_attnum(relid, column->name);
		Form_pg_attribute att;
		bool		fits;

		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
		if (!HeapTupleIsValid(tuple))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of \"%s.%s\" is missing",
							column->name, NameStr(store->name), table->name),
					 errhint("The tables of a store may get further columns, but keep those that es_create_store() made.")));
		att = (Form_pg_attribute) GETSTRUCT(tuple);
		fits = att->atttypid == column->type && (att->attnotnull || !column->not_null);
		ReleaseSysCache(tuple);
		if (!fits)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of \"%s.%s\" was altered",
							column->name, NameStr(store->name), table->name),
					 errdetail("It has to be of type %s%s.", format_type_be(column->type),
							   column->not_null ? " and NOT NULL" : ""),
					 errhint("The tables of a store may get further columns, but keep those that es_create_store() made.")));
	}
}

/*
 * Fills a store's entry from the catalogs, or raises that there is no such
 * store.  The entry is not valid afterwards if the store was dropped meanwhile,
 * or a part of it; then this is to be done again.
 */
static void
look_up(EsStore *store)
{
	const char *name = NameStr(store->name);
	Oid			before = store->events;
	Oid			marker;
	int			layout;

	memset(store->tables, 0, sizeof(store->tables));
	store->sequence = InvalidOid;
	store->schema = get_namespace_oid(name, true);
	if (OidIsValid(store->schema))
	{
		for (int i = 0; i < ES_STORE_TABLES; i++)
			store->tables[i] = get_relname_relid(tables[i].name, store->schema);
		store->sequence = get_relname_relid("events_position_seq", store->schema);
		store->subscriptions = get_relname_relid("subscriptions", store->schema);
	}
	marker = store->tables[0];
	store->events = store->tables[1];
	if (store->events != before)
		store->last_appended = 0;
	if (OidIsValid(marker) && OidIsValid(store->events))
	{
		/*
		 * From here on nobody can drop the store; waiting for the lock has
		 * cleared the flag if somebody did.
		 */
		ES_WAIT_POINT("store: named");
		LockRelationOid(store->events, AccessShareLock);
		if (!store->valid)
			return;
	}
	if (!OidIsValid(marker) || !OidIsValid(store->events) ||
		get_rel_relkind(store->sequence) != RELKIND_SEQUENCE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event store \"%s\" does not exist", name),
				 OidIsValid(store->schema) ?
				 errdetail("Schema \"%s\" exists, but does not hold a store's tables.", name) : 0,
				 name[0] == '\0' || IsReservedName(name) ?
				 errhint("Name a store in the setting eventsourcing.store; a store's name is its schema's.") :
				 errhint("Create it with SELECT es_create_store(%s), or name another store in the setting eventsourcing.store.",
						 quote_literal_cstr(name))));

	store->owner = relation_owner(store->events);
	check_part_owner(store, schema_owner(store->schema), "the schema");
	check_part_owner(store, relation_owner(store->sequence), "the sequence of positions");
	if (OidIsValid(store->subscriptions))
		check_part_owner(store, relation_owner(store->subscriptions), "view \"subscriptions\"");
	for (int i = 0; i < ES_STORE_TABLES; i++)
	{
		if (OidIsValid(store->tables[i]))
			check_part_owner(store, relation_owner(store->tables[i]),
							 psprintf("table \"%s\"", tables[i].name));
	}
	if (!store->valid)
		return;

	/* an older layout may well have other columns */
	check_table(store, &tables[0], marker);
	if (!read_layout(marker, &layout))
	{
		store->valid = false;
		return;
	}
	if (layout != ES_STORE_LAYOUT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" has a layout that this version of eventsourcing does not know", name),
				 errdetail("The store has layout %d, the library works with layout %d.",
						   layout, ES_STORE_LAYOUT),
				 layout < ES_STORE_LAYOUT ?
				 errhint("Migrate it with SELECT es_upgrade_store(%s).", quote_literal_cstr(name)) :
				 errhint("Install the newer version of the extension that made this store.")));
	for (int i = 1; i < ES_STORE_TABLES; i++)
		check_table(store, &tables[i], store->tables[i]);
	store->subscribed = is_subscribed(store->events);
}

/*
 * Looks the store up again, unless nothing has changed since that was last
 * done.  Raises what es_store_named() does.
 */
void
es_store_validate(EsStore *store)
{
	while (!store->valid)
	{
		CHECK_FOR_INTERRUPTS();

		/* an invalidation that arrives while we look clears the flag again */
		store->valid = true;
		store->epoch = ++last_epoch;
		PG_TRY();
		{
			look_up(store);
		}
		PG_CATCH();
		{
			store->valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
}

/*
 * Looks the store up and locks its events, which is what brings news of other
 * sessions' changes, and what keeps them from making more.
 */
static EsStore *
lock(EsStore *store, LOCKMODE lockmode)
{
	/* a lock that we have already would bring none */
	AcceptInvalidationMessages();
	do
	{
		es_store_validate(store);
		LockRelationOid(store->events, lockmode);
	} while (!store->valid);
	return store;
}

/*
 * Returns the entry of the store of that name, which lives as long as the
 * backend.
 */
static EsStore *
enter(const char *name)
{
	NameData	key = {0};
	EsStore    *store;
	bool		found;

	/* a name that is too long is cut, as everywhere in SQL */
	memcpy(NameStr(key), name, pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1));
	store = hash_search(stores, NameStr(key), HASH_ENTER, &found);
	if (!found)
		memset((char *) store + NAMEDATALEN, 0, sizeof(EsStore) - NAMEDATALEN);
	return store;
}

/*
 * Returns the store of that name with its relations looked up; the entry lives
 * as long as the backend.  Raises 42704 where there is no such store, 55000 for
 * a layout that we don't know.
 */
EsStore *
es_store_named(const char *name)
{
	return lock(enter(name), AccessShareLock);
}

/*
 * Returns the store that the setting eventsourcing.store names; otherwise the
 * same.
 */
EsStore *
es_store_current(void)
{
	return es_store_current_for(AccessShareLock);
}

/*
 * The same, for who is going to take that lock on the events anyway.
 */
EsStore *
es_store_current_for(LOCKMODE lockmode)
{
	if (current == NULL || strcmp(NameStr(current->name), es_guc_store) != 0)
		current = enter(es_guc_store);
	return lock(current, lockmode);
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

/*
 * Raises 42501 where the caller may read none of the events.  How much of them he
 * may read, by rights on columns and row security, is left to PostgreSQL.
 */
void
es_store_check_reader(EsStore *store)
{
	Oid			user = GetUserId();

	if (object_aclcheck(NamespaceRelationId, store->schema, user, ACL_USAGE) == ACLCHECK_OK &&
		(pg_class_aclcheck(store->events, user, ACL_SELECT) == ACLCHECK_OK ||
		 pg_attribute_aclcheck_all(store->events, user, ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read event store \"%s\"", NameStr(store->name)),
			 errhint("The store's owner can allow it: SELECT es_grant(%s, 'reader').",
					 quote_literal_cstr(GetUserNameFromId(user, false)))));
}

/*
 * es_current_store(): what eventsourcing.store says.  For functions in SQL:
 * current_setting() would not know the setting in a session that has not
 * loaded the library yet.
 */
Datum
es_current_store(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(namein, CStringGetDatum(es_guc_store));
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
