/*-------------------------------------------------------------------------
 *
 * guard.c
 *		The append-only triggers of the events table.
 *
 * The rule: a row gets into the events table through the log module, and
 * never changes or leaves.  Statement triggers enforce it for every role, the
 * owner and superusers included.
 *
 * The log announces the one INSERT it is about to run with es_guard_admit();
 * the trigger admits one statement and closes the door again, so that an
 * INSERT from a user's own trigger on the table is refused like any other.
 * Where the log inserts past the executor, the trigger is not fired at all.
 *
 * The INSERT trigger fires in the replication role "origin" only: a logical
 * subscriber and a data-only restore with triggers disabled can load rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "errors.h"
#include "fmgr.h"
#include "guard.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* the events table that the next INSERT statement may write, or InvalidOid */
static Oid	admitted = InvalidOid;

PG_FUNCTION_INFO_V1(es_guard);

/*
 * Lets the next INSERT statement into the events table pass, and returns what
 * was admitted before, for es_guard_close().
 */
Oid
es_guard_admit(Oid events)
{
	Oid			before = admitted;

	admitted = events;
	return before;
}

/*
 * Withdraws what es_guard_admit() gave.  To be called however the statement
 * ended: one that failed before it reached its trigger must not leave the door
 * open.  What was admitted before is so again, for an INSERT whose own trigger,
 * ahead of the guard, appended something.
 */
void
es_guard_close(Oid before)
{
	admitted = before;
}

/*
 * es_guard(): the statement trigger.  Raises ZE005 for anything but the INSERT
 * that was admitted.
 */
Datum
es_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation	rel;
	const char *command;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("es_guard() can only be called as a trigger")));

	rel = trigdata->tg_relation;
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		if (admitted == RelationGetRelid(rel))
		{
			admitted = InvalidOid;
			return PointerGetDatum(NULL);
		}
		command = "INSERT";
	}
	else if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		command = "UPDATE";
	else if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		command = "DELETE";
	else
		command = "TRUNCATE";

	ereport(ERROR,
			(errcode(ERRCODE_ES_APPEND_ONLY),
			 errmsg("%s on \"%s.%s\" is refused: the log of events is append-only",
					command,
					get_namespace_name(RelationGetNamespace(rel)),
					RelationGetRelationName(rel)),
			 strcmp(command, "INSERT") == 0 ?
			 errhint("Append with es_append() or es_append_events(), which check the version and keep the order.") :
			 errhint("An event is a fact that has happened: append another one that corrects it.")));
}
