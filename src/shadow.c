/*-------------------------------------------------------------------------
 *
 * shadow.c
 *		Filling copies of read models instead of the read models.
 *
 * A rebuild runs the projection's script as it is, but everything that is
 * planned while it runs has the projection's tables replaced by their shadows:
 * by OID, in the planner, after names have been resolved, defaults filled in and
 * views expanded.  So it does not matter how the script calls its tables, nor
 * whether it is the script itself that uses them, or a function that it calls, a
 * view or a trigger.
 *
 * The rule: while scripts are redirected, no statement writes to any permanent
 * table but a shadow, and no plan crosses the border: plans that were made
 * before are dropped when redirection begins, and those that it made when it
 * ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "compat.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "shadow.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

/* what the statements being run are redirected to; NULL: they are not */
static EsShadows *active = NULL;

/* whether a query is being planned whose tables are replaced */
static bool planning = false;

static planner_hook_type next_planner = NULL;
static needs_fmgr_hook_type next_needs_hook = NULL;

/*
 * Returns the shadow of a table or of an index of one, or InvalidOid.
 */
Oid
es_shadow_of(const EsShadows *shadows, Oid relid)
{
	return get_relname_relid(psprintf("%s%u", shadows->prefix, relid),
							 shadows->store->schema);
}

static Oid
redirected(Oid relid)
{
	for (int i = 0; i < active->count; i++)
	{
		if (active->tables[i] == relid)
			return active->shadows[i];
	}
	return relid;
}

/*
 * Whether a table is a shadow that is being filled.
 */
bool
es_shadow_is(Oid relid)
{
	for (int i = 0; active != NULL && i < active->count; i++)
	{
		if (active->shadows[i] == relid)
			return true;
	}
	return false;
}

/*
 * Redirects ON CONFLICT ON CONSTRAINT.
 */
static void
redirect_constraint(OnConflictExpr *expr, Oid shadow)
{
	Oid			index = get_constraint_index(expr->constraint);
	Oid			constraint = get_relation_constraint_oid(shadow,
														 psprintf("%s%u", active->prefix, index),
														 true);

	if (OidIsValid(constraint))
		expr->constraint = constraint;
}

static bool
redirect_walker(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
			Oid			shadow;

			if (rte->rtekind != RTE_RELATION)
				continue;
			shadow = redirected(rte->relid);
			if (shadow == rte->relid)
				continue;
			LockRelationOid(shadow, rte->rellockmode);
			rte->relid = shadow;
		}
		foreach(lc, QUERY_PERMISSIONS(query))
		{
			RTEPermissionInfo *permission = lfirst(lc);

			permission->relid = redirected(permission->relid);
		}
		if (query->commandType != CMD_SELECT && query->resultRelation > 0)
		{
			Oid			target = rt_fetch(query->resultRelation, query->rtable)->relid;

			if (!es_shadow_is(target) &&
				get_rel_persistence(target) != RELPERSISTENCE_TEMP)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("projection \"%s\" changes \"%s\", which is not one of its tables",
								active->projection, get_rel_name(target)),
						 errdetail("Running it over the history again would change that table again."),
						 errhint("Drop the projection, and create it with this table among its tables.")));
			if (query->onConflict != NULL && OidIsValid(query->onConflict->constraint))
				redirect_constraint(query->onConflict, target);
		}
		return query_tree_walker(query, redirect_walker, arg, 0);
	}
	return expression_tree_walker(node, redirect_walker, arg);
}

static PlannedStmt *
plan_next(Query *query, const char *query_string, int options, ParamListInfo params)
{
	return (next_planner != NULL ? next_planner : standard_planner)
		(query, query_string, options, params);
}

/*
 * A planner hook.  While scripts are redirected, the planner must not put the body
 * of an SQL function into a query, where we would not see its tables: called, it
 * is planned by itself.  Nor may a parallel worker run any of it: what it plans
 * for the functions that it calls, it plans without us.
 */
static PlannedStmt *
plan(Query *query, const char *query_string, int options, ParamListInfo params)
{
	bool		outer = planning;
	PlannedStmt *result;

	es_projection_check_query(query, query_string);
	if (active == NULL)
		return plan_next(query, query_string, options, params);

	(void) redirect_walker((Node *) query, NULL);
	PG_TRY();
	{
		planning = true;
		result = plan_next(query, query_string, options & ~CURSOR_OPT_PARALLEL_OK, params);
	}
	PG_FINALLY();
	{
		planning = outer;
	}
	PG_END_TRY();
	return result;
}

/*
 * Whether a function has to be called as such: one that returns rows, as its body
 * may read tables.  What is computed in place of others has none.
 */
static bool
needs_hook(Oid function)
{
	return (planning && get_func_retset(function)) ||
		(next_needs_hook != NULL && next_needs_hook(function));
}

/*
 * Sets up the hooks.  Called once, when the library is loaded.
 */
void
es_shadow_init(void)
{
	next_planner = planner_hook;
	planner_hook = plan;
	next_needs_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_hook;
}

/*
 * Whether rows of one table can be read as rows of the other.
 */
static bool
same_layout(TupleDesc a, TupleDesc b)
{
	if (a->natts != b->natts)
		return false;
	for (int i = 0; i < a->natts; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		if (x->attisdropped != y->attisdropped)
			return false;
		if (x->attisdropped)
			continue;
		if (strcmp(NameStr(x->attname), NameStr(y->attname)) != 0 ||
			x->atttypid != y->atttypid || x->atttypmod != y->atttypmod ||
			x->attcollation != y->attcollation || x->attnotnull != y->attnotnull ||
			x->attgenerated != y->attgenerated)
			return false;
	}
	return true;
}

/*
 * Returns the shadows of a projection's tables; both stay locked against changes
 * of their layout to the end of the transaction.  Raises 55000 where a table was
 * changed after its shadow was made, 42501 where it is not the owner's any more:
 * what the definition says was checked when it was created, and can have been
 * written by hand since.
 */
EsShadows *
es_shadow_open(EsStore *store, const EsProjection *projection, const char *prefix)
{
	EsShadows  *shadows = palloc0(sizeof(EsShadows));

	shadows->store = store;
	shadows->projection = projection->name;
	shadows->prefix = prefix;
	shadows->count = ArrayGetNItems(ARR_NDIM(projection->tables), ARR_DIMS(projection->tables));
	shadows->tables = (Oid *) ARR_DATA_PTR(projection->tables);
	shadows->shadows = palloc(shadows->count * sizeof(Oid));
	for (int i = 0; i < shadows->count; i++)
	{
		Relation	table = try_table_open(shadows->tables[i], AccessShareLock);
		Relation	shadow = NULL;
		bool		fits = false;

		shadows->shadows[i] = es_shadow_of(shadows, shadows->tables[i]);
		if (table != NULL && OidIsValid(shadows->shadows[i]))
		{
			shadow = try_table_open(shadows->shadows[i], AccessShareLock);
			fits = shadow != NULL &&
				same_layout(RelationGetDescr(table), RelationGetDescr(shadow));
			if (shadow != NULL)
				table_close(shadow, NoLock);
			es_projection_check_table(store, shadows->tables[i]);
		}
		if (table != NULL)
			table_close(table, NoLock);
		if (!fits)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a table of projection \"%s\" was changed while it was being rebuilt",
							projection->name),
					 errhint("Call es_rebuild() again.")));
	}
	return shadows;
}

/*
 * Returns a projection's tables as an SQL expression of type regclass[].
 */
char *
es_shadow_list(const EsProjection *projection)
{
	StringInfoData list;
	Oid		   *tables = (Oid *) ARR_DATA_PTR(projection->tables);

	initStringInfo(&list);
	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(projection->tables), ARR_DIMS(projection->tables)); i++)
		appendStringInfo(&list, "%s%u", i > 0 ? "," : "", tables[i]);
	return psprintf("'{%s}'::pg_catalog.regclass[]", list.data);
}

/*
 * Runs the events of a slice with the projection's tables redirected to their
 * shadows.
 */
void
es_shadow_run(EsShadows *shadows, EsSlice *slice)
{
	ResetPlanCache();
	PG_TRY();
	{
		active = shadows;
		es_slice_run(slice, slice->batch->nevents);
	}
	PG_FINALLY();
	{
		active = NULL;
		ResetPlanCache();
	}
	PG_END_TRY();
}
