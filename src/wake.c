/*-------------------------------------------------------------------------
 *
 * wake.c
 *		What backends share: who is to be woken at commit, and counters.
 *
 * There is shared memory only if the library is in shared_preload_libraries;
 * without it there is no worker to wake, and counting stops at the session.
 *
 * A transaction that appended wakes its database's worker when it ends, however
 * it ends: one that is rolled back held the safe position down, too.  It does so
 * after its locks are released, because before that the worker would still find
 * the position held down, and go to sleep again.
 *
 * Slots are written by the launcher and by the slot's worker, under the
 * spinlock.  Their latches are read without it: latches of processes lie in
 * shared memory for ever, and at worst a process is woken for nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "wake.h"

typedef struct Shared
{
	slock_t		mutex;			/* of the slots and the launcher's latch */
	struct Latch *launcher;
	EsWakeSlot	slots[ES_WAKE_SLOTS];
	pg_atomic_uint64 counters[ES_NCOUNTERS];
} Shared;

static const char *const counter_names[ES_NCOUNTERS] = {
	"appended", "conflicts", "folded", "snapshots_used", "handled", "retried", "parked"
};

static Shared *shared = NULL;
static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* whether the worker is to be woken when the transaction ends */
static bool appended = false;

/* counted by this session: in all where nothing is shared, else since the last
 * transaction ended */
static uint64 counters[ES_NCOUNTERS];

/* of these, what transactions counted that have ended */
static uint64 committed[ES_NCOUNTERS];

/* where this session's database was found last */
static int	my_slot = 0;

PG_FUNCTION_INFO_V1(es_counters);

static void
request_memory(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
}

static void
create_memory(void)
{
	bool		found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("eventsourcing", sizeof(Shared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		SpinLockInit(&shared->mutex);
		for (int i = 0; i < ES_NCOUNTERS; i++)
			pg_atomic_init_u64(&shared->counters[i], 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
wake_worker(void)
{
	for (int i = 0; i < ES_WAKE_SLOTS; i++)
	{
		int			slot = (my_slot + i) % ES_WAKE_SLOTS;

		if (shared->slots[slot].database == MyDatabaseId)
		{
			struct Latch *latch = shared->slots[slot].latch;

			if (latch != NULL)
				SetLatch(latch);
			my_slot = slot;
			return;
		}
	}
}

/*
 * At the end of a transaction, after its locks are gone: wakes the worker, and
 * hands in what was counted.
 */
static void
transaction_ended(ResourceReleasePhase phase, bool isCommit, bool isTopLevel,
				  void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	if (!isCommit)
	{
		/* this did not happen; it was done to conflict, to fold, all the same */
		counters[ES_COUNT_APPENDED] = committed[ES_COUNT_APPENDED];
		counters[ES_COUNT_HANDLED] = committed[ES_COUNT_HANDLED];
		counters[ES_COUNT_RETRIED] = committed[ES_COUNT_RETRIED];
		counters[ES_COUNT_PARKED] = committed[ES_COUNT_PARKED];
	}
	if (shared != NULL)
	{
		if (appended)
			wake_worker();
		for (int i = 0; i < ES_NCOUNTERS; i++)
		{
			if (counters[i] > 0)
				pg_atomic_fetch_add_u64(&shared->counters[i], counters[i]);
			counters[i] = 0;
		}
	}
	memcpy(committed, counters, sizeof(committed));
	appended = false;
}

/*
 * Called once, when the library is loaded.
 */
void
es_wake_init(void)
{
	if (process_shared_preload_libraries_in_progress)
	{
		prev_shmem_request = shmem_request_hook;
		shmem_request_hook = request_memory;
		prev_shmem_startup = shmem_startup_hook;
		shmem_startup_hook = create_memory;
	}
	RegisterResourceReleaseCallback(transaction_ended, NULL);
}

/*
 * Whether there is shared memory, and so may be a worker.
 */
bool
es_wake_is_shared(void)
{
	return shared != NULL;
}

/*
 * Has the worker woken when the current transaction ends.
 */
void
es_wake_at_end(void)
{
	appended = true;
}

/*
 * Counts something.  What a transaction appended, handled, put off or parked
 * counts if it commits.
 */
void
es_wake_count(EsCounter counter, int64 n)
{
	counters[counter] += n;
}

EsWakeSlot
es_wake_get_slot(int slot)
{
	EsWakeSlot	value;

	SpinLockAcquire(&shared->mutex);
	value = shared->slots[slot];
	SpinLockRelease(&shared->mutex);
	return value;
}

void
es_wake_set_slot(int slot, const EsWakeSlot *value)
{
	SpinLockAcquire(&shared->mutex);
	shared->slots[slot] = *value;
	SpinLockRelease(&shared->mutex);
}

/*
 * For a worker that starts, is ready, or ends; and the launcher hears of it.
 */
void
es_wake_set_worker(int slot, int pid, struct Latch *latch)
{
	struct Latch *launcher;

	SpinLockAcquire(&shared->mutex);
	shared->slots[slot].pid = pid;
	shared->slots[slot].latch = latch;
	launcher = shared->launcher;
	SpinLockRelease(&shared->mutex);
	if (launcher != NULL)
		SetLatch(launcher);
}

void
es_wake_set_launcher(struct Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	shared->launcher = latch;
	SpinLockRelease(&shared->mutex);
}

/*
 * Stops a database's worker, for somebody who needs the database to himself, and
 * has it not started again for a while.  Returns when it is gone, or after that
 * while.
 */
void
es_wake_hold(Oid database, int msec)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), msec);

	for (;;)
	{
		int			pid = 0;

		SpinLockAcquire(&shared->mutex);
		for (int i = 0; i < ES_WAKE_SLOTS; i++)
		{
			if (shared->slots[i].database != database)
				continue;
			shared->slots[i].held_until = until;
			pid = shared->slots[i].pid;
		}
		SpinLockRelease(&shared->mutex);
		if (pid == 0 || GetCurrentTimestamp() >= until)
			return;
		(void) kill(pid, SIGTERM);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * es_counters()
 */
Datum
es_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < ES_NCOUNTERS; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false, false};
		uint64		count = counters[i];

		if (shared != NULL)
			count += pg_atomic_read_u64(&shared->counters[i]);
		values[0] = CStringGetTextDatum(counter_names[i]);
		values[1] = Int64GetDatum((int64) count);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
