/*-------------------------------------------------------------------------
 *
 * fence.c
 *		What a projection must not do while it runs.
 *
 * A script's own statements are inspected when the projection is created, but
 * not those of the functions that it calls, nor those of triggers.  So while a
 * projection runs, no statement at all may write to the store's own tables, its
 * shadows apart, and no utility command may do more than look: a projection does
 * nothing that a rebuild could not do again.
 *
 * This is no matter of rights.  The script runs with the owner's, who could do
 * it himself; but then by what he says, and not by an event that somebody
 * appends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "executor/executor.h"
#include "fence.h"
#include "script.h"
#include "shadow.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

static ExecutorCheckPerms_hook_type next_check = NULL;
static ProcessUtility_hook_type next_utility = NULL;

static bool
writes(const RTEPermissionInfo *permission)
{
	/* UPDATE without columns is SELECT FOR UPDATE, or a foreign key's look */
	return (permission->requiredPerms & (ACL_INSERT | ACL_DELETE)) != 0 ||
		((permission->requiredPerms & ACL_UPDATE) != 0 &&
		 permission->updatedCols != NULL);
}

/*
 * At the start of every statement: an ExecutorCheckPerms hook.
 */
static bool
check_statement(CHECK_PERMS_PARAMETERS(permissions))
{
	const char *name;
	EsStore    *store = es_script_projection(&name);
	ListCell   *lc;

	foreach(lc, store != NULL ? permissions : NIL)
	{
		RTEPermissionInfo *permission = lfirst(lc);

		if (!OidIsValid(permission->relid) || !writes(permission) ||
			get_rel_namespace(permission->relid) != store->schema ||
			es_shadow_is(permission->relid))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("projection \"%s\" must not change \"%s.%s\", which belongs to the event store",
						name, NameStr(store->name), get_rel_name(permission->relid)),
				 errhint("What a projection changes are its tables. React to events with a handler.")));
	}
	return next_check == NULL || next_check(CHECK_PERMS_ARGUMENTS(permissions));
}

/*
 * The same for what goes past the planner.
 */
static void
check_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	const char *name;

	if (es_script_projection(&name) != NULL)
	{
		switch (nodeTag(pstmt->utilityStmt))
		{
			case T_CallStmt:
			case T_ClosePortalStmt:
			case T_DeclareCursorStmt:
			case T_DoStmt:
			case T_ExplainStmt:
			case T_FetchStmt:
			case T_VariableSetStmt:
			case T_VariableShowStmt:
				break;
			default:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("projection \"%s\" must not run %s", name,
								GetCommandTagName(CreateCommandTag(pstmt->utilityStmt))),
						 errhint("Use SELECT, INSERT, UPDATE, DELETE and MERGE, also in the functions that the script calls.")));
		}
	}
	(next_utility != NULL ? next_utility : standard_ProcessUtility)
		(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
}

/*
 * Sets up the hooks.  Called once, when the library is loaded.
 */
void
es_fence_init(void)
{
	next_check = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_statement;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = check_utility;
}
