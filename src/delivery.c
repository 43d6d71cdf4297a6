/*-------------------------------------------------------------------------
 *
 * delivery.c
 *		Which events of a subscription may be delivered next.
 *
 * First come those in the table of deliveries whose time has come, then new
 * ones from the log.  A new one whose stream is not free goes into the table,
 * and reading goes on behind it: so a stream that is stuck delays no other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "attempt.h"
#include "catalog/pg_type.h"
#include "catalog.h"
#include "delivery.h"
#include "lease.h"
#include "log.h"
#include "miscadmin.h"
#include "read.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rls.h"

/*
 * One call reads up to so many times more of the log than it may deliver, if
 * what it reads has to wait.
 */
#define READ_AHEAD	10

/*
 * Positions that are looked at first; four times as many after each time that
 * they did not suffice.  So a fetch does not take a look at all that is left,
 * which a plan may do that sorts what it finds.
 */
#define WINDOW_FIRST	2000

/* of each stream the first, or none */
static const EsQuery due_query = {
	"SELECT stream, position, attempts, company FROM {es}.deliveries d"
	" WHERE subscription OPERATOR(pg_catalog.=) $1"
	" AND retry_at OPERATOR(pg_catalog.<=) $2"
	" AND NOT EXISTS (SELECT FROM {es}.deliveries f"
	"                  WHERE f.subscription OPERATOR(pg_catalog.=) $1"
	"                    AND f.stream OPERATOR(pg_catalog.=) d.stream"
	"                    AND f.position OPERATOR(pg_catalog.<) d.position)"
	" ORDER BY retry_at LIMIT $3",
	3, {TEXTOID, TIMESTAMPTZOID, INT8OID}
};

/* what is parked comes behind all that is not, and stays */
static const EsQuery next_of_streams_query = {
	"SELECT d.stream, d.position, d.attempts, d.retry_at OPERATOR(pg_catalog.>) $5"
	" FROM unnest($2, $4) WITH ORDINALITY s (stream, company, n)"
	" CROSS JOIN LATERAL (SELECT * FROM {es}.deliveries"
	"                      WHERE subscription OPERATOR(pg_catalog.=) $1"
	"                        AND stream OPERATOR(pg_catalog.=) s.stream"
	"                        AND parked_at IS NULL"
	"                      ORDER BY position"
	"                      LIMIT CASE WHEN s.company OPERATOR(pg_catalog.=) 'a' THEN $3 ELSE 1 END) d"
	" ORDER BY s.n, d.position LIMIT $3",
	5, {TEXTOID, TEXTARRAYOID, INT8OID, CHARARRAYOID, TIMESTAMPTZOID}
};

static const EsQuery take_deliveries_query = {
	"DELETE FROM {es}.deliveries"
	" WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
	"     SELECT f.ctid FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) t (stream, position)"
	"      CROSS JOIN LATERAL (SELECT d.ctid FROM {es}.deliveries d"
	"                           WHERE d.subscription OPERATOR(pg_catalog.=) $1"
	"                             AND d.stream OPERATOR(pg_catalog.=) t.stream"
	"                             AND d.position OPERATOR(pg_catalog.=) t.position"
	"                           LIMIT 1) f))",
	3, {TEXTOID, TEXTARRAYOID, INT8ARRAYOID}
};

static const EsQuery any_delivery_query = {
	"SELECT 1 FROM {es}.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 LIMIT 1",
	1, {TEXTOID}
};

/* for each stream: NULL, or whether its last delivery is parked */
static const EsQuery stream_state_query = {
	"SELECT (SELECT d.parked_at IS NOT NULL FROM {es}.deliveries d"
	"         WHERE d.subscription OPERATOR(pg_catalog.=) $1"
	"           AND d.stream OPERATOR(pg_catalog.=) s.stream"
	"         ORDER BY d.position DESC LIMIT 1)"
	" FROM pg_catalog.unnest($2) WITH ORDINALITY s (stream, n) ORDER BY s.n",
	2, {TEXTOID, TEXTARRAYOID}
};

/*
 * Returns a copy of an event in the current memory context.
 */
static EsEvent *
copy_event(const EsEvent *event)
{
	EsEvent    *copy = palloc(sizeof(EsEvent));

	*copy = *event;
	for (int i = 0; i < ES_EVENT_NATTS; i++)
	{
		if (event->nulls[i])
			continue;
		switch (i)
		{
			case ES_EVENT_POSITION:
			case ES_EVENT_VERSION:
			case ES_EVENT_RECORDED_AT:
				copy->values[i] = datumCopy(event->values[i], FLOAT8PASSBYVAL, sizeof(int64));
				break;
			case ES_EVENT_EVENT_ID:
				copy->values[i] = datumCopy(event->values[i], false, UUID_LEN);
				break;
			default:
				copy->values[i] = datumCopy(event->values[i], false, -1);
		}
	}
	return copy;
}

static int
compare_positions(const void *a, const void *b)
{
	const EsDelivery *x = *(const EsDelivery *const *) a;
	const EsDelivery *y = *(const EsDelivery *const *) b;

	return x->position < y->position ? -1 : x->position > y->position;
}

/* Gives the deliveries, an array of pointers sorted by position, their events. */
typedef struct Matcher
{
	EsDelivery **sorted;
	int			n;
	MemoryContext context;
} Matcher;

static bool
match_event(const EsEvent *event, void *arg)
{
	Matcher    *matcher = arg;
	EsDelivery	key;
	EsDelivery *wanted = &key;
	EsDelivery **found;
	MemoryContext oldcontext;

	key.position = EsEventPosition(event);
	found = bsearch(&wanted, matcher->sorted, matcher->n, sizeof(EsDelivery *), compare_positions);
	oldcontext = MemoryContextSwitchTo(matcher->context);
	(*found)->event = copy_event(event);
	MemoryContextSwitchTo(oldcontext);
	return true;
}

/*
 * Reads the events of deliveries as the caller, and drops those that are not
 * there any more.
 */
static void
load_events(EsSubscription *sub, EsDeliveries *d)
{
	Matcher		matcher;
	int			kept = 0;

	if (d->n == 0)
		return;
	matcher.n = d->n;
	matcher.sorted = palloc(d->n * sizeof(EsDelivery *));
	matcher.context = d->context;
	for (int i = 0; i < d->n; i++)
		matcher.sorted[i] = &d->items[i];
	qsort(matcher.sorted, d->n, sizeof(EsDelivery *), compare_positions);
	es_log_scan_list(sub->store, DatumGetArrayTypeP(es_deliveries_positions(d)), match_event, &matcher);

	for (int i = 0; i < d->n; i++)
	{
		if (d->items[i].event != NULL)
			d->items[kept++] = d->items[i];
	}
	d->n = kept;
}

/*
 * Moves deliveries whose time has come out of the table, into the result.
 * Returns whether that is a single one that has to stay alone.
 */
static bool
take_due(EsSubscription *sub, HTAB *busy, int max_count, EsDeliveries *result)
{
	EsDeliveries chosen = {0};
	Datum		values[5];
	uint64		ndue;
	bool		alone = false;
	text	   *put_off = NULL;
	Datum		streams;

	values[0] = PointerGetDatum(sub->name);
	values[1] = TimestampTzGetDatum(sub->now);
	values[2] = Int64GetDatum((int64) max_count + hash_get_num_entries(busy));
	ndue = es_store_execute_by_index(sub->store, &due_query, values, NULL);
	for (uint64 row = 0; row < ndue && chosen.n < max_count; row++)
	{
		bool		isnull;
		text	   *stream = DatumGetTextPP(es_result_value(row, 1, &isnull));
		char		company = DatumGetChar(es_result_value(row, 4, &isnull));

		if (es_lease_has_stream(busy, stream) ||
			(company == ES_COMPANY_NONE && chosen.n > 0))
			continue;
		es_deliveries_add(&chosen, DatumGetInt64(es_result_value(row, 2, &isnull)), stream,
						  DatumGetInt32(es_result_value(row, 3, &isnull)))->company = company;
		if (company == ES_COMPANY_NONE)
		{
			alone = true;
			break;
		}
	}
	if (chosen.n == 0)
		return false;

	values[1] = es_deliveries_streams(&chosen);
	values[2] = Int64GetDatum(max_count);
	values[3] = es_deliveries_company(&chosen);
	values[4] = TimestampTzGetDatum(sub->now);
	ndue = es_store_execute_by_index(sub->store, &next_of_streams_query, values, NULL);
	for (uint64 row = 0; row < ndue; row++)
	{
		bool		isnull;
		text	   *stream = DatumGetTextPP(es_result_value(row, 1, &isnull));

		/* a stream goes on up to one that is put off */
		if (put_off != NULL && es_same_stream(stream, put_off))
			continue;
		if (DatumGetBool(es_result_value(row, 4, &isnull)) && !isnull)
			put_off = stream;
		else
			es_deliveries_add(result, DatumGetInt64(es_result_value(row, 2, &isnull)),
							  es_result_copy(row, 1), DatumGetInt32(es_result_value(row, 3, &isnull)));
	}

	streams = es_deliveries_streams(result);
	values[1] = streams;
	values[2] = es_deliveries_positions(result);
	(void) es_store_execute_by_index(sub->store, &take_deliveries_query, values, NULL);
	es_subscription_promote(sub, streams);
	load_events(sub, result);
	return alone;
}

/* What the scan of the log fills. */
typedef struct Collector
{
	EsDeliveries *deliveries;
	MemoryContext context;
} Collector;

static bool
collect_event(const EsEvent *event, void *arg)
{
	Collector  *collector = arg;
	MemoryContext oldcontext = MemoryContextSwitchTo(collector->context);
	EsEvent    *copy = copy_event(event);

	es_deliveries_add(collector->deliveries, EsEventPosition(copy),
					  DatumGetTextP(copy->values[ES_EVENT_STREAM]), 0)->event = copy;
	MemoryContextSwitchTo(oldcontext);
	return true;
}

/*
 * Puts the events of streams that are not free into the table of deliveries,
 * behind what is there, and the others into the result.
 */
static void
sort_out(EsSubscription *sub, HTAB *busy, EsDeliveries *events, EsDeliveries *result)
{
	EsDeliveries waiting = {0};
	Datum		values[2];
	bool		any_delivery;

	values[0] = PointerGetDatum(sub->name);
	any_delivery = es_store_execute_by_index(sub->store, &any_delivery_query, values, NULL) > 0;
	if (any_delivery)
	{
		values[1] = es_deliveries_streams(events);
		(void) es_store_execute_by_index(sub->store, &stream_state_query, values, NULL);
	}
	for (int i = 0; i < events->n; i++)
	{
		EsDelivery *item = &events->items[i];
		bool		blocked_by_delivery = false;
		bool		parked = false;

		if (any_delivery)
		{
			bool		isnull;

			parked = DatumGetBool(es_result_value(i, 1, &isnull));
			blocked_by_delivery = !isnull;
			parked = parked && !isnull;
		}
		if (blocked_by_delivery || es_lease_has_stream(busy, item->stream))
		{
			if (parked)
				item->parked_at = sub->now;
			*es_deliveries_add(&waiting, 0, NULL, 0) = *item;
		}
		else
			*es_deliveries_add(result, 0, NULL, 0) = *item;
	}
	if (waiting.n > 0)
	{
		es_subscription_insert(sub, &waiting);
		es_subscription_promote(sub, es_deliveries_streams(&waiting));
	}
}

/*
 * Takes what comes next from the log, up to a position, as long as the result
 * has not max_count.
 */
static void
take_new(EsSubscription *sub, HTAB *busy, int max_count, int64 upto,
		 EsDeliveries *result)
{
	int64		limit = es_subscription_limit(sub->store, sub->taken, upto);
	int64		taken = sub->taken;
	int64		budget = (int64) max_count * READ_AHEAD;
	int64		window = WINDOW_FIRST;

	while (taken < limit && result->n < max_count && budget > 0)
	{
		EsDeliveries events = {0};
		Collector	collector = {&events, result->context};
		EsPositionRange range = {0};

		CHECK_FOR_INTERRUPTS();
		range.after = taken;
		range.upto = limit - taken > window ? taken + window : limit;
		window = Min(window, PG_INT64_MAX / 4) * 4;
		range.max_count = max_count - result->n;
		range.category = sub->category;
		range.types = sub->types == NULL ? NULL : es_upcast_types(sub->store, sub->types);
		range.tags = sub->tags == NULL || ARR_NDIM(sub->tags) == 0 ? NULL : sub->tags;
		es_log_scan_positions(sub->store, &range, collect_event, &collector);

		if (events.n < range.max_count)
			taken = range.upto;
		else
			taken = events.items[events.n - 1].position;
		budget -= events.n;
		if (events.n > 0)
			sort_out(sub, busy, &events, result);
	}
	if (taken != sub->taken)
		es_subscription_set_taken(sub, taken);
}

/*
 * Raises 42501 where row security hides events from the caller and the
 * subscription is not his own.
 */
static void
check_row_security(EsSubscription *sub)
{
	const char *user;

	if (check_enable_rls(sub->store->events, InvalidOid, true) != RLS_ENABLED)
		return;
	user = GetUserNameFromId(GetUserId(), false);
	if (strcmp(user, sub->role) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot consume subscription \"%s\"",
						user, text_to_cstring(sub->name)),
				 errdetail("Row security may hide events of the subscription, which role \"%s\" created, from role \"%s\", and they would be lost.",
						   sub->role, user),
				 errhint("Create a subscription as role \"%s\": it has the events that this role may see.",
						 user)));
}

/* An event that is being lifted. */
typedef struct Lifting
{
	EsUpcast   *upcast;
	EsEvent    *event;			/* NULL if an upcaster drops it */
} Lifting;

static void
lift(void *arg)
{
	Lifting    *lifting = arg;
	EsEvent		event = *lifting->event;

	lifting->event = es_upcast_event(lifting->upcast, &event) ? copy_event(&event) : NULL;
}

/*
 * Lifts the events to today's shape.  One whose upcaster fails is given back as
 * a failure of its own, so that it does not stop the subscription.  Returns how
 * many are left out because an upcaster drops them.
 */
static int
upcast_events(EsSubscription *sub, EsDeliveries *d)
{
	EsUpcast   *upcast = es_upcast_begin(sub->store);
	int			ndropped = 0;

	if (upcast == NULL)
		return 0;
	for (int i = 0; i < d->n;)
	{
		EsDelivery *item = &d->items[i];
		Lifting		lifting = {upcast, item->event};
		char	   *error = es_attempt_message(lift, &lifting, d->context);

		if (error != NULL)
			es_subscription_give_back(sub, d, i, ES_COMPANY_OTHERS, ES_RETRY_BACKOFF,
									  false, false, error);
		else if (lifting.event != NULL)
		{
			item->event = lifting.event;
			i++;
		}
		else
		{
			/* a type that is no more: done */
			memmove(item, item + 1, (d->n - i - 1) * sizeof(EsDelivery));
			d->n--;
			ndropped++;
		}
	}
	es_upcast_end(upcast);
	return ndropped;
}

/*
 * Takes up to max_count events that may be delivered now, new ones only up to a
 * position, and returns them, those of one stream in order, allocated in the current memory
 * context.
 */
EsDeliveries *
es_delivery_take(EsSubscription *sub, int max_count, int64 upto)
{
	EsDeliveries *result = palloc0(sizeof(EsDeliveries));
	int			ndropped;

	check_row_security(sub);
	result->context = CurrentMemoryContext;

	/* nothing but dropped events must not look like the end */
	do
	{
		HTAB	   *busy;

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		busy = es_lease_load_streams(sub);
		if (!take_due(sub, busy, max_count, result))
			take_new(sub, busy, max_count, upto, result);
		SPI_finish();
		ndropped = upcast_events(sub, result);
	} while (result->n == 0 && ndropped > 0);
	return result;
}
