/*-------------------------------------------------------------------------
 *
 * consume.c
 *		What consumers and administrators of subscriptions call.
 *
 * Every function checks the caller's right first, see
 * es_subscription_check_right(), and then works on the bookkeeping as the
 * store's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "consume.h"
#include "delivery.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lease.h"
#include "log.h"
#include "miscadmin.h"
#include "read.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(es_ack);
PG_FUNCTION_INFO_V1(es_create_subscription);
PG_FUNCTION_INFO_V1(es_drop_subscription);
PG_FUNCTION_INFO_V1(es_fetch);
PG_FUNCTION_INFO_V1(es_nack);
PG_FUNCTION_INFO_V1(es_reset_subscription);
PG_FUNCTION_INFO_V1(es_unpark);

/* es_event, attempt, leased_until */
#define DELIVERY_NATTS	(ES_EVENT_NATTS + 2)

#define MAX_NAME_LENGTH	512

static const EsQuery create_query = {
	"INSERT INTO {es}.subscription_cursors"
	" (name, category, types, tags, taken, max_attempts, backoff, max_backoff, role)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
	" ON CONFLICT DO NOTHING",
	9, {TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, INT4OID,
	INTERVALOID, INTERVALOID, NAMEOID}
};

static const EsQuery drop_query = {
	"WITH handler AS (DELETE FROM {es}.handlers WHERE name OPERATOR(pg_catalog.=) $1)"
	" DELETE FROM {es}.subscription_cursors WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

/*
 * Returns argument n, a position to start after.
 */
static int64
get_after(FunctionCallInfo fcinfo, int n, EsStore *store)
{
	int64		after;
	int64		limit;

	es_check_argument(fcinfo, n, "after");
	after = PG_GETARG_INT64(n);
	if (after == 0)
		return after;
	limit = Max(es_read_limit(store, 0), es_log_head(store));
	if (after < 0 || after > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"after\" must be between 0 and the last position, " INT64_FORMAT ", but is " INT64_FORMAT,
						limit, after),
				 errhint("0 starts with the first event, es_safe_position() with the next one.")));
	return after;
}

/*
 * Creates the subscription that a call describes: its argument 0 is the name,
 * those from "first" on are category, types, tags, after, max_attempts, backoff
 * and max_backoff.  Returns the name.
 */
text *
es_consume_create(FunctionCallInfo fcinfo, EsStore *store, int first, const char *role)
{
	NameData	role_name;
	Datum		values[9];
	char		nulls[10] = "         ";

	values[0] = PointerGetDatum(es_get_name(fcinfo, 0, "name", MAX_NAME_LENGTH));
	for (int i = 0; i < 7; i++)
	{
		values[1 + i] = PG_GETARG_DATUM(first + i);
		nulls[1 + i] = PG_ARGISNULL(first + i) ? 'n' : ' ';
	}
	(void) es_get_types(fcinfo, first + 1);
	if (!PG_ARGISNULL(first + 2) && ARR_NDIM(PG_GETARG_ARRAYTYPE_P(first + 2)) > 0)
		(void) es_get_list(fcinfo, first + 2, "tags", "Leave it out, or pass NULL, for events with any tags and none.");
	values[4] = Int64GetDatum(get_after(fcinfo, first + 3, store));
	es_check_argument(fcinfo, first + 4, "max_attempts");
	if (DatumGetInt32(values[5]) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts must be at least 1, but is %d", DatumGetInt32(values[5]))));
	(void) es_clock_get_duration(fcinfo, first + 5, "backoff", true);
	(void) es_clock_get_duration(fcinfo, first + 6, "max_backoff", true);
	namestrcpy(&role_name, role);
	values[8] = NameGetDatum(&role_name);

	SPI_connect();
	if (es_store_execute(store, &create_query, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("subscription \"%s\" already exists", TextDatumGetCString(values[0])),
				 errhint("Choose another name, or drop it with es_drop_subscription().")));
	SPI_finish();
	return DatumGetTextPP(values[0]);
}

/*
 * es_create_subscription(name, category, types, tags, after, max_attempts,
 * backoff, max_backoff)
 */
Datum
es_create_subscription(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();

	PreventCommandIfReadOnly("es_create_subscription()");
	es_subscription_check_right(store, ACL_INSERT, "create a subscription");
	(void) es_consume_create(fcinfo, store, 1, GetUserNameFromId(GetUserId(), false));
	PG_RETURN_VOID();
}

/*
 * es_drop_subscription(name)
 */
Datum
es_drop_subscription(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsSubscription *sub;
	Datum		value;

	PreventCommandIfReadOnly("es_drop_subscription()");
	es_subscription_check_right(store, ACL_DELETE, "drop a subscription");
	sub = es_subscription_lock(store, es_get_name(fcinfo, 0, "name", MAX_NAME_LENGTH));
	es_subscription_forget(sub);
	value = PointerGetDatum(sub->name);
	SPI_connect();
	(void) es_store_execute(store, &drop_query, &value, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * es_reset_subscription(name, after)
 */
Datum
es_reset_subscription(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsSubscription *sub;

	PreventCommandIfReadOnly("es_reset_subscription()");
	es_subscription_check_right(store, ACL_UPDATE, "reset a subscription");
	sub = es_subscription_lock(store, es_get_name(fcinfo, 0, "name", MAX_NAME_LENGTH));
	es_subscription_forget(sub);
	es_subscription_set_taken(sub, get_after(fcinfo, 1, store));
	es_wake_at_end();
	PG_RETURN_VOID();
}

/*
 * es_unpark(subscription, stream)
 */
Datum
es_unpark(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsSubscription *sub;

	PreventCommandIfReadOnly("es_unpark()");
	es_subscription_check_right(store, ACL_UPDATE, "unpark a subscription");
	sub = es_subscription_lock(store, es_get_name(fcinfo, 0, "subscription", MAX_NAME_LENGTH));
	es_wake_at_end();
	PG_RETURN_INT64(es_subscription_unpark(sub, PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1)));
}

/*
 * es_fetch(subscription, consumer, max_count, lease)
 */
Datum
es_fetch(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *name = es_get_name(fcinfo, 0, "subscription", MAX_NAME_LENGTH);
	text	   *consumer = es_get_name(fcinfo, 1, "consumer", MAX_NAME_LENGTH);
	int64		lease = es_clock_get_duration(fcinfo, 3, "lease", false);
	EsSubscription *sub;
	EsDeliveries *deliveries;
	TimestampTz until;

	PreventCommandIfReadOnly("es_fetch()");
	es_check_argument(fcinfo, 2, "max_count");
	if (PG_GETARG_INT32(2) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_count must be at least 1, but is %d", PG_GETARG_INT32(2))));
	es_subscription_check_right(store, ACL_UPDATE, "consume a subscription");

	InitMaterializedSRF(fcinfo, 0);
	if (es_subscription_is_idle(store, name, ES_UPTO_SETTLED))
		return (Datum) 0;

	sub = es_subscription_lock(store, name);
	if (sub->is_handler)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscription \"%s\" is a handler", text_to_cstring(name)),
				 errhint("It consumes its events itself: CALL es_run(%s), or have the worker do it.",
						 quote_literal_cstr(text_to_cstring(name)))));
	deliveries = es_delivery_take(sub, PG_GETARG_INT32(2), ES_UPTO_SETTLED);
	if (deliveries->n == 0)
		return (Datum) 0;

	until = lease > DT_NOEND - 1 - sub->now ? DT_NOEND : sub->now + lease;
	es_lease_create(sub, consumer, until, deliveries);
	for (int i = 0; i < deliveries->n; i++)
	{
		EsDelivery *item = &deliveries->items[i];
		Datum		values[DELIVERY_NATTS];
		bool		nulls[DELIVERY_NATTS];

		memcpy(values, item->event->values, sizeof(item->event->values));
		memcpy(nulls, item->event->nulls, sizeof(item->event->nulls));
		values[ES_EVENT_NATTS] = Int32GetDatum(item->attempts + 1);
		values[ES_EVENT_NATTS + 1] = TimestampTzGetDatum(until);
		nulls[ES_EVENT_NATTS] = nulls[ES_EVENT_NATTS + 1] = false;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * es_ack(subscription, consumer, positions)
 */
Datum
es_ack(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	text	   *name = es_get_name(fcinfo, 0, "subscription", MAX_NAME_LENGTH);
	text	   *consumer = es_get_name(fcinfo, 1, "consumer", MAX_NAME_LENGTH);
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int64	   *positions;

	PreventCommandIfReadOnly("es_ack()");
	es_check_argument(fcinfo, 2, "positions");
	es_subscription_check_right(store, ACL_UPDATE, "consume a subscription");

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, &nulls, &n);
	positions = palloc(Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("positions must not contain NULL")));
		positions[i] = DatumGetInt64(elements[i]);
	}
	n = (int) es_lease_remove(store, name, consumer, n, positions);
	es_wake_count(ES_COUNT_HANDLED, n);
	PG_RETURN_INT64(n);
}

/*
 * es_nack(subscription, consumer, position, error, retry_in, park)
 */
Datum
es_nack(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	text	   *name = es_get_name(fcinfo, 0, "subscription", MAX_NAME_LENGTH);
	text	   *consumer = es_get_name(fcinfo, 1, "consumer", MAX_NAME_LENGTH);
	int64		retry_in = ES_RETRY_BACKOFF;
	bool		park = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	EsSubscription *sub;
	EsDeliveries *back;

	PreventCommandIfReadOnly("es_nack()");
	es_check_argument(fcinfo, 2, "position");
	if (!PG_ARGISNULL(4))
		retry_in = es_clock_get_duration(fcinfo, 4, "retry_in", true);
	es_subscription_check_right(store, ACL_UPDATE, "consume a subscription");

	sub = es_subscription_lock(store, name);
	back = es_lease_take_back(sub, consumer, PG_GETARG_INT64(2));

	/* an event that is gone from the log needs no delivery */
	if (back->n == 0)
		PG_RETURN_VOID();

	/* without any error it would look like one that waits behind another */
	es_subscription_give_back(sub, back, 0, ES_COMPANY_OTHERS, retry_in, park, true,
							  PG_ARGISNULL(3) ? pstrdup("no reason given") :
							  text_to_cstring(PG_GETARG_TEXT_PP(3)));
	PG_RETURN_VOID();
}
