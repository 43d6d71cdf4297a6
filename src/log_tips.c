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
 * remembered if it commits.  All is forgotten when the store's epoch moves on:
 * whoever gets past the guard, by altering the table, moves it.
 *
 * The memory is a table of fixed size in which a stream takes the place of
 * another one; its pages are not there until they are used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "log_tips.h"

#define TIPS		16384

/* how many of the current transaction's can be found again one by one */
#define MAX_PENDING	64

typedef struct KnownTip
{
	uint64		hash;			/* of the table and the stream's name */
	int64		version;		/* 0: none */
	TimestampTz recorded_at;
	uint32		epoch;			/* of the store */
	uint32		transaction;	/* by whom it was appended, if by us */
}			KnownTip;

static KnownTip tips[TIPS];

/* counts this session's transactions that appended and committed */
static uint32 transaction = 1;

/* those of the current transaction; more than MAX_PENDING are not told apart */
static int	npending = 0;
static KnownTip * pending[MAX_PENDING];

/*
 * Forgets what the current transaction appended.
 */
static void
forget_pending(void)
{
	if (npending > MAX_PENDING)
		memset(tips, 0, sizeof(tips));
	else
	{
		for (int i = 0; i < npending; i++)
			pending[i]->version = 0;
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
 * Returns a stream's place, with its hash, whatever lies there now.
 */
static KnownTip *
find_place(EsStore *store, Datum stream, uint64 *hash)
{
	text	   *name = (text *) DatumGetPointer(stream);

	*hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(name),
								VARSIZE_ANY_EXHDR(name), store->events);
	return &tips[*hash % TIPS];
}

/*
 * Fills in the last event of a stream that the session knows of, if there is
 * one; false otherwise.
 */
bool
es_log_tips_recall(EsStore *store, Datum stream, EsTip *tip)
{
	uint64		hash;
	KnownTip   *known = find_place(store, stream, &hash);

	if (known->hash != hash || known->version == 0 ||
		known->epoch != (uint32) store->epoch)
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
	uint64		hash;
	KnownTip   *known = find_place(store, stream, &hash);

	known->hash = hash;
	known->version = version;
	known->recorded_at = recorded_at;
	known->epoch = (uint32) store->epoch;
	known->transaction = committed ? 0 : transaction;
	if (committed)
		return;
	if (npending < MAX_PENDING)
		pending[npending] = known;
	if (npending <= MAX_PENDING)
		npending++;
}
