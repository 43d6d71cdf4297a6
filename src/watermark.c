/*-------------------------------------------------------------------------
 *
 * watermark.c
 *		Up to where copies of the store are complete.
 *
 * A copy, be it a physical standby or a logical subscriber, cannot tell which
 * transactions are open where the events are appended.  It gets them in the order
 * of commits, which is not that of positions.  So the store that appends writes the
 * position of the last event that is settled into its table "watermark", and the
 * copy, which gets that row in the same flow, reads by position up to there.
 *
 * Take a position p <= watermark.  The transaction that drew it had ended before
 * the safe position was read (floor.c), so if it committed, its commit record comes
 * before that of the transaction that wrote the watermark.  A standby replays, and
 * a subscription's apply worker applies, commits in that order; so whoever sees
 * the watermark, and then takes a snapshot, sees the event.  The watermark only
 * grows, whoever writes it.
 *
 * That needs one apply worker for both tables, which has gone past the first copy
 * of either: before that, each is at a place of its own.
 *
 * It is the position of an event, and not the safe position, which counts those
 * that were rolled back, too: so no cursor of a copy is past the head of its log,
 * and a copy that takes over gives no position again that a cursor has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "log.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "watermark.h"

static const EsQuery get_query = {
	"SELECT position FROM {es}.watermark",
	0, {0}
};

static const EsQuery set_query = {
	"INSERT INTO {es}.watermark AS w (position) VALUES ($1)"
	" ON CONFLICT (one) DO UPDATE SET position = excluded.position,"
	" updated_at = pg_catalog.clock_timestamp()"
	" WHERE w.position OPERATOR(pg_catalog.<) excluded.position",
	1, {INT8OID}
};

/*
 * $1 the events, $2 the watermark: the watermark itself, how many subscriptions
 * bring either, whether one brings the watermark, and whether all are past the
 * first copy.  One snapshot for all of it.
 */
static const EsQuery subscription_query = {
	"SELECT (SELECT position FROM {es}.watermark),"
	" pg_catalog.count(DISTINCT s.srsubid),"
	" pg_catalog.bool_or(s.srrelid OPERATOR(pg_catalog.=) $2),"
	" pg_catalog.bool_and(s.srsubstate OPERATOR(pg_catalog.=) 'r')"
	" FROM pg_catalog.pg_subscription_rel s"
	" WHERE s.srrelid OPERATOR(pg_catalog.=) ANY (ARRAY[$1, $2])"
	" OR s.srrelid OPERATOR(pg_catalog.=) ANY"
	" (SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) t)",
	2, {OIDOID, OIDOID}
};

/*
 * Returns the watermark, -1 where there is none.
 */
int64
es_watermark_get(EsStore *store)
{
	int64		result = -1;
	bool		isnull;

	SPI_connect();
	if (es_store_select_latest(store, &get_query, NULL, NULL) > 0)
		result = DatumGetInt64(es_result_value(0, 1, &isnull));
	SPI_finish();
	return result;
}

/*
 * Takes the watermark from where it was, -1 for nowhere, on to the last event that
 * is at or below the safe position, and returns that.
 */
int64
es_watermark_advance(EsStore *store, int64 before, int64 safe)
{
	int64		last = es_log_last_position(store, safe);
	Datum		value = Int64GetDatum(last);

	if (last <= before)
		return before;
	SPI_connect();
	(void) es_store_execute(store, &set_query, &value, NULL);
	SPI_finish();
	return last;
}

/*
 * Returns the watermark of a physical standby.  Raises 0A000 where there is none.
 */
int64
es_watermark_of_standby(EsStore *store)
{
	int64		watermark = es_watermark_get(store);

	if (watermark < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot tell the safe position on a standby"),
				 errdetail("Which appending transactions are open is known on the primary alone, and it keeps no watermark."),
				 errhint("Read by position on the primary, or have it keep a watermark with SELECT es_advance_watermark(); es_read(), es_load() and es_replay() work here.")));
	return watermark;
}

/*
 * Returns the watermark of a logical subscriber.  Raises 55000 where there is
 * none, or none that can be relied on.
 */
int64
es_watermark_of_subscriber(EsStore *store)
{
	Datum		values[2];
	int64		watermark;
	int64		nsubscriptions;
	bool		no_watermark;
	bool		published;
	bool		ready;
	bool		isnull;

	values[0] = ObjectIdGetDatum(store->events);
	values[1] = ObjectIdGetDatum(get_relname_relid("watermark", store->schema));
	SPI_connect();
	(void) es_store_select_latest(store, &subscription_query, values, NULL);
	watermark = DatumGetInt64(es_result_value(0, 1, &no_watermark));
	nsubscriptions = DatumGetInt64(es_result_value(0, 2, &isnull));
	published = DatumGetBool(es_result_value(0, 3, &isnull));
	ready = DatumGetBool(es_result_value(0, 4, &isnull));
	SPI_finish();

	/* without any, the subscription was dropped a moment ago */
	if (no_watermark || !published || nsubscriptions != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot tell the safe position of event store \"%s\", which is a logical subscriber",
						NameStr(store->name)),
				 nsubscriptions > 1 ?
				 errdetail("Its events and its watermark come by more than one subscription.") :
				 errdetail("No watermark has come with its events."),
				 errhint("On the publisher, SELECT es_advance_watermark() and publish table \"watermark\" together with table \"events\"; here, ALTER SUBSCRIPTION ... REFRESH PUBLICATION.")));
	if (!ready)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot tell the safe position of event store \"%s\", which is a logical subscriber",
						NameStr(store->name)),
				 errdetail("The first copy of its events and its watermark is not complete."),
				 errhint("Try again when srsubstate in pg_subscription_rel is r for both tables.")));
	return watermark;
}
