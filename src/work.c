/*-------------------------------------------------------------------------
 *
 * work.c
 *		Work that spans several transactions.
 *
 * A procedure's work is done in transactions of its own, each of which is whole:
 * wherever the process is killed, what was committed stands and the next call
 * goes on from there.  They are READ COMMITTED whatever the session's default,
 * because a limit that is asked for (the safe position) counts only for snapshots
 * that are taken after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "work.h"

/*
 * Ends the current transaction and begins the next.
 */
static void
next_transaction(void)
{
	SPI_commit();
	(void) set_config_option("transaction_isolation", "read committed", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Begins a procedure's work: connects to SPI, and ends the caller's transaction.
 * Returns a memory context that lives to the work's end.  Raises 25001 within a
 * transaction block or a function, which cannot be committed in between.
 */
MemoryContext
es_work_begin(FunctionCallInfo fcinfo, const char *procedure)
{
	MemoryContext caller = CurrentMemoryContext;

	PreventCommandIfReadOnly(procedure);
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block or a function", procedure),
				 errdetail("It commits what it has done as it goes."),
				 errhint("CALL it by itself, or from a procedure or DO block that was not called inside a transaction block.")));
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	next_transaction();
	return AllocSetContextCreate(caller, "eventsourcing work", ALLOCSET_DEFAULT_SIZES);
}

/*
 * Commits what has been done, and frees the memory that it took.
 */
void
es_work_next(MemoryContext work)
{
	MemoryContextReset(work);
	next_transaction();
}

/*
 * Ends the work.  What is not committed yet commits with the CALL.
 */
void
es_work_end(MemoryContext work)
{
	MemoryContextDelete(work);
	SPI_finish();
}
