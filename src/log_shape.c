/*-------------------------------------------------------------------------
 *
 * log_shape.c
 *		Whether the events table is one that the direct way understands.
 *
 * The rule: the direct way is taken only where an INSERT or a SELECT by way of
 * the executor would do exactly what it does.  That is a plain heap with the
 * columns, constraints and indexes that es_create_store() gave it, no rules, no
 * partitions, no triggers on INSERT but the guard and AFTER STATEMENT ones, for a
 * caller with rights on the whole table to whom no row security applies.
 * Further indexes are fine, the executor's own code fills them.  Everything
 * else, and everything that is not recognised, goes the other way.
 *
 * What does not depend on the caller is looked at once and holds until the
 * store's epoch moves on: every such change of a table sends an invalidation of
 * its relcache entry.  The table is locked before the answer is asked for, so
 * no change can come between the answer and its use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "guard.h"
#include "guc.h"
#include "log_heap.h"
#include "miscadmin.h"
#include "projection.h"
#include "nodes/primnodes.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"

typedef struct Column
{
	const char *name;
	Oid			type;
	Oid			collation;
	bool		nullable;
} Column;

static const Column columns[ES_LOG_NATTS] = {
	[ES_LOG_POSITION] = {"position", INT8OID, InvalidOid, false},
	[ES_LOG_VERSION] = {"version", INT8OID, InvalidOid, false},
	[ES_LOG_RECORDED_AT] = {"recorded_at", TIMESTAMPTZOID, InvalidOid, false},
	[ES_LOG_STREAM] = {"stream", TEXTOID, C_COLLATION_OID, false},
	[ES_LOG_TYPE] = {"type", TEXTOID, C_COLLATION_OID, false},
	[ES_LOG_DATA] = {"data", JSONBOID, InvalidOid, false},
	[ES_LOG_METADATA] = {"metadata", JSONBOID, InvalidOid, true},
	[ES_LOG_EVENT_ID] = {"event_id", UUIDOID, InvalidOid, true},
	[ES_LOG_TAGS] = {"tags", TEXTARRAYOID, C_COLLATION_OID, true}
};

const		EsLogIndexKeys es_log_index_keys[ES_LOG_NINDEXES] = {
	[ES_LOG_BY_VERSION] = {2, {ES_LOG_STREAM, ES_LOG_VERSION}},
	[ES_LOG_BY_EVENT_ID] = {2, {ES_LOG_STREAM, ES_LOG_EVENT_ID}},
	[ES_LOG_BY_POSITION] = {1, {ES_LOG_POSITION}}
};

/*
 * Returns what is wrong with the columns, or NULL.
 */
static const char *
check_columns(TupleDesc desc)
{
	if (desc->natts != ES_LOG_NATTS)
		return "it has other columns";
	for (int i = 0; i < ES_LOG_NATTS; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const Column *column = &columns[i];

		if (att->attisdropped || strcmp(NameStr(att->attname), column->name) != 0 ||
			att->atttypid != column->type || att->attcollation != column->collation)
			return "it has other columns";
		if (att->attnotnull && column->nullable)
			return "it has a NOT NULL constraint of its own";
		if (att->attgenerated != '\0' || att->attidentity != '\0')
			return "it has a generated column";
	}
	if (desc->constr != NULL && desc->constr->num_check > 0)
		return "it has a CHECK constraint";
	return NULL;
}

/*
 * The same for the triggers; notes which there are to fire.
 */
static const char *
check_triggers(TriggerDesc * triggers, EsLogShape * shape)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		FmgrInfo	function;

		fmgr_info(trigger->tgfoid, &function);
		if (TRIGGER_FOR_DELETE(trigger->tgtype) && function.fn_addr == es_guard &&
			trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			shape->guarded = true;
		if (!TRIGGER_FOR_INSERT(trigger->tgtype) ||
			trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype))
			return "it has a row trigger or a foreign key";
		if (TRIGGER_FOR_AFTER(trigger->tgtype))
		{
			if (function.fn_addr == es_project && trigger->tgqual == NULL &&
				shape->projects == 0)
				shape->projects = trigger->tgenabled;
			else
				shape->after_triggers = true;
		}
		else if (function.fn_addr != es_guard)
			return "it has a BEFORE trigger";
	}

	/* several fire in the order of their names */
	if (shape->after_triggers)
		shape->projects = 0;
	return NULL;
}

/*
 * Whether the index has the condition that this column is not null, and no other.
 */
static bool
is_where_not_null(Relation index, AttrNumber attnum)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	NullTest   *test;

	if (list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
		return false;
	test = linitial(predicate);
	return test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
		((Var *) test->arg)->varattno == attnum;
}

/*
 * Whether this is the index of that kind, and fit to be searched.
 */
static bool
is_index(Relation rel, Relation index, EsLogIndex kind)
{
	const		EsLogIndexKeys *keys = &es_log_index_keys[kind];
	AttrNumber	attnums[ES_LOG_MAXKEYS];
	bool		unique = kind != ES_LOG_BY_POSITION;

	for (int i = 0; i < keys->nkeys; i++)
		attnums[i] = keys->columns[i] + 1;
	if (!es_index_is_on(index, RelationGetDescr(rel), keys->nkeys, attnums) ||
		index->rd_index->indisunique != unique || !index->rd_index->indimmediate)
		return false;
	return kind == ES_LOG_BY_EVENT_ID ? is_where_not_null(index, ES_LOG_EVENT_ID + 1) :
		RelationGetIndexPredicate(index) == NIL;
}

/*
 * Finds the indexes that every store has.
 */
static const char *
check_indexes(Relation rel, EsLogShape * shape)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	memset(shape->indexes, 0, sizeof(shape->indexes));
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
		{
			IndexInfo  *info = &shape->index_infos[kind];

			if (OidIsValid(shape->indexes[kind]) || !is_index(rel, index, kind))
				continue;
			shape->indexes[kind] = RelationGetRelid(index);

			/* without what lives in a memory context: we know the condition */
			*info = *BuildIndexInfo(index);
			info->ii_Predicate = NIL;
			info->ii_Context = CacheMemoryContext;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
	{
		if (!OidIsValid(shape->indexes[kind]))
			return "it lacks one of its indexes";
	}
	return NULL;
}

/*
 * Whether the index keeps events with the same key out, be the table of whatever
 * shape.
 */
static bool
keeps_apart(Relation rel, Relation index, EsLogIndex kind)
{
	const		EsLogIndexKeys *keys = &es_log_index_keys[kind];
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisready ||
		form->indnkeyatts != keys->nkeys)
		return false;
	/* in whichever order */
	for (int i = 0; i < keys->nkeys; i++)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), columns[keys->columns[i]].name);

		if (form->indkey.values[0] != attnum && form->indkey.values[1] != attnum)
			return false;
	}
	return RelationGetIndexPredicate(index) == NIL ||
		(kind == ES_LOG_BY_EVENT_ID &&
		 is_where_not_null(index, get_attnum(RelationGetRelid(rel), columns[ES_LOG_EVENT_ID].name)));
}

/*
 * Raises 55000 where nothing keeps two appends from giving one version, or one
 * event id, twice: a unique index is gone, say because a restore could not build
 * it.
 */
void
es_log_check_unique(EsStore *store)
{
	Relation	rel = table_open(store->events, RowExclusiveLock);
	List	   *indexes = RelationGetIndexList(rel);
	bool		kept[ES_LOG_NINDEXES] = {[ES_LOG_BY_POSITION] = true};
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
			kept[kind] = kept[kind] || keeps_apart(rel, index, kind);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	table_close(rel, NoLock);

	for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
	{
		if (!kept[kind])
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s.events\" has no unique index on (stream, %s)",
							NameStr(store->name), columns[es_log_index_keys[kind].columns[1]].name),
					 errdetail("Without it, appends could give one %s twice.",
							   kind == ES_LOG_BY_VERSION ? "version" : "event id"),
					 errhint("Create the index again, as \\d shows it of a new store. SELECT * FROM es_verify() tells what it has let in.")));
	}
}

static const char *
check_table(Relation rel, EsLogShape * shape)
{
	const char *obstacle;
	TriggerDesc *triggers;

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		return "it is not a plain table";
	if (rel->rd_tableam != GetHeapamTableAmRoutine())
		return "it has another table access method";
	if (rel->rd_rel->relispartition || rel->rd_rel->relhassubclass)
		return "it has partitions, or is one";
	if (rel->rd_rel->relhasrules)
		return "it has rules";
	obstacle = check_columns(RelationGetDescr(rel));
	if (obstacle == NULL)
	{
		/* a copy: to look a function up may rebuild the relcache entry */
		triggers = CopyTriggerDesc(rel->trigdesc);
		obstacle = check_triggers(triggers, shape);
		FreeTriggerDesc(triggers);
	}
	if (obstacle == NULL)
		obstacle = check_indexes(rel, shape);
	return obstacle;
}

/*
 * Returns the reason why this caller can't go the direct way, or NULL.
 */
static const char *
find_obstacle(EsStore *store, Relation rel, AclMode right)
{
	EsLogShape *shape = store->shape;

	if (shape == NULL)
	{
		store->shape = shape = MemoryContextAllocZero(CacheMemoryContext, sizeof(EsLogShape));
		shape->epoch = store->epoch - 1;
	}
	if (shape->epoch != store->epoch || !store->valid)
	{
		shape->row_security = rel->rd_rel->relrowsecurity;
		shape->after_triggers = shape->guarded = false;
		shape->projects = 0;
		shape->obstacle = check_table(rel, shape);
		shape->epoch = store->epoch;
	}
	if (shape->obstacle != NULL || right == ACL_NO_RIGHTS)
		return shape->obstacle;

	if (pg_class_aclcheck(store->events, GetUserId(), right) != ACLCHECK_OK ||
		object_aclcheck(NamespaceRelationId, store->schema, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		return "the caller has no right to all of it";
	if (shape->row_security &&
		check_enable_rls(store->events, InvalidOid, true) == RLS_ENABLED)
		return "row security applies to the caller";
	return NULL;
}

/*
 * Returns the events table, open and locked, if this caller can go the direct
 * way into it, or NULL: the other way finds out what there is to complain of.
 * With ACL_NO_RIGHTS the version check asks, which sees every row.
 */
Relation
es_log_heap_open(EsStore *store, LOCKMODE lockmode, AclMode right)
{
	Relation	rel;
	const char *obstacle;

	if (es_guc_log_path == ES_LOG_PATH_SPI)
		return NULL;
	rel = try_table_open(store->events, lockmode);
	if (rel == NULL)
		return NULL;
	obstacle = find_obstacle(store, rel, right);
	if (obstacle == NULL)
		return rel;

	table_close(rel, lockmode);
	if (es_guc_log_path == ES_LOG_PATH_HEAP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the events of store \"%s\" cannot be accessed directly", NameStr(store->name)),
				 errdetail("Of table \"%s.events\": %s.", NameStr(store->name), obstacle),
				 errhint("Set eventsourcing.log_path to \"auto\".")));
	return NULL;
}
