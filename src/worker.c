/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The background worker that runs what runs by itself.
 *
 * One worker for each database runs timers, handlers and async projections of
 * all its stores, by the same steps as es_run().  It sleeps on its latch, which
 * is set when a transaction that appended has ended, until the next timer or
 * retry is due, and never longer than the naptime: nothing that is lost costs
 * more than that, and a prepared transaction that somebody else commits wakes
 * nobody.
 *
 * Rounds that follow each other at once would take a processor from those who
 * append; so there is a pause between them, the longer the less they find to do.
 *
 * The worker connects as a superuser, but whatever it does in a store, to the
 * end of the transaction, it does as the store's owner.
 *
 * An extension that is not there is no error: the worker waits for it.  What
 * fails is logged, and put off for a while by itself; the others go on.
 *
 * Memory: one context for each round, and one for each transaction in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "clock.h"
#include "commands/async.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "executor/spi.h"
#include "floor.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "run.h"
#include "schedule.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "wake.h"
#include "worker.h"

/* ms between rounds: after one that did something, and doubling up to */
#define PAUSE_FIRST		1
#define PAUSE_MOST		16

/* ms: what failed is run again after, doubling up to */
#define RETRY_FIRST		1000
#define RETRY_MOST		60000

/* Something that failed. */
typedef struct Failure
{
	char	   *what;			/* store, name */
	int			delay;			/* ms */
	TimestampTz retry_at;
} Failure;

/* The last position of a store that was notified. */
typedef struct Notified
{
	char	   *store;
	int64		position;
} Notified;

static List *failures = NIL;
static List *notified = NIL;

/* the version of the extension that this process works with */
static char *version = NULL;

/* whether its absence was logged */
static bool absent = false;

static Oid	superuser_id;

/* what the round found: when to come back, and whether there was work */
static TimestampTz next_round;
static bool worked;

/* the next retry of any handler */
static const EsQuery next_retry_query = {
	"SELECT pg_catalog.min(r.retry_at) FROM {es}.handlers h"
	" CROSS JOIN LATERAL (SELECT d.retry_at FROM {es}.deliveries d"
	"                      WHERE d.subscription OPERATOR(pg_catalog.=) h.name"
	"                        AND d.retry_at IS NOT NULL"
	"                      ORDER BY d.retry_at LIMIT 1) r",
	0, {0}
};

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

/*
 * The same to work on the current store, as its owner.
 */
static EsStore *
begin_work(void)
{
	EsStore    *store;

	begin_transaction();
	store = es_store_current();
	SetUserIdAndSecContext(store->owner, SECURITY_LOCAL_USERID_CHANGE);
	return store;
}

static void
end_work(void)
{
	/* what is deferred to the commit runs as the owner, too */
	CommitTransactionCommand();
	SetUserIdAndSecContext(superuser_id, 0);
}

/*
 * For es_run_one(): ends a transaction and begins the next.
 */
static void
next_transaction(MemoryContext work)
{
	MemoryContextReset(work);
	end_work();
	CHECK_FOR_INTERRUPTS();
	(void) begin_work();
	worked = true;
}

static Failure *
find_failure(const char *what)
{
	ListCell   *lc;

	foreach(lc, failures)
	{
		Failure    *failure = lfirst(lc);

		if (strcmp(failure->what, what) == 0)
			return failure;
	}
	return NULL;
}

/*
 * Logs the error that is being caught, ends its transaction, and puts off what
 * failed.
 */
static void
failed(const char *what, MemoryContext round)
{
	Failure    *failure;

	EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
	SetUserIdAndSecContext(superuser_id, 0);

	failure = find_failure(what);
	if (failure == NULL)
	{
		MemoryContextSwitchTo(TopMemoryContext);
		failure = palloc0(sizeof(Failure));
		failure->what = pstrdup(what);
		failures = lappend(failures, failure);
	}
	failure->delay = failure->delay == 0 ? RETRY_FIRST : Min(failure->delay * 2, RETRY_MOST);
	failure->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), failure->delay);
	next_round = Min(next_round, failure->retry_at);
	MemoryContextSwitchTo(round);
}

static void
succeeded(const char *what)
{
	Failure    *failure = find_failure(what);

	if (failure == NULL)
		return;
	failures = list_delete_ptr(failures, failure);
	pfree(failure->what);
	pfree(failure);
}

/*
 * Whether something failed lately and is put off.
 */
static bool
is_put_off(const char *what)
{
	Failure    *failure = find_failure(what);

	if (failure == NULL || failure->retry_at <= GetCurrentTimestamp())
		return false;
	next_round = Min(next_round, failure->retry_at);
	return true;
}

/*
 * Returns the version of the extension in this database, NULL if it is not
 * there, allocated in the current memory context.
 */
static char *
installed_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *result = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("eventsourcing"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		if (!isnull)
			result = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Whether the extension is there.  A process that met another version of it
 * before ends, and begins anew with empty caches.
 */
static bool
extension_is_there(void)
{
	char	   *found = installed_version();

	if (found == NULL)
	{
		if (!absent)
			ereport(LOG,
					(errmsg("the eventsourcing worker waits for the extension in database \"%s\"",
							get_database_name(MyDatabaseId)),
					 errhint("Run CREATE EXTENSION eventsourcing in it, or take the database out of the setting eventsourcing.databases.")));
		absent = true;
		return false;
	}
	absent = false;
	if (version == NULL)
		version = MemoryContextStrdup(TopMemoryContext, found);
	else if (strcmp(version, found) != 0)
	{
		ereport(LOG,
				(errmsg("the eventsourcing worker of database \"%s\" starts anew: the extension was updated from version %s to %s",
						get_database_name(MyDatabaseId), version, found),
				 errhint("A library that was loaded at the server's start stays until the server is restarted.")));
		proc_exit(1);
	}
	return true;
}

/*
 * Returns the names of the database's stores, allocated in the given memory
 * context; none without the extension.
 */
static List *
find_stores(MemoryContext context)
{
	List	   *stores = NIL;

	begin_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (extension_is_there())
	{
		SPI_connect();
		if (SPI_execute("SELECT n.nspname::pg_catalog.text"
						"  FROM pg_catalog.pg_namespace n"
						" WHERE EXISTS (SELECT FROM pg_catalog.pg_class c"
						"                WHERE c.relname OPERATOR(pg_catalog.=) 'store'"
						"                  AND c.relnamespace OPERATOR(pg_catalog.=) n.oid)"
						"   AND EXISTS (SELECT FROM pg_catalog.pg_class c"
						"                WHERE c.relname OPERATOR(pg_catalog.=) 'subscription_cursors'"
						"                  AND c.relnamespace OPERATOR(pg_catalog.=) n.oid)"
						" ORDER BY n.nspname", true, 0) != SPI_OK_SELECT)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(SPI_result));
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			char	   *name = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1);
			MemoryContext spi = MemoryContextSwitchTo(context);

			stores = lappend(stores, pstrdup(name));
			MemoryContextSwitchTo(spi);
		}
		SPI_finish();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return stores;
}

/*
 * Returns the names of those of a kind that have work to do.
 */
static List *
find_due(const EsRunKind *kind, MemoryContext round)
{
	EsStore    *store = begin_work();
	List	   *names;

	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(round);
	names = kind->due(store);
	PopActiveSnapshot();
	end_work();
	MemoryContextSwitchTo(round);
	return names;
}

/*
 * Runs all that is due of a kind in the current store.
 */
static void
run_kind(const char *store, const EsRunKind *kind, MemoryContext round)
{
	MemoryContext work = AllocSetContextCreate(round, "eventsourcing work",
											   ALLOCSET_DEFAULT_SIZES);
	ListCell   *lc;

	foreach(lc, find_due(kind, round))
	{
		const char *name = lfirst(lc);
		char	   *what = psprintf("%s %s", store, name);

		CHECK_FOR_INTERRUPTS();
		if (is_put_off(what))
			continue;
		PG_TRY();
		{
			pgstat_report_activity(STATE_RUNNING, psprintf("%s in store %s", name, store));
			(void) begin_work();
			MemoryContextSwitchTo(round);
			es_run_one(kind, name, work, next_transaction);
			end_work();
			MemoryContextSwitchTo(round);
			succeeded(what);
		}
		PG_CATCH();
		{
			failed(what, round);
		}
		PG_END_TRY();
	}
	MemoryContextDelete(work);
}

/*
 * Notes when the next timer or retry of the current store is due, and tells of new
 * events: copies by the watermark, and those who listen.
 */
static void
look_ahead(const char *name, MemoryContext round)
{
	EsStore    *store = begin_work();
	TimestampTz due;
	bool		isnull;

	PushActiveSnapshot(GetTransactionSnapshot());
	due = es_schedule_next(store);
	SPI_connect();
	if (es_store_execute(store, &next_retry_query, NULL, NULL) > 0)
	{
		TimestampTz retry_at = DatumGetTimestampTz(es_result_value(0, 1, &isnull));

		if (!isnull)
			due = Min(due, retry_at);
	}
	SPI_finish();
	if (due != DT_NOEND)
		next_round = Min(next_round, due - (es_clock_now() - GetCurrentTimestamp()));

	es_run_watermark(store);
	if (es_guc_notify)
	{
		int64		safe = es_floor_safe(store);
		Notified   *entry = NULL;
		ListCell   *lc;

		foreach(lc, notified)
		{
			if (strcmp(((Notified *) lfirst(lc))->store, name) == 0)
				entry = lfirst(lc);
		}
		if (entry == NULL)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

			entry = palloc0(sizeof(Notified));
			entry->store = pstrdup(name);
			notified = lappend(notified, entry);
			MemoryContextSwitchTo(oldcontext);
		}
		if (entry->position != safe)
			Async_Notify("eventsourcing", name);
		entry->position = safe;
	}
	PopActiveSnapshot();
	end_work();
	MemoryContextSwitchTo(round);
}

/*
 * Runs all that is due in all stores.
 */
static void
run_round(MemoryContext round)
{
	List	   *volatile stores = NIL;
	ListCell   *lc;

	PG_TRY();
	{
		stores = find_stores(round);
	}
	PG_CATCH();
	{
		failed("stores", round);
	}
	PG_END_TRY();

	foreach(lc, stores)
	{
		const char *store = lfirst(lc);
		char	   *what = psprintf("store %s", store);

		CHECK_FOR_INTERRUPTS();
		if (is_put_off(what))
			continue;
		PG_TRY();
		{
			SetConfigOption("eventsourcing.store", store, PGC_USERSET, PGC_S_SESSION);
			for (int i = 0; i < ES_RUN_KINDS; i++)
				run_kind(store, es_run_kinds[i], round);
			look_ahead(store, round);
			succeeded(what);
		}
		PG_CATCH();
		{
			failed(what, round);
		}
		PG_END_TRY();
	}
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
worker_exit(int code, Datum slot)
{
	es_wake_set_worker(DatumGetInt32(slot), 0, NULL);
}

/*
 * Sleeps at least that many ms, whatever the latch says.
 */
static void
sleep_for(int msec, uint32 wait_event)
{
	(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, msec, wait_event);
	CHECK_FOR_INTERRUPTS();
}

/*
 * A worker's process; the argument is its slot.
 */
void
es_worker_main(Datum arg)
{
	int			slot = DatumGetInt32(arg);
	int			pause_for = PAUSE_FIRST;
	MemoryContext round;
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	before_shmem_exit(worker_exit, arg);
	es_wake_set_worker(slot, MyProcPid, NULL);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(es_wake_get_slot(slot).database, InvalidOid, 0);
	es_wake_set_worker(slot, MyProcPid, MyLatch);
	pgstat_report_appname("eventsourcing worker");
	wait_event = WaitEventExtensionNew("EventsourcingWorkerMain");
	superuser_id = GetUserId();

	/* whatever the database's and role's settings say */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);

	round = AllocSetContextCreate(TopMemoryContext, "eventsourcing round",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		long		timeout;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		MemoryContextReset(round);
		MemoryContextSwitchTo(round);
		worked = false;
		next_round = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), es_guc_naptime);
		run_round(round);

		pause_for = worked ? PAUSE_FIRST : Min(pause_for * 2, PAUSE_MOST);
		sleep_for(pause_for, wait_event);
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_round);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  timeout, wait_event) & WL_TIMEOUT)
			pause_for = PAUSE_FIRST;
	}
}
