/*-------------------------------------------------------------------------
 *
 * queue.c
 *		Waiting in line for a stream that many want to append to.
 *
 * The unique index on (stream, version) decides who gets a version; losers
 * would race for the next one, and n of them burn n*n attempts.  So an appender
 * that has lost once takes a lock on the stream, for the rest of its
 * transaction, and remembers that the stream is hot: its next appends to it
 * take the lock first.  Streams without conflicts never touch the lock table.
 *
 * To be put to sleep and woken up again costs more than a whole append, and
 * while the stream is handed to a sleeper nobody appends.  So who is first in
 * line does not sleep: a second lock, that of the head of the line, is where the
 * others do, and it goes on to the next of them as soon as the stream is ours,
 * who wakes up while we append.  Where the whole line moves faster than that,
 * nobody sleeps.
 *
 * The locks only keep order; correctness rests on the index alone.  Who already
 * owns the stream's tip (appended to it in this transaction) must not join:
 * whoever is first in line is waiting for him.  Nor must who is waited for without
 * owning anything, see es_queue_stay_out().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sched.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "queue.h"
#include "storage/lock.h"

/*
 * Field 4 of the lock tags: of the stream, of the head of its line.  SQL's
 * advisory locks use 1 and 2, a rebuild 0x2000, the floor bit 15.
 */
#define QUEUE_TAG	0x4000
#define HEAD_TAG	0x1000

/*
 * Waits as short as this are worth spinning for; longer ones are for the disk
 * at every commit of a long line, or for a client that thinks.
 */
#define SHORT_WAIT	400			/* microseconds */

/*
 * Streams that this backend found hot, by hash.  Each uncontended appearance
 * costs one of its credits, and at zero the stream is an ordinary one again.
 */
#define HOT_SLOTS	64
#define HOT_CREDITS	32

typedef struct HotStream
{
	Oid			events;
	uint32		hash;
	int			credits;
	bool		slow_line;		/* the last wait from its end was not short, */
	bool		slow_head;		/* nor that from its head */
} HotStream;

static HotStream hot_streams[HOT_SLOTS];

/* the transaction that waits in no line; see es_queue_stay_out() */
static TransactionId outsider = InvalidTransactionId;

static inline uint32
stream_hash(text *stream)
{
	return hash_bytes((unsigned char *) VARDATA_ANY(stream),
					  VARSIZE_ANY_EXHDR(stream));
}

/*
 * Whether this backend met a rival on the stream lately.
 */
bool
es_queue_is_hot(EsStore *store, text *stream)
{
	uint32		hash = stream_hash(stream);
	HotStream  *slot = &hot_streams[hash % HOT_SLOTS];

	return slot->credits > 0 && slot->hash == hash && slot->events == store->events;
}

static bool
is_long(instr_time since)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	return INSTR_TIME_GET_MICROSEC(now) > SHORT_WAIT;
}

/*
 * Waits for a short time without sleeping, and returns whether it has got the
 * lock.  Yielding leaves the CPU to whom it waits for.  It passes no sleepers:
 * the lock manager gives them the lock first.
 */
static bool
spin(const LOCKTAG *tag)
{
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	do
	{
		CHECK_FOR_INTERRUPTS();
		(void) sched_yield();
		if (LockAcquire(tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
			return true;
	} while (!is_long(start));
	return false;
}

static void
wait_in_line(HotStream *slot, const LOCKTAG *tag)
{
	LOCKTAG		head = *tag;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	if (slot->slow_line || !spin(tag))
	{
		instr_time	at_head;

		head.locktag_field4 = HEAD_TAG;
		(void) LockAcquire(&head, ExclusiveLock, false, false);
		INSTR_TIME_SET_CURRENT(at_head);
		if (slot->slow_head || !spin(tag))
			(void) LockAcquire(tag, ExclusiveLock, false, false);
		slot->slow_head = is_long(at_head);
		(void) LockRelease(&head, ExclusiveLock, false);
	}
	slot->slow_line = is_long(start);
}

/*
 * Has this transaction wait in no line any more.  For who has inserted an event
 * and taken it back: a rival who met it waits for the end of the transaction, and
 * may hold the lock that we would wait for.
 */
void
es_queue_stay_out(void)
{
	outsider = GetTopTransactionId();
}

static bool
stays_out(void)
{
	return TransactionIdIsValid(outsider) && outsider == GetTopTransactionIdIfAny();
}

/*
 * Waits until it is this transaction's turn on the stream, and marks the
 * stream as hot.  The lock excludes other members of the queue, nobody else.
 */
void
es_queue_join(EsStore *store, text *stream)
{
	uint32		hash = stream_hash(stream);
	HotStream  *slot = &hot_streams[hash % HOT_SLOTS];
	LOCKTAG		tag;
	bool		got;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, store->events, hash, QUEUE_TAG);
	got = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
	if (!es_queue_is_hot(store, stream))
	{
		slot->events = store->events;
		slot->hash = hash;
		slot->slow_line = slot->slow_head = false;
	}
	else if (got)
	{
		slot->credits--;
		return;
	}
	slot->credits = HOT_CREDITS;
	if (!got && !stays_out())
		wait_in_line(slot, &tag);
}
