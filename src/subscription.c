/*-------------------------------------------------------------------------
 *
 * subscription.c
 *		Durable cursors over the store, and what they took and is not done.
 *
 * A subscription has taken every event it wants up to one position.  An event
 * that was taken is in exactly one place until it is done: in a lease, or in
 * the table of deliveries (failed, parked, or waiting behind another event of
 * its stream).  What is done leaves no trace.  So the bookkeeping grows with
 * what is unfinished, not with the age of the store or its number of streams,
 * and a stream that is stuck costs the others nothing.
 *
 * The order of a stream: an event is handed out only while no other event of
 * its stream is leased, and only if none before it is in deliveries.  The first
 * of a stream's deliveries has retry_at, the time when it may be handed out, unless
 * it is parked.  Of those behind it only such have it as were put off to a time
 * that is yet to come, before one that comes first was given back, too: they do
 * not go with what is in front of them, but wait for both.
 *
 * Locks: whoever takes events or writes deliveries holds the subscription's
 * row, to the end of his transaction.  A lease is created under that lock and
 * shrinks without it: an acknowledgement only ever removes positions.  Leases
 * that ran out are taken with SKIP LOCKED, so that nobody waits for a lease
 * while holding the subscription.
 *
 * All of it is read and written as the store's owner.  The events themselves
 * are read as the caller.  Where row security applies to him, what he cannot
 * see is not part of the subscription; so that nobody else's events are lost
 * that way, he may only take from subscriptions that are his own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "clock.h"
#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "read.h"
#include "subscription.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "wake.h"

#define SELECT_FOR_UPDATE \
	"SELECT taken, category, types, tags, max_attempts, backoff, max_backoff, role::pg_catalog.text," \
	" EXISTS (SELECT FROM {es}.handlers h WHERE h.name OPERATOR(pg_catalog.=) $1)" \
	" FROM {es}.subscription_cursors WHERE name OPERATOR(pg_catalog.=) $1" \
	" FOR NO KEY UPDATE"

static const EsQuery lock_query = {
	SELECT_FOR_UPDATE,
	1, {TEXTOID}
};

static const EsQuery try_lock_query = {
	SELECT_FOR_UPDATE " SKIP LOCKED",
	1, {TEXTOID}
};

static const EsQuery position_query = {
	"SELECT position FROM {es}.subscriptions WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery idle_query = {
	"SELECT c.taken,"
	" EXISTS (SELECT FROM {es}.leases l WHERE l.subscription OPERATOR(pg_catalog.=) $1"
	"         AND l.leased_until OPERATOR(pg_catalog.<=) $2)"
	" OR EXISTS (SELECT FROM {es}.deliveries d WHERE d.subscription OPERATOR(pg_catalog.=) $1"
	"            AND d.retry_at OPERATOR(pg_catalog.<=) $2)"
	" FROM {es}.subscription_cursors c WHERE c.name OPERATOR(pg_catalog.=) $1",
	2, {TEXTOID, TIMESTAMPTZOID}
};

static const EsQuery set_taken_query = {
	"UPDATE {es}.subscription_cursors SET taken = $2"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	2, {TEXTOID, INT8OID}
};

/*
 * The first delivery of each of the streams $2.  Whoever writes deliveries holds
 * the subscription, so a row stays where it is while a statement runs.
 */
#define FIRST_OF_STREAMS(condition) \
	" WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(" \
	"     SELECT f.ctid" \
	"       FROM (SELECT DISTINCT u COLLATE pg_catalog.\"C\" AS stream FROM pg_catalog.unnest($2) u) s" \
	"      CROSS JOIN LATERAL (SELECT d.ctid, d.retry_at, d.parked_at" \
	"                            FROM {es}.deliveries d" \
	"                           WHERE d.subscription OPERATOR(pg_catalog.=) $1" \
	"                             AND d.stream OPERATOR(pg_catalog.=) s.stream" \
	"                           ORDER BY d.position LIMIT 1) f" \
	"      WHERE " condition "))"

/* what comes after the events taken may go when their lease is over */
static const EsQuery promote_query = {
	"UPDATE {es}.deliveries SET retry_at = $3"
	FIRST_OF_STREAMS("f.retry_at IS NULL AND f.parked_at IS NULL"),
	3, {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

/* but what was put off stays so */
static const EsQuery demote_query = {
	"UPDATE {es}.deliveries SET retry_at = NULL"
	FIRST_OF_STREAMS("f.retry_at OPERATOR(pg_catalog.<=) $3"),
	3, {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static const EsQuery park_query = {
	"UPDATE {es}.deliveries d SET parked_at = $3, retry_at = NULL"
	" WHERE d.subscription OPERATOR(pg_catalog.=) $1"
	" AND d.stream OPERATOR(pg_catalog.=) ANY ($2)"
	" AND d.parked_at IS NULL",
	3, {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static const EsQuery insert_deliveries_query = {
	"INSERT INTO {es}.deliveries"
	" (subscription, stream, position, attempts, retry_at, parked_at, company, error)"
	" SELECT $1, n.* FROM unnest($2, $3, $4, $5, $6, $7, $8) n",
	8, {TEXTOID, TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, CHARARRAYOID, TEXTARRAYOID}
};

#define UNPARK(condition) \
	"UPDATE {es}.deliveries SET parked_at = NULL, attempts = 0, company = 'a', error = NULL" \
	" WHERE subscription OPERATOR(pg_catalog.=) $1" condition \
	" AND parked_at IS NOT NULL" \
	" RETURNING stream"

static const EsQuery unpark_query = {
	UNPARK(" AND stream OPERATOR(pg_catalog.=) $2"),
	2, {TEXTOID, TEXTOID}
};

static const EsQuery unpark_all_query = {
	UNPARK(""),
	1, {TEXTOID}
};

static const EsQuery forget_leases_query = {
	"DELETE FROM {es}.leases WHERE subscription OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery forget_deliveries_query = {
	"DELETE FROM {es}.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

/*
 * Raises 42501 unless the caller has a right on the view of subscriptions.  The
 * view cannot be written to, so there the right is a mark: INSERT to create a
 * subscription, UPDATE to consume and administer one, DELETE to drop one.
 */
void
es_subscription_check_right(EsStore *store, AclMode right, const char *action)
{
	if (!OidIsValid(store->subscriptions))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" lacks its view \"subscriptions\"", NameStr(store->name)),
				 errhint("Bring it back with SELECT es_upgrade_store(%s).",
						 quote_literal_cstr(NameStr(store->name)))));
	if (pg_class_aclcheck(store->subscriptions, GetUserId(), right) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s of event store \"%s\"", action, NameStr(store->name)),
				 right == ACL_DELETE ?
				 errhint("The store's owner can allow it: GRANT DELETE ON %s.subscriptions TO %s.",
						 quote_identifier(NameStr(store->name)),
						 quote_identifier(GetUserNameFromId(GetUserId(), false))) :
				 errhint("The store's owner can allow it: SELECT es_grant(%s, 'consumer').",
						 quote_literal_cstr(GetUserNameFromId(GetUserId(), false)))));
}

void
es_subscription_raise_unknown(EsStore *store, text *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("subscription \"%s\" does not exist", text_to_cstring(name)),
			 errhint("The view %s.subscriptions lists those that there are; es_create_subscription() creates one.",
					 quote_identifier(NameStr(store->name)))));
}

static EsSubscription *
lock(EsStore *store, text *name, const EsQuery *query)
{
	EsSubscription *sub = palloc0(sizeof(EsSubscription));
	Datum		value = PointerGetDatum(name);
	text	   *role;
	bool		isnull;

	SPI_connect();
	if (es_store_execute_by_index(store, query, &value, NULL) == 0)
	{
		SPI_finish();
		return NULL;
	}
	sub->store = store;
	sub->name = name;
	sub->now = es_clock_now();
	sub->taken = DatumGetInt64(es_result_value(0, 1, &isnull));
	sub->category = es_result_copy(0, 2);
	sub->types = es_result_copy(0, 3);
	sub->tags = es_result_copy(0, 4);
	sub->max_attempts = DatumGetInt32(es_result_value(0, 5, &isnull));
	sub->backoff = es_clock_interval_usec(DatumGetIntervalP(es_result_value(0, 6, &isnull)));
	sub->max_backoff = es_clock_interval_usec(DatumGetIntervalP(es_result_value(0, 7, &isnull)));
	role = es_result_copy(0, 8);
	sub->is_handler = DatumGetBool(es_result_value(0, 9, &isnull));
	SPI_finish();
	sub->role = text_to_cstring(role);
	return sub;
}

/*
 * Locks a subscription to the end of the transaction and returns it, allocated
 * in the current memory context.  Excludes everybody else who would take from
 * it or write its deliveries.  Raises 42704 where there is none.
 */
EsSubscription *
es_subscription_lock(EsStore *store, text *name)
{
	EsSubscription *sub = lock(store, name, &lock_query);

	if (sub == NULL)
		es_subscription_raise_unknown(store, name);
	return sub;
}

/*
 * The same, but returns NULL where there is none or somebody else holds it.
 */
EsSubscription *
es_subscription_try_lock(EsStore *store, text *name)
{
	return lock(store, name, &try_lock_query);
}

/*
 * Returns the position up to which everything is done or parked, -1 where there
 * is no such subscription.
 */
int64
es_subscription_position(EsStore *store, text *name)
{
	Datum		value = PointerGetDatum(name);
	int64		position = -1;
	bool		isnull;

	SPI_connect();
	if (es_store_select_latest(store, &position_query, &value, NULL) > 0)
		position = DatumGetInt64(es_result_value(0, 1, &isnull));
	SPI_finish();
	return position;
}

/*
 * Returns the position up to which a subscription may take from the log: upto,
 * if that is known to be settled, or what es_read_limit() says.
 */
int64
es_subscription_limit(EsStore *store, int64 taken, int64 upto)
{
	return upto == ES_UPTO_SETTLED ? es_read_limit(store, taken) : upto;
}

/*
 * Whether there is nothing to take up to a position at the moment, as far as can
 * be told without a lock: what an idle consumer asks every time costs no write.
 * Raises 42704 where there is no such subscription.
 */
bool
es_subscription_is_idle(EsStore *store, text *name, int64 upto)
{
	Datum		values[2];
	int64		taken;
	bool		due;
	bool		isnull;

	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(es_clock_now());
	SPI_connect();
	if (es_store_execute_by_index(store, &idle_query, values, NULL) == 0)
		es_subscription_raise_unknown(store, name);
	taken = DatumGetInt64(es_result_value(0, 1, &isnull));
	due = DatumGetBool(es_result_value(0, 2, &isnull));
	SPI_finish();
	return !due && es_subscription_limit(store, taken, upto) <= taken;
}

bool
es_same_stream(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/*
 * Adds an item and returns it, with no further ones given.
 */
EsDelivery *
es_deliveries_add(EsDeliveries *deliveries, int64 position, text *stream,
				  int attempts)
{
	EsDelivery *item;

	if (deliveries->n == deliveries->allocated)
	{
		Size		size;

		deliveries->allocated = Max(deliveries->allocated * 2, 64);
		size = deliveries->allocated * sizeof(EsDelivery);
		if (deliveries->items != NULL)
			deliveries->items = repalloc_huge(deliveries->items, size);
		else if (deliveries->context != NULL)
			deliveries->items = MemoryContextAlloc(deliveries->context, size);
		else
			deliveries->items = palloc(size);
	}
	item = &deliveries->items[deliveries->n++];
	memset(item, 0, sizeof(*item));
	item->position = position;
	item->stream = stream;
	item->attempts = attempts;
	item->company = ES_COMPANY_ANY;
	return item;
}

/*
 * Returns the deliveries' columns as arrays.
 */
Datum
es_deliveries_streams(const EsDeliveries *d)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));

	for (int i = 0; i < d->n; i++)
		values[i] = PointerGetDatum(d->items[i].stream);
	return PointerGetDatum(construct_array(values, d->n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
es_deliveries_positions(const EsDeliveries *d)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));

	for (int i = 0; i < d->n; i++)
		values[i] = Int64GetDatum(d->items[i].position);
	return PointerGetDatum(construct_array(values, d->n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum
es_deliveries_attempts(const EsDeliveries *d)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));

	for (int i = 0; i < d->n; i++)
		values[i] = Int32GetDatum(d->items[i].attempts);
	return PointerGetDatum(construct_array(values, d->n, INT4OID, sizeof(int32),
										   true, TYPALIGN_INT));
}

Datum
es_deliveries_company(const EsDeliveries *d)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));

	for (int i = 0; i < d->n; i++)
		values[i] = CharGetDatum(d->items[i].company);
	return PointerGetDatum(construct_array(values, d->n, CHAROID, 1, true, TYPALIGN_CHAR));
}

static Datum
times_array(const EsDeliveries *d, size_t field)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(d->n, 1) * sizeof(bool));
	int			lower = 1;

	for (int i = 0; i < d->n; i++)
	{
		TimestampTz time = *(TimestampTz *) ((char *) &d->items[i] + field);

		nulls[i] = time == 0;
		values[i] = TimestampTzGetDatum(time);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, (int *) &d->n, &lower,
											  TIMESTAMPTZOID, sizeof(TimestampTz),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
errors_array(const EsDeliveries *d)
{
	Datum	   *values = palloc(Max(d->n, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(d->n, 1) * sizeof(bool));
	int			lower = 1;

	for (int i = 0; i < d->n; i++)
	{
		nulls[i] = d->items[i].error == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(d->items[i].error);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, (int *) &d->n, &lower,
											  TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Writes deliveries as they are.
 */
void
es_subscription_insert(EsSubscription *sub, const EsDeliveries *d)
{
	Datum		values[8];

	values[0] = PointerGetDatum(sub->name);
	values[1] = es_deliveries_streams(d);
	values[2] = es_deliveries_positions(d);
	values[3] = es_deliveries_attempts(d);
	values[4] = times_array(d, offsetof(EsDelivery, retry_at));
	values[5] = times_array(d, offsetof(EsDelivery, parked_at));
	values[6] = es_deliveries_company(d);
	values[7] = errors_array(d);
	(void) es_store_execute_by_index(sub->store, &insert_deliveries_query, values, NULL);
}

/*
 * Gives the first delivery of each of the streams a time, now, if it has none
 * and is not parked.
 */
void
es_subscription_promote(EsSubscription *sub, Datum streams)
{
	Datum		values[3];

	values[0] = PointerGetDatum(sub->name);
	values[1] = streams;
	values[2] = TimestampTzGetDatum(sub->now);
	(void) es_store_execute_by_index(sub->store, &promote_query, values, NULL);
}

/*
 * Gives back events that come before all others of their streams.
 */
void
es_subscription_return(EsSubscription *sub, EsDeliveries *deliveries)
{
	EsDeliveries parked = {0};
	Datum		values[3];

	if (deliveries->n == 0)
		return;
	for (int i = 0; i < deliveries->n; i++)
	{
		EsDelivery *item = &deliveries->items[i];

		if (item->parked_at != 0)
			es_deliveries_add(&parked, item->position, item->stream, 0);
	}

	SPI_connect();
	values[0] = PointerGetDatum(sub->name);
	values[1] = es_deliveries_streams(deliveries);
	values[2] = TimestampTzGetDatum(sub->now);
	(void) es_store_execute_by_index(sub->store, &demote_query, values, NULL);
	es_subscription_insert(sub, deliveries);
	if (parked.n > 0)
	{
		values[1] = es_deliveries_streams(&parked);
		(void) es_store_execute_by_index(sub->store, &park_query, values, NULL);
	}
	SPI_finish();
}

/*
 * Fills in when an event that failed is to be tried again (after retry_in
 * microseconds, or the back-off), or that it parks.  It is for
 * es_subscription_return() to store it.
 */
void
es_subscription_fail(EsSubscription *sub, EsDelivery *delivery, int64 retry_in,
					 bool park, char *error)
{
	delivery->attempts++;
	delivery->error = error;
	es_wake_count(park || delivery->attempts >= sub->max_attempts ?
				  ES_COUNT_PARKED : ES_COUNT_RETRIED, 1);
	if (park || delivery->attempts >= sub->max_attempts)
	{
		delivery->parked_at = sub->now;
		return;
	}
	if (retry_in == ES_RETRY_BACKOFF)
	{
		double		wait = (double) sub->backoff;

		for (int i = 1; i < delivery->attempts && wait < sub->max_backoff; i++)
			wait *= 2;
		wait = Min(wait, (double) sub->max_backoff);

		/* jitter: streams that failed together don't come back together */
		retry_in = (int64) (wait * (0.5 + pg_prng_double(&pg_global_prng_state) / 2));
	}
	if (retry_in > DT_NOEND - 1 - sub->now)
		delivery->retry_at = DT_NOEND;
	else
		delivery->retry_at = sub->now + retry_in;
}

/*
 * Gives back a delivery that failed, and with it all later ones of its stream,
 * which wait behind it; they leave the array.  "delivered" says that those were
 * handed out, too.
 */
void
es_subscription_give_back(EsSubscription *sub, EsDeliveries *deliveries, int failed,
						  EsCompany company, int64 retry_in, bool park,
						  bool delivered, char *error)
{
	EsDeliveries back = {0};
	EsDelivery *first = es_deliveries_add(&back, 0, NULL, 0);
	int			kept = failed;

	*first = deliveries->items[failed];
	es_subscription_fail(sub, first, retry_in, park, error);
	first->company = company;
	for (int i = failed + 1; i < deliveries->n; i++)
	{
		EsDelivery *item = &deliveries->items[i];

		if (es_same_stream(item->stream, back.items[0].stream))
		{
			EsDelivery *behind = es_deliveries_add(&back, item->position, item->stream,
												   item->attempts + (delivered ? 1 : 0));

			behind->parked_at = back.items[0].parked_at;
		}
		else
			deliveries->items[kept++] = *item;
	}
	deliveries->n = kept;
	es_subscription_return(sub, &back);
}

/*
 * Has parked events of a stream, or of all with NULL, delivered again; returns
 * how many there were.
 */
int64
es_subscription_unpark(EsSubscription *sub, text *stream)
{
	EsDeliveries unparked = {0};
	Datum		values[2];
	uint64		n;

	values[0] = PointerGetDatum(sub->name);
	values[1] = PointerGetDatum(stream);
	SPI_connect();
	n = es_store_execute_by_index(sub->store, stream == NULL ? &unpark_all_query : &unpark_query,
								  values, NULL);
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;

		es_deliveries_add(&unparked, 0, DatumGetTextPP(es_result_value(row, 1, &isnull)), 0);
	}
	if (n > 0)
		es_subscription_promote(sub, es_deliveries_streams(&unparked));
	SPI_finish();
	return (int64) n;
}

/*
 * Forgets what was taken and is not done.
 */
void
es_subscription_forget(EsSubscription *sub)
{
	Datum		value = PointerGetDatum(sub->name);

	SPI_connect();
	(void) es_store_execute_by_index(sub->store, &forget_leases_query, &value, NULL);
	(void) es_store_execute_by_index(sub->store, &forget_deliveries_query, &value, NULL);
	SPI_finish();
}

void
es_subscription_set_taken(EsSubscription *sub, int64 taken)
{
	Datum		values[2];

	values[0] = PointerGetDatum(sub->name);
	values[1] = Int64GetDatum(taken);
	SPI_connect();
	(void) es_store_execute_by_index(sub->store, &set_taken_query, values, NULL);
	SPI_finish();
	sub->taken = taken;
}
