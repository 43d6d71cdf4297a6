/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Positions, and the position below which everything is settled.
 *
 * Positions come from a sequence: they are handed out in one order and
 * committed in another.  A reader that remembers the last position it saw
 * must not step over one that commits late.  The protocol:
 *
 * An appending transaction reads the sequence's last value L, takes a lock in
 * share mode whose tag carries L, and only then draws positions, all of which
 * are greater than L.  It holds the lock to its end; a prepared transaction
 * goes on holding it, also across a restart.
 *
 * A reader reads the sequence's last value H, then the smallest L over all
 * holders of such locks; safe is the smaller of the two.  Then it takes a new
 * snapshot.  Take a position p <= safe: it had been drawn when the reader read
 * H, so its lock, with L < p, had been taken.  The reader did not see the lock,
 * or safe would be less than p; so the transaction had ended, and since locks
 * are released after the commit is visible, the new snapshot sees its outcome.
 *
 * These locks never conflict with anything, so nobody ever waits for one.  They
 * live in the shared lock table because that is the one place that survives
 * subtransactions, PREPARE TRANSACTION and crashes in the right way.
 *
 * A position that a reader was told about must not be drawn again after a
 * crash.  The sequence's own WAL record may still be in memory (when the
 * drawing transaction aborted, or committed asynchronously), so the reader
 * flushes WAL up to the sequence page's LSN first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "attempt.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "compat.h"
#include "floor.h"
#include "log.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "watermark.h"
#include "work.h"

/*
 * The tag is an advisory lock's with bits that SQL's advisory lock functions
 * cannot make: they set field 4 to 1 or 2, we set its highest bit.  Fields: the
 * database, the events table, and 47 bits of position (the sequence's
 * MAXVALUE) in field 3 and the rest of field 4.
 */
#define FLOOR_BIT	0x8000

/* milliseconds: see es_floor_patience(), es_floor_pause() */
#define FIRST_PATIENCE	50
#define MOST_PAUSE		2000

static inline void
make_tag(LOCKTAG *tag, EsStore *store, int64 position)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, store->events,
						 (uint32) position,
						 FLOOR_BIT | (uint16) (position >> 32));
}

static inline bool
is_tag(const LOCKTAG *tag, EsStore *store)
{
	return tag->locktag_type == LOCKTAG_ADVISORY &&
		tag->locktag_field1 == MyDatabaseId &&
		tag->locktag_field2 == store->events &&
		(tag->locktag_field4 & FLOOR_BIT) != 0;
}

static inline int64
tag_position(const LOCKTAG *tag)
{
	return ((int64) (tag->locktag_field4 & ~FLOOR_BIT) << 32) | tag->locktag_field3;
}

/*
 * Returns the last position that the store's sequence has handed out, 0 if
 * none, and the LSN of the page that says so.
 */
static int64
last_position(EsStore *store, LOCKMODE lockmode, XLogRecPtr *lsn)
{
	Relation	rel = relation_open(store->sequence, lockmode);
	Buffer		buf = ReadBuffer(rel, 0);
	Page		page;
	ItemId		lp;
	Form_pg_sequence_data seq;
	int64		result;

	LockBuffer(buf, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buf);
	lp = PageGetItemId(page, FirstOffsetNumber);
	seq = (Form_pg_sequence_data)
		((char *) PageGetItem(page, lp) +
		 ((HeapTupleHeader) PageGetItem(page, lp))->t_hoff);
	result = seq->is_called ? seq->last_value : seq->last_value - 1;
	*lsn = PageGetLSN(page);
	UnlockReleaseBuffer(buf);
	relation_close(rel, NoLock);
	return result;
}

/*
 * Raises 55000 if positions as high as some in the log are still to be drawn:
 * after a restore that left the sequence behind, and where a logical subscriber
 * takes over.  New events would stand before old ones, and readers by position
 * would be told that there is nothing.  As long as it is a subscriber, nobody
 * draws positions from its sequence.
 */
void
es_floor_check(EsStore *store)
{
	int64		highest = es_log_last_position(store, PG_INT64_MAX);
	XLogRecPtr	lsn;
	int64		last = last_position(store, AccessShareLock, &lsn);

	if (last < highest && !store->subscribed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the sequence of positions of event store \"%s\" is behind its log",
						NameStr(store->name)),
				 errdetail("The sequence is at " INT64_FORMAT ", the highest position is " INT64_FORMAT ".",
						   last, highest),
				 errhint("A restore that left out the sequence does that, and logical replication, which has none. The store's owner mends it with SELECT es_repair_sequence().")));
	store->sequence_checked = store->epoch;
}

/*
 * Raises 55000 if a position that is drawn may be less than one that was drawn
 * before, or be known to another session only later: a session keeps what a
 * sequence with a cache gives it, and readers go past it.
 */
static void
check_drawing(EsStore *store)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(store->sequence));
	Form_pg_sequence form;
	bool		in_order;
	int64		cache;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", store->sequence);
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	cache = form->seqcache;
	in_order = cache == 1 && form->seqincrement > 0 && !form->seqcycle;
	ReleaseSysCache(tuple);
	if (!in_order)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the sequence of positions of event store \"%s\" was altered",
						NameStr(store->name)),
				 cache > 1 ?
				 errdetail("It has a cache of " INT64_FORMAT ": events would get positions that readers have passed already.",
						   cache) :
				 errdetail("It does not go up: events would get positions that readers have passed already."),
				 errhint("Run ALTER SEQUENCE %s.events_position_seq INCREMENT 1 CACHE 1 NO CYCLE.",
						 quote_identifier(NameStr(store->name)))));
}

/*
 * Makes the current transaction known to readers by position.  Has to come
 * before its first es_floor_next(); later calls find the lock still held.  A
 * lock taken inside a savepoint is gone after ROLLBACK TO, and then the next
 * call takes a new one.
 */
void
es_floor_enter(EsStore *store)
{
	XLogRecPtr	lsn;
	ResourceOwner oldowner = CurrentResourceOwner;

	if (store->floor.locktag_type == LOCKTAG_ADVISORY &&
		is_tag(&store->floor, store) &&
		LockHeldByMe(&store->floor, ShareLock, false))
		return;

	if (store->subscribed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot append to event store \"%s\", which is a logical subscriber",
						NameStr(store->name)),
				 errdetail("A subscription brings its events, with versions and positions that were given elsewhere."),
				 errhint("Append on the publisher. If this store is to take over: DROP SUBSCRIPTION, then SELECT es_repair_sequence().")));
	if (store->sequence_checked != store->epoch)
		es_floor_check(store);
	if (store->append_checked != store->epoch)
	{
		check_drawing(store);
		es_log_check_unique(store);
		store->append_checked = store->epoch;
	}

	/*
	 * The locks belong to the (sub)transaction that the events belong to, and
	 * not to the portal that runs now: a cursor that fails in a savepoint
	 * releases what it holds, also from before the savepoint.
	 */
	CurrentResourceOwner = CurTransactionResourceOwner;

	/* see es_floor_settle() */
	LockRelationOid(store->events, RowExclusiveLock);
	/* the lock that drawing a position takes */
	make_tag(&store->floor, store, last_position(store, RowExclusiveLock, &lsn));
	(void) LockAcquire(&store->floor, ShareLock, false, false);
	CurrentResourceOwner = oldowner;
}

/*
 * Waits until no other transaction has appended and not ended, and keeps others
 * from beginning to, up to the end of this transaction.  Returns the last
 * position drawn: everything at or below it is settled, except what this
 * transaction appended, and whatever comes later is greater.  That rests on
 * appenders locking the table before they draw a position.
 *
 * It is for what works inline, so there is none on a logical subscriber (55000),
 * where nothing is appended.
 */
int64
es_floor_settle(EsStore *store)
{
	XLogRecPtr	lsn;
	int64		last;

	if (store->subscribed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" has no inline projections, since it is a logical subscriber",
						NameStr(store->name)),
				 errdetail("A subscription brings its events, and nothing runs in the transactions that append them."),
				 errhint("Use mode => 'async', and SELECT es_advance_watermark() on the publisher.")));
	LockRelationOid(store->events, ShareRowExclusiveLock);
	last = last_position(store, AccessShareLock, &lsn);
	XLogFlush(lsn);
	return last;
}

/*
 * How long, in milliseconds, to wait for locks that lock appends out as soon as
 * one waits for them: at attempt 1, 2, ...  It grows to less than what would be
 * called a deadlock, so that in the end it is never another's transaction that is
 * cancelled; but if that does not help for long, beyond: an autovacuum of the
 * events table gives way only then, and a deadlock is found only then.
 */
int
es_floor_patience(int attempt)
{
	int			most = attempt < 10 ? DeadlockTimeout / 2 : DeadlockTimeout * 3 / 2;

	return Max(Min(FIRST_PATIENCE << Min(attempt - 1, 16), most), 1);
}

/*
 * Lets appends go on for a while after an attempt that was in vain.
 */
void
es_floor_pause(int attempt)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(es_floor_patience(attempt) * 4, MOST_PAUSE), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* An attempt to lock the events table. */
typedef struct Attempt
{
	EsStore    *store;
	LOCKMODE	mode;
	int			patience;
}			Attempt;

static void
lock_events(void *arg)
{
	Attempt    *attempt = arg;
	int			nestlevel = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", psprintf("%d", attempt->patience),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(attempt->store->events, attempt->mode);
	AtEOXact_GUC(true, nestlevel);
}

/*
 * The same as es_floor_settle(), with that lock or a stronger one, but without
 * locking appends out for as long as an open transaction takes: it gives up
 * after a moment, calls meanwhile(), if that is not NULL, and tries again.
 */
int64
es_floor_settle_patiently(EsStore *store, LOCKMODE mode, void (*meanwhile) (void *arg),
						  void *arg)
{
	TimestampTz start = GetCurrentTimestamp();
	Attempt		attempt = {store, mode, 0};

	for (int n = 1;; n++)
	{
		ErrorData  *error;

		attempt.patience = es_floor_patience(n);
		error = es_attempt(lock_events, &attempt, CurrentMemoryContext);
		if (error == NULL)
			return es_floor_settle(store);
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
			(LockTimeout > 0 &&
			 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LockTimeout)))
			ReThrowError(error);
		FreeErrorData(error);
		es_floor_pause(n);
		if (meanwhile != NULL)
			meanwhile(arg);
	}
}

/*
 * Returns a new position, greater than every one drawn before.
 */
int64
es_floor_next(EsStore *store)
{
	/* the right to append is the right to INSERT; the sequence adds none */
	return nextval_internal(store->sequence, false);
}

/*
 * Returns the highest position at or below which nothing can still commit, 0
 * for none.  Valid for snapshots taken after the call: within REPEATABLE READ
 * the caller's snapshot is older, see es_log_first_unseen().
 *
 * A copy of the store cannot see who appends to it, and relies on its watermark.
 */
int64
es_floor_safe(EsStore *store)
{
	XLogRecPtr	lsn;
	LockData   *locks;
	int64		safe;

	if (store->subscribed)
		return es_watermark_of_subscriber(store);
	if (RecoveryInProgress())
		return es_watermark_of_standby(store);

	if (store->sequence_checked != store->epoch)
		es_floor_check(store);
	safe = last_position(store, AccessShareLock, &lsn);
	XLogFlush(lsn);

	locks = GetLockStatusData();
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		if (lock->holdMask != 0 && is_tag(&lock->locktag, store))
			safe = Min(safe, tag_position(&lock->locktag));
	}
	if (locks->locks != NULL)
		pfree(locks->locks);
	pfree(locks);
	return safe;
}
