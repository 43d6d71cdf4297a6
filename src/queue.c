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
 * The lock only keeps order; correctness rests on the index alone.  Who already
 * owns the stream's tip (appended to it in this transaction) must not join:
 * whoever is first in line is waiting for him.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "queue.h"
#include "storage/lock.h"

/* field 4 of the lock tag; SQL's advisory locks use 1 and 2, the floor bit 15 */
#define QUEUE_TAG	0x4000

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
} HotStream;

static HotStream hot_streams[HOT_SLOTS];

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

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, store->events, hash, QUEUE_TAG);
	if (es_queue_is_hot(store, stream) &&
		LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
	{
		slot->credits--;
		return;
	}

	slot->events = store->events;
	slot->hash = hash;
	slot->credits = HOT_CREDITS;
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}
