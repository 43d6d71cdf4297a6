/*-------------------------------------------------------------------------
 *
 * log_tips.c
 *		What a session knows of the tips of streams.
 *
 * Who loads a stream appends to it next, and who has appended does so again.
 * Events are never changed or removed, so one that was seen committed is there
 * for good: a version is at least what was remembered, and an append that
 * expects exactly that need not look again, since the unique index tells whether
 * the stream has moved on.
 *
 * What a transaction appended itself is known for as long as it runs, and
 * remembered if it commits.  None of it counts while the table isn't guarded
 * against removals, and all is forgotten when the store's epoch moves on, which
 * it does when the guard is taken off or put back.
 *
 * The memory is a table of fixed size, of which a stream may lie in a few places
 * next to each other, and takes that of another one if none of them is free; its
 * pages are not there until they are used.  It holds the names themselves: to
 * take a stream for another one would tear a gap, which no index refuses.  Their
 * hashes lie beside it, those of a stream's places in one line of the CPU's cache,
 * so that a stream that isn't there costs one access to memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "log_heap.h"
#include "log_tips.h"

#define TIPS		16384

/* in how many of them a stream may lie: enough that few are driven out early */
#define PLACES		4

/* streams with longer names are looked at each time */
#define MAX_NAME	62

/* how many of the current transaction's can be found again one by one */
#define MAX_PENDING	64

typedef struct KnownTip
{
	int64		version;
	TimestampTz recorded_at;
	Oid			events;			/* the store's table, */
	uint32		epoch;			/* and the store's epoch */
	uint32		transaction;	/* by whom it was appended, if by us */
	uint16		length;			/* of the stream's name, without a zero byte */
	char		name[MAX_NAME];
} KnownTip;

static KnownTip tips[TIPS];
static uint32 hashes[TIPS];		/* 0: the place is free */

/* counts this session's transactions that appended and committed */
static uint32 transaction = 1;

/* those of the current transaction; more than MAX_PENDING are not told apart */
static int	npending = 0;
static int	pending[MAX_PENDING];

/*
 * Forgets what the current transaction appended.
 */
static void
forget_pending(void)
{
	if (npending > MAX_PENDING)
		memset(hashes, 0, sizeof(hashes));
	else
	{
		for (int i = 0; i < npending; i++)
			hashes[pending[i]] = 0;
	}
	npending = 0;
}

static void
transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (npending > 0)
				transaction++;
			npending = 0;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget_pending();
			break;
		default:
			break;
	}
}

static void
subtransaction_event(SubXactEvent event, SubTransactionId subid,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_pending();
}

/*
 * Begins to watch transactions.  Called once, when the library is loaded.
 */
void
es_log_tips_init(void)
{
	RegisterXactCallback(transaction_event, NULL);
	RegisterSubXactCallback(subtransaction_event, NULL);
}

/*
 * Returns the hash of a stream's name, of whichever store; never 0.
 */
static uint32
hash_stream(EsStore *store, text *stream)
{
	uint32		hash = hash_bytes((unsigned char *) VARDATA_ANY(stream),
								  VARSIZE_ANY_EXHDR(stream)) ^ store->events;

	return hash == 0 ? 1 : hash;
}

/*
 * Returns the first of the places for streams of this hash.
 */
static int
first_place(uint32 hash)
{
	return hash % (TIPS / PLACES) * PLACES;
}

/*
 * Returns the place of a stream, -1 if it has none.
 */
static int
find_known(EsStore *store, text *stream, uint32 hash)
{
	int			length = VARSIZE_ANY_EXHDR(stream);

	for (int i = first_place(hash), end = i + PLACES; i < end; i++)
	{
		if (hashes[i] == hash &&
			tips[i].length == length &&
			tips[i].events == store->events &&
			memcmp(tips[i].name, VARDATA_ANY(stream), length) == 0)
			return i;
	}
	return -1;
}

/*
 * Returns which of its places to give to a stream of this hash.
 */
static int
free_place(uint32 hash)
{
	static uint32 turn = 0;
	int			first = first_place(hash);

	for (int i = first; i < first + PLACES; i++)
	{
		if (hashes[i] == 0)
			return i;
	}
	return first + turn++ % PLACES;
}

/*
 * Fills in the last event of a stream that the session knows of, if there is
 * one; false otherwise.
 */
bool
es_log_tips_recall(EsStore *store, Datum stream, EsTip *tip)
{
	text	   *name = (text *) DatumGetPointer(stream);
	EsLogShape *shape = store->shape;
	KnownTip   *known;
	int			place;

	if (shape == NULL || shape->epoch != store->epoch || !shape->guarded)
		return false;
	place = find_known(store, name, hash_stream(store, name));
	if (place < 0)
		return false;
	known = &tips[place];
	if (known->epoch != (uint32) store->epoch)
		return false;
	tip->version = known->version;
	tip->recorded_at = known->recorded_at;
	tip->ours = npending > 0 && known->transaction == transaction;
	tip->alone = true;
	return true;
}

/*
 * Remembers an event that is committed, or one that the current transaction
 * appended, as the last of a stream that the session knows of.
 */
void
es_log_tips_remember(EsStore *store, Datum stream, int64 version,
					 TimestampTz recorded_at, bool committed)
{
	text	   *name = (text *) DatumGetPointer(stream);
	uint32		hash = hash_stream(store, name);
	KnownTip   *known;
	int			place;

	if (VARSIZE_ANY_EXHDR(name) > MAX_NAME)
		return;
	place = find_known(store, name, hash);
	if (place < 0)
		place = free_place(hash);
	hashes[place] = hash;
	known = &tips[place];
	known->version = version;
	known->recorded_at = recorded_at;
	known->events = store->events;
	known->epoch = (uint32) store->epoch;
	known->transaction = committed ? 0 : transaction;
	known->length = VARSIZE_ANY_EXHDR(name);
	memcpy(known->name, VARDATA_ANY(name), known->length);
	if (committed)
		return;
	if (npending < MAX_PENDING)
		pending[npending] = place;
	if (npending <= MAX_PENDING)
		npending++;
}
