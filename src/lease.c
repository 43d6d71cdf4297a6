/*-------------------------------------------------------------------------
 *
 * lease.c
 *		What consumers of subscriptions are working on.
 *
 * A lease is one row for all the events that one call handed out, not one for
 * each: handing out a hundred events and having them acknowledged leaves one
 * dead row behind.  Its key is one of the positions that were handed out with it
 * and are in it or done, which cannot be in another lease: an event that is
 * taken out otherwise takes the key with it.  So acknowledging events one by one
 * leaves the key as it is, and changes no index.  It keeps a hash of each event's
 * stream, enough to tell that a stream is busy; the name is looked up in the log
 * when it is needed, which is when something went wrong.
 *
 * Creating a lease, and taking back one that ran out, takes the subscription's
 * lock; removing positions from one does not, so that consumers acknowledge
 * without waiting for each other.  What they write is checked to be what they
 * had read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "errors.h"
#include "lease.h"
#include "log.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "waitpoint.h"

/* after so many failures, an event whose lease runs out comes back alone */
#define FAILURES_IN_COMPANY	1

/* An event in a lease. */
typedef struct Leased
{
	int64		position;
	int64		stream;			/* a hash of its name */
	int32		attempts;		/* how often it was given back before */
} Leased;

typedef struct Lease
{
	int64		key;
	Datum		positions;		/* the column as it was read */
	int			n;
	Leased	   *items;			/* in the order of positions */
} Lease;

static const EsQuery busy_query = {
	"SELECT streams, leased_until OPERATOR(pg_catalog.<=) $2"
	" FROM {es}.leases WHERE subscription OPERATOR(pg_catalog.=) $1",
	2, {TEXTOID, TIMESTAMPTZOID}
};

static const EsQuery ran_out_query = {
	"DELETE FROM {es}.leases l"
	" USING (SELECT position FROM {es}.leases"
	"         WHERE subscription OPERATOR(pg_catalog.=) $1"
	"           AND leased_until OPERATOR(pg_catalog.<=) $2"
	"           FOR UPDATE SKIP LOCKED) o"
	" WHERE l.subscription OPERATOR(pg_catalog.=) $1"
	"   AND l.position OPERATOR(pg_catalog.=) o.position"
	" RETURNING l.position, l.positions, l.streams, l.attempts, l.consumer",
	2, {TEXTOID, TIMESTAMPTZOID}
};

static const EsQuery of_consumer_query = {
	"SELECT position, positions, streams, attempts FROM {es}.leases"
	" WHERE subscription OPERATOR(pg_catalog.=) $1"
	"   AND consumer OPERATOR(pg_catalog.=) $2",
	2, {TEXTOID, TEXTOID}
};

static const EsQuery insert_query = {
	"INSERT INTO {es}.leases"
	" (subscription, consumer, leased_until, position, positions, streams, attempts)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7, {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}
};

#define AS_IT_WAS \
	" WHERE subscription OPERATOR(pg_catalog.=) $1" \
	"   AND consumer OPERATOR(pg_catalog.=) $2" \
	"   AND position OPERATOR(pg_catalog.=) $3" \
	"   AND positions OPERATOR(pg_catalog.=) $4"

static const EsQuery delete_query = {
	"DELETE FROM {es}.leases" AS_IT_WAS,
	4, {TEXTOID, TEXTOID, INT8OID, INT8ARRAYOID}
};

static const EsQuery update_query = {
	"UPDATE {es}.leases SET position = $5, positions = $6, streams = $7, attempts = $8" AS_IT_WAS,
	8, {TEXTOID, TEXTOID, INT8OID, INT8ARRAYOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}
};

/* the first of the positions that is not done, but somewhere else */
static const EsQuery elsewhere_query = {
	"SELECT pg_catalog.min(e.position), (SELECT taken FROM {es}.subscription_cursors"
	"                           WHERE name OPERATOR(pg_catalog.=) $1)"
	" FROM (SELECT position FROM {es}.deliveries"
	"        WHERE subscription OPERATOR(pg_catalog.=) $1"
	"          AND position OPERATOR(pg_catalog.=) ANY ($2)"
	"       UNION ALL"
	"       SELECT p FROM {es}.leases l, pg_catalog.unnest(l.positions) p"
	"        WHERE l.subscription OPERATOR(pg_catalog.=) $1"
	"          AND p OPERATOR(pg_catalog.=) ANY ($2)) e (position)",
	2, {TEXTOID, INT8ARRAYOID}
};

/*
 * Returns 64 bits for a stream.  Where two streams share them, one waits for
 * the other's lease without need, nothing worse.
 */
static int64
stream_hash(text *stream)
{
	return (int64) hash_bytes_extended((unsigned char *) VARDATA_ANY(stream),
									   VARSIZE_ANY_EXHDR(stream), 0);
}

static int
compare_leased(const void *a, const void *b)
{
	const Leased *x = a;
	const Leased *y = b;

	return x->position < y->position ? -1 : x->position > y->position;
}

/*
 * Reads columns 1 to 4 (position, positions, streams, attempts) of a row.
 */
static Lease
parse_lease(HeapTuple tuple, TupleDesc desc)
{
	Lease		lease;
	bool		isnull;
	ArrayType  *positions;
	ArrayType  *streams;
	ArrayType  *attempts = NULL;
	Datum		value;

	lease.key = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	positions = DatumGetArrayTypeP(SPI_getbinval(tuple, desc, 2, &isnull));
	streams = DatumGetArrayTypeP(SPI_getbinval(tuple, desc, 3, &isnull));
	value = SPI_getbinval(tuple, desc, 4, &isnull);

	lease.positions = PointerGetDatum(positions);
	lease.n = ArrayGetNItems(ARR_NDIM(positions), ARR_DIMS(positions));
	es_check_list(positions, lease.n, "leases");
	es_check_list(streams, lease.n, "leases");
	if (!isnull)
	{
		attempts = DatumGetArrayTypeP(value);
		es_check_list(attempts, lease.n, "leases");
	}
	lease.items = palloc(Max(lease.n, 1) * sizeof(Leased));
	for (int i = 0; i < lease.n; i++)
	{
		lease.items[i].position = ((int64 *) ARR_DATA_PTR(positions))[i];
		lease.items[i].stream = ((int64 *) ARR_DATA_PTR(streams))[i];
		lease.items[i].attempts = attempts == NULL ? 0 : ((int32 *) ARR_DATA_PTR(attempts))[i];
	}
	qsort(lease.items, lease.n, sizeof(Leased), compare_leased);
	return lease;
}

/*
 * Fills in the columns positions, streams and attempts; nulls is for them.
 */
static void
make_columns(int n, const Leased *items, Datum *columns, char *nulls)
{
	Datum	   *values = palloc(n * sizeof(Datum));
	bool		attempts = false;

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(items[i].position);
	columns[0] = PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64),
												 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(items[i].stream);
	columns[1] = PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64),
												 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int i = 0; i < n; i++)
	{
		values[i] = Int32GetDatum(items[i].attempts);
		attempts = attempts || items[i].attempts != 0;
	}
	columns[2] = PointerGetDatum(construct_array(values, n, INT4OID, sizeof(int32),
												 true, TYPALIGN_INT));
	nulls[0] = nulls[1] = ' ';
	nulls[2] = attempts ? ' ' : 'n';
}

/*
 * Writes a lease under a key, with those of its events that are left.  False, and
 * nothing is changed, where it is not any more what it was when it was read:
 * another consumer may have been handed the same events after it ran out.
 */
static bool
shrink_lease(EsStore *store, text *subscription, text *consumer, const Lease *lease,
			 int64 key, int nleft, const Leased *left)
{
	Datum		values[8];
	char		nulls[9] = "        ";

	values[0] = PointerGetDatum(subscription);
	values[1] = PointerGetDatum(consumer);
	values[2] = Int64GetDatum(lease->key);
	values[3] = lease->positions;
	if (nleft == 0)
		return es_store_execute_by_index(store, &delete_query, values, NULL) > 0;
	values[4] = Int64GetDatum(key);
	make_columns(nleft, left, &values[5], &nulls[5]);
	return es_store_execute_by_index(store, &update_query, values, nulls) > 0;
}

/*
 * Adds the events of a lease that ran out to "back": the first of each stream
 * as one that failed, the others as they were.
 */
static void
fail_lease(EsSubscription *sub, const Lease *lease, char *error, EsDeliveries *back)
{
	EsPlace    *places;
	int			nplaces;
	int			i = 0;
	HASHCTL		ctl = {0};
	HTAB	   *first;

	typedef struct FirstOfStream
	{
		int64		stream;		/* key */
		TimestampTz parked_at;
	} FirstOfStream;

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(FirstOfStream);
	ctl.hcxt = CurrentMemoryContext;
	first = hash_create("eventsourcing streams of a lease", 256, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* an event that is gone from the log needs no delivery */
	nplaces = es_log_find_places(sub->store, DatumGetArrayTypeP(lease->positions), &places);
	for (int p = 0; p < nplaces; p++)
	{
		EsDelivery *item;
		FirstOfStream *entry;
		bool		found;

		while (lease->items[i].position < places[p].position)
			i++;
		item = es_deliveries_add(back, places[p].position, places[p].stream,
								 lease->items[i].attempts);
		entry = hash_search(first, &lease->items[i].stream, HASH_ENTER, &found);
		if (found)
		{
			item->attempts++;
			item->parked_at = entry->parked_at;
			continue;
		}

		/*
		 * It may be what killed its consumer.  Then it must not drag those
		 * into the parking lot that are only leased together with it.
		 */
		es_subscription_fail(sub, item, 0, false, error);
		if (item->attempts > FAILURES_IN_COMPANY)
			item->company = ES_COMPANY_NONE;
		entry->parked_at = item->parked_at;
	}
	hash_destroy(first);
}

/*
 * Takes back the leases that ran out, but for those that somebody is just
 * acknowledging.
 */
static void
take_back_ran_out(EsSubscription *sub)
{
	EsDeliveries back = {0};
	Datum		values[2];
	uint64		nleases;
	SPITupleTable *leases;

	values[0] = PointerGetDatum(sub->name);
	values[1] = TimestampTzGetDatum(sub->now);
	nleases = es_store_execute_by_index(sub->store, &ran_out_query, values, NULL);
	leases = SPI_tuptable;
	for (uint64 row = 0; row < nleases; row++)
	{
		Lease		lease = parse_lease(leases->vals[row], leases->tupdesc);
		char	   *error = psprintf("the lease of consumer \"%s\" ran out",
									 SPI_getvalue(leases->vals[row], leases->tupdesc, 5));

		fail_lease(sub, &lease, error, &back);
	}
	es_subscription_return(sub, &back);
}

/*
 * Returns the streams that are leased, after having taken back what ran out;
 * allocated in the current memory context.
 */
HTAB *
es_lease_load_streams(EsSubscription *sub)
{
	HASHCTL		ctl = {0};
	HTAB	   *busy;
	Datum		values[2];
	uint64		nleases;
	bool		ran_out = false;
	bool		isnull;

	ctl.keysize = ctl.entrysize = sizeof(int64);
	ctl.hcxt = CurrentMemoryContext;
	busy = hash_create("eventsourcing leased streams", 256, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	SPI_connect();
	values[0] = PointerGetDatum(sub->name);
	values[1] = TimestampTzGetDatum(sub->now);
	nleases = es_store_execute_by_index(sub->store, &busy_query, values, NULL);
	for (uint64 row = 0; row < nleases && !ran_out; row++)
		ran_out = DatumGetBool(es_result_value(row, 2, &isnull));
	if (ran_out)
	{
		take_back_ran_out(sub);
		nleases = es_store_execute_by_index(sub->store, &busy_query, values, NULL);
	}
	for (uint64 row = 0; row < nleases; row++)
	{
		ArrayType  *streams = DatumGetArrayTypeP(es_result_value(row, 1, &isnull));
		int64	   *hash = (int64 *) ARR_DATA_PTR(streams);
		int			n = ArrayGetNItems(ARR_NDIM(streams), ARR_DIMS(streams));

		es_check_list(streams, n, "leases");
		for (int i = 0; i < n; i++)
			(void) hash_search(busy, &hash[i], HASH_ENTER, NULL);
	}
	SPI_finish();
	return busy;
}

bool
es_lease_has_stream(HTAB *streams, text *stream)
{
	int64		hash = stream_hash(stream);

	return hash_search(streams, &hash, HASH_FIND, NULL) != NULL;
}

/*
 * Leases deliveries, one or more, to a consumer.
 */
void
es_lease_create(EsSubscription *sub, text *consumer, TimestampTz until,
				const EsDeliveries *deliveries)
{
	Leased	   *items = palloc(deliveries->n * sizeof(Leased));
	Datum		values[7];
	char		nulls[8] = "       ";

	for (int i = 0; i < deliveries->n; i++)
	{
		items[i].position = deliveries->items[i].position;
		items[i].stream = stream_hash(deliveries->items[i].stream);
		items[i].attempts = deliveries->items[i].attempts;
	}
	values[0] = PointerGetDatum(sub->name);
	values[1] = PointerGetDatum(consumer);
	values[2] = TimestampTzGetDatum(until);
	values[3] = Int64GetDatum(items[0].position);
	make_columns(deliveries->n, items, &values[4], &nulls[4]);

	SPI_connect();
	(void) es_store_execute_by_index(sub->store, &insert_query, values, nulls);
	SPI_finish();
	pfree(items);
}

static void
raise_not_held(text *subscription, text *consumer, int64 position, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_ES_LEASE_LOST),
			 errmsg("consumer \"%s\" of subscription \"%s\" does not hold the event at position " INT64_FORMAT,
					text_to_cstring(consumer), text_to_cstring(subscription), position),
			 errdetail("%s", detail),
			 errhint("Go on with what es_fetch() returns. If work takes longer than the lease, fetch less or ask for a longer one.")));
}

/*
 * Raises ZE013 unless all of the positions, which the consumer does not hold,
 * are done.
 */
static void
check_done(EsStore *store, text *subscription, text *consumer,
		   int n, const int64 *positions)
{
	Datum	   *elements = palloc(Max(n, 1) * sizeof(Datum));
	Datum		values[2];
	bool		is_done;
	bool		unknown;
	int64		lost;
	int64		taken;

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(positions[i]);
	values[0] = PointerGetDatum(subscription);
	values[1] = PointerGetDatum(construct_array(elements, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	(void) es_store_execute_by_index(store, &elsewhere_query, values, NULL);
	lost = DatumGetInt64(es_result_value(0, 1, &is_done));
	taken = DatumGetInt64(es_result_value(0, 2, &unknown));
	if (unknown)
		es_subscription_raise_unknown(store, subscription);
	if (is_done && n > 0 && positions[n - 1] > taken)
	{
		lost = positions[n - 1];
		is_done = false;
	}
	if (!is_done)
		raise_not_held(subscription, consumer, lost, lost > taken ?
					   psprintf("The subscription has not delivered it yet: it has come to position " INT64_FORMAT ".", taken) :
					   "Its lease ran out or was taken back, and the event is delivered again.");
}

static int
compare_int64(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Takes positions out of a consumer's leases and returns how many were in
 * them.  Changes the array.  Raises ZE013 if one is neither there nor done.
 */
int64
es_lease_remove(EsStore *store, text *subscription, text *consumer,
				int npositions, int64 *positions)
{
	bool	   *removed = palloc0(Max(npositions, 1) * sizeof(bool));
	int			ndistinct = 0;
	int64		result = 0;
	int			nmissing = 0;
	Datum		values[2];
	bool		again;

	qsort(positions, npositions, sizeof(int64), compare_int64);
	for (int i = 0; i < npositions; i++)
	{
		if (i == 0 || positions[i] != positions[i - 1])
			positions[ndistinct++] = positions[i];
	}
	npositions = ndistinct;
	values[0] = PointerGetDatum(subscription);
	values[1] = PointerGetDatum(consumer);

	SPI_connect();
	do
	{
		uint64		nleases = es_store_execute_by_index(store, &of_consumer_query, values, NULL);
		SPITupleTable *leases = SPI_tuptable;

		CHECK_FOR_INTERRUPTS();
		ES_WAIT_POINT("ack: read");
		again = false;
		for (uint64 row = 0; row < nleases; row++)
		{
			Lease		lease = parse_lease(leases->vals[row], leases->tupdesc);
			Leased	   *left = palloc(Max(lease.n, 1) * sizeof(Leased));
			int		   *gone = palloc(Max(lease.n, 1) * sizeof(int));
			int			nleft = 0;
			int			ngone = 0;

			for (int i = 0; i < lease.n; i++)
			{
				int64	   *found = bsearch(&lease.items[i].position, positions, npositions,
											sizeof(int64), compare_int64);

				if (found == NULL)
					left[nleft++] = lease.items[i];
				else
					gone[ngone++] = found - positions;
			}
			if (ngone == 0)
				continue;
			if (!shrink_lease(store, subscription, consumer, &lease, lease.key, nleft, left))
			{
				/* somebody was faster: look again */
				again = true;
				continue;
			}
			for (int i = 0; i < ngone; i++)
				removed[gone[i]] = true;
			result += ngone;
		}
	} while (again);

	for (int i = 0; i < npositions; i++)
	{
		if (!removed[i])
			positions[nmissing++] = positions[i];
	}
	if (nmissing > 0 || npositions == 0)
		check_done(store, subscription, consumer, nmissing, positions);
	SPI_finish();
	return result;
}

/*
 * Returns the places of an event in a lease and of those after it that may be of
 * its stream.
 */
static int
find_places_from(EsStore *store, const Lease *lease, const Leased *held,
				 EsPlace **places)
{
	Datum	   *positions = palloc(lease->n * sizeof(Datum));
	int			n = 0;

	for (const Leased *item = held; item < lease->items + lease->n; item++)
	{
		if (item->stream == held->stream)
			positions[n++] = Int64GetDatum(item->position);
	}
	return es_log_find_places(store, construct_array(positions, n, INT8OID, sizeof(int64),
													 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE), places);
}

/*
 * Takes an event back from the consumer who leased it, together with the later
 * ones of its stream that he leased with it, and returns them in order.  Raises
 * ZE013 if he does not hold it, also if it is done: nobody shall believe that it
 * comes again.
 */
EsDeliveries *
es_lease_take_back(EsSubscription *sub, text *consumer, int64 position)
{
	EsDeliveries *back = NULL;
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[2];
	bool		again;

	values[0] = PointerGetDatum(sub->name);
	values[1] = PointerGetDatum(consumer);

	SPI_connect();
	do
	{
		uint64		nleases = es_store_execute_by_index(sub->store, &of_consumer_query, values, NULL);
		SPITupleTable *leases = SPI_tuptable;

		CHECK_FOR_INTERRUPTS();
		again = false;
		for (uint64 row = 0; row < nleases && back == NULL; row++)
		{
			Lease		lease = parse_lease(leases->vals[row], leases->tupdesc);
			Leased	   *left = palloc(Max(lease.n, 1) * sizeof(Leased));
			Leased		key = {position, 0, 0};
			Leased	   *held = bsearch(&key, lease.items, lease.n, sizeof(Leased), compare_leased);
			MemoryContext spi;
			int			nleft = 0;
			EsPlace    *places;
			int			nplaces;

			if (held == NULL)
				continue;

			/*
			 * Places come in the order of the lease's items; where two
			 * streams have one hash, the other's events stay.
			 */
			nplaces = find_places_from(sub->store, &lease, held, &places);
			spi = MemoryContextSwitchTo(caller);
			back = palloc0(sizeof(EsDeliveries));
			for (int p = 0, i = 0; i < lease.n; i++)
			{
				Leased	   *item = &lease.items[i];

				while (p < nplaces && places[p].position < item->position)
					p++;
				if (p < nplaces && places[p].position == item->position &&
					es_same_stream(places[p].stream, places[0].stream))
					es_deliveries_add(back, item->position,
									  DatumGetTextPCopy(PointerGetDatum(places[p].stream)),
									  item->attempts);
				else if (item != held)
					left[nleft++] = *item;
			}
			MemoryContextSwitchTo(spi);
			if (!shrink_lease(sub->store, sub->name, consumer, &lease,
							  nleft > 0 ? left[0].position : 0, nleft, left))
			{
				back = NULL;
				again = true;
				break;
			}
		}
	} while (again);
	if (back == NULL)
	{
		check_done(sub->store, sub->name, consumer, 1, &position);
		raise_not_held(sub->name, consumer, position,
					   "It is done, or never was one of the subscription's.");
	}
	SPI_finish();
	return back;
}
