/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		Keeping one worker alive for each database that wants one.
 *
 * On a standby the launcher waits for the promotion.  It compares the setting eventsourcing.databases with what runs,
 * whenever the settings are read anew, a worker ends, or a while has passed.
 * Whatever keeps a worker from running (no such database, no process left, an
 * error) is one line in the log, and is tried again, less and less often.
 *
 * A worker is connected to its database, and would be in the way of DROP
 * DATABASE and its like: these have the worker stopped first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "guc.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "wake.h"
#include "worker.h"

/* ms: a standby looks after so long whether it is promoted */
#define LOOK_FOR_PROMOTION	500

/* ms: look again; a worker that fails is started again after, doubling up to */
#define LOOK_AGAIN		10000
#define RESTART_FIRST	1000
#define RESTART_MOST	60000

/* ms: a worker that ran for so long had started well */
#define RAN_WELL		30000

/* ms: how long DROP DATABASE and the like may take to get the database */
#define HOLD			5000

/* What the launcher knows of a slot; the rest is in shared memory. */
typedef struct Launched
{
	BackgroundWorkerHandle *handle; /* NULL: not started by us, or ended */
	TimestampTz started_at;
	TimestampTz start_at;		/* not before */
	int			delay;			/* ms, before the next start */
} Launched;

static Launched launched[ES_WAKE_SLOTS];

/* names in the setting for which there is no database, as was logged */
static List *missing = NIL;

/* whether the lack of processes was logged */
static bool exhausted = false;

static ProcessUtility_hook_type prev_process_utility = NULL;

/*
 * Stops the worker of a database that is going to be dropped, renamed, moved or
 * copied by somebody who may.
 */
static void
make_way(const char *name)
{
	Oid			database;

	if (name == NULL)
		return;
	database = get_database_oid(name, true);
	if (OidIsValid(database) &&
		object_ownercheck(DatabaseRelationId, database, GetUserId()))
		es_wake_hold(database, HOLD);
}

static char *
option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;

	if (IsA(statement, DropdbStmt))
		make_way(((DropdbStmt *) statement)->dbname);
	else if (IsA(statement, CreatedbStmt))
		make_way(option_value(((CreatedbStmt *) statement)->options, "template"));
	else if (IsA(statement, AlterDatabaseStmt) &&
			 option_value(((AlterDatabaseStmt *) statement)->options, "tablespace") != NULL)
		make_way(((AlterDatabaseStmt *) statement)->dbname);
	else if (IsA(statement, RenameStmt) &&
			 ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		make_way(((RenameStmt *) statement)->subname);

	if (prev_process_utility)
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params,
							 queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);
}

/*
 * Registers the launcher.  Called once, when the library is loaded; does nothing
 * unless that is at the server's start.
 */
void
es_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "eventsourcing", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "es_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "eventsourcing launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "eventsourcing launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Starts the worker of a slot.
 */
static void
start_worker(int slot, const char *database)
{
	BackgroundWorker worker = {0};
	Launched   *l = &launched[slot];
	MemoryContext oldcontext;
	bool		registered;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "eventsourcing", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "es_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "eventsourcing worker for database \"%s\"", database);
	strlcpy(worker.bgw_type, "eventsourcing worker", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(slot);
	worker.bgw_notify_pid = MyProcPid;

	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &l->handle);
	MemoryContextSwitchTo(oldcontext);
	if (registered)
	{
		l->started_at = GetCurrentTimestamp();
		exhausted = false;
		return;
	}
	l->handle = NULL;
	l->start_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_AGAIN);
	if (!exhausted)
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no process is left for the eventsourcing worker of database \"%s\"", database),
				 errdetail("All of max_worker_processes (%d) are in use.", max_worker_processes),
				 errhint("Raise max_worker_processes and restart the server. Until then the launcher goes on trying, and CALL es_run() does the worker's job.")));
	exhausted = true;
}

/*
 * Notes that the worker of a slot has ended, and when to start it again.
 */
static void
worker_ended(Launched *l)
{
	TimestampTz now = GetCurrentTimestamp();

	pfree(l->handle);
	l->handle = NULL;
	if (TimestampDifferenceExceeds(l->started_at, now, RAN_WELL))
		l->delay = 0;
	l->start_at = TimestampTzPlusMilliseconds(now, l->delay);
	l->delay = l->delay == 0 ? RESTART_FIRST : Min(l->delay * 2, RESTART_MOST);
}

/* A row of pg_database. */
typedef struct Database
{
	Oid			oid;
	char	   *name;
} Database;

/*
 * Returns all databases, allocated in the current memory context.  Reads the
 * table from end to end: a process without a database may have no way to use
 * its indexes.
 */
static List *
find_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext oldcontext;
		Database   *database;

		if (!form->datallowconn)
			continue;
		oldcontext = MemoryContextSwitchTo(context);
		database = palloc(sizeof(Database));
		database->oid = form->oid;
		database->name = pstrdup(NameStr(form->datname));
		databases = lappend(databases, database);
		MemoryContextSwitchTo(oldcontext);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/*
 * Returns the databases that the setting names, allocated in the current memory
 * context.
 */
static List *
wanted_databases(void)
{
	List	   *databases = find_databases();
	List	   *names;
	List	   *result = NIL;
	List	   *still_missing = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(es_guc_databases), ',', &names))
	{
		ereport(LOG,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the setting eventsourcing.databases is not a list of names: \"%s\"", es_guc_databases),
				 errhint("Separate the names by commas; put names with unusual characters into double quotes.")));
		return NIL;
	}

	foreach(lc, names)
	{
		char	   *name = lfirst(lc);
		Database   *found = NULL;
		MemoryContext oldcontext;
		ListCell   *lc2;

		foreach(lc2, databases)
		{
			if (strcmp(((Database *) lfirst(lc2))->name, name) == 0)
				found = lfirst(lc2);
		}
		if (found != NULL)
		{
			result = list_append_unique_ptr(result, found);
			continue;
		}
		if (!list_member(missing, makeString(name)))
			ereport(LOG,
					(errcode(ERRCODE_UNDEFINED_DATABASE),
					 errmsg("database \"%s\" of the setting eventsourcing.databases does not exist, or allows no connections", name),
					 errhint("Create it, or take it out of the setting and reload. A worker for it starts when it is there.")));
		oldcontext = MemoryContextSwitchTo(TopMemoryContext);
		still_missing = lappend(still_missing, makeString(pstrdup(name)));
		MemoryContextSwitchTo(oldcontext);
	}

	foreach(lc, missing)
		pfree(strVal(lfirst(lc)));
	list_free_deep(missing);
	missing = still_missing;
	return result;
}

/*
 * Takes a database out of the list and returns it, NULL if it is not in there.
 */
static Database *
take_database(List **databases, Oid oid)
{
	ListCell   *lc;

	foreach(lc, *databases)
	{
		Database   *database = lfirst(lc);

		if (database->oid == oid)
		{
			*databases = foreach_delete_current(*databases, lc);
			return database;
		}
	}
	return NULL;
}

/*
 * Stops workers that nobody wants any more and starts those that are missing.
 * Returns the ms until there is something to do again.
 */
static long
look(void)
{
	List	   *wanted = wanted_databases();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TimestampTzPlusMilliseconds(now, LOOK_AGAIN);
	ListCell   *lc;

	for (int i = 0; i < ES_WAKE_SLOTS; i++)
	{
		EsWakeSlot	slot = es_wake_get_slot(i);
		Launched   *l = &launched[i];
		Database   *database;
		pid_t		pid;

		if (!OidIsValid(slot.database))
			continue;
		if (l->handle != NULL && GetBackgroundWorkerPid(l->handle, &pid) == BGWH_STOPPED)
			worker_ended(l);
		database = take_database(&wanted, slot.database);
		if (database != NULL)
		{
			if (l->handle == NULL && slot.pid == 0)
			{
				TimestampTz start_at = Max(l->start_at, slot.held_until);

				if (start_at <= now)
					start_worker(i, database->name);
				else
					next = Min(next, start_at);
			}
		}
		else if (l->handle != NULL)
			TerminateBackgroundWorker(l->handle);
		else if (slot.pid != 0)
			(void) kill(slot.pid, SIGTERM); /* an earlier launcher's */
		else
		{
			memset(&slot, 0, sizeof(slot));
			es_wake_set_slot(i, &slot);
			memset(l, 0, sizeof(*l));
		}
	}

	foreach(lc, wanted)
	{
		Database   *database = lfirst(lc);
		int			i = 0;
		EsWakeSlot	slot = {0};

		while (i < ES_WAKE_SLOTS && OidIsValid(es_wake_get_slot(i).database))
			i++;
		if (i == ES_WAKE_SLOTS)
		{
			ereport(LOG,
					(errmsg("eventsourcing has workers for %d databases at most", ES_WAKE_SLOTS),
					 errhint("Take some out of the setting eventsourcing.databases.")));
			break;
		}
		slot.database = database->oid;
		es_wake_set_slot(i, &slot);
		memset(&launched[i], 0, sizeof(launched[i]));
		start_worker(i, database->name);
	}
	return TimestampDifferenceMilliseconds(now, next);
}

static void
launcher_exit(int code, Datum arg)
{
	es_wake_set_launcher(NULL);
}

/*
 * Waits until the server takes writes.
 */
static void
wait_for_promotion(uint32 wait_event)
{
	if (!RecoveryInProgress())
		return;
	ereport(LOG,
			(errmsg("the eventsourcing launcher waits for the promotion of this standby"),
			 errhint("Nothing needs to be done: until then handlers, timers and asynchronous projections run on the primary.")));
	while (RecoveryInProgress() && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_FOR_PROMOTION, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (!ShutdownRequestPending)
		ereport(LOG,
				(errmsg("the eventsourcing launcher starts its workers: the server takes writes now")));
}

/*
 * The launcher's process.
 */
void
es_launcher_main(Datum arg)
{
	MemoryContext context;
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	if (!es_wake_is_shared())
		proc_exit(0);
	wait_event = WaitEventExtensionNew("EventsourcingLauncherMain");
	wait_for_promotion(wait_event);
	if (ShutdownRequestPending)
		proc_exit(0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_exit, (Datum) 0);
	es_wake_set_launcher(MyLatch);
	pgstat_report_appname("eventsourcing launcher");

	context = AllocSetContextCreate(TopMemoryContext, "eventsourcing launcher",
									ALLOCSET_DEFAULT_SIZES);
	while (!ShutdownRequestPending)
	{
		long		timeout;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		timeout = look();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event);
	}
	proc_exit(0);
}
