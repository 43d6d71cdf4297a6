/*-------------------------------------------------------------------------
 *
 * snapshot.c
 *		States of streams, kept to start folds from.
 *
 * A snapshot is a cache: a load with it equals a load without, always.  So it
 * carries the fingerprint of all that made it, and one made by other code is
 * ignored; it is written by the extension alone, as the store's owner, from a
 * fold that saw every event of the stream up to its version; and a caller to
 * whom row security applies neither uses one nor is his view ever put into one.
 *
 * Snapshots are taken by the append that crosses a multiple of the aggregate's
 * snapshot_every, in its transaction, and by es_snapshot(); never by a read.
 *
 * An append never waits for who else works on the snapshots of its stream: a
 * row of its own version can be nobody else's, and rows that are in use it leaves
 * for the next snapshot to clean up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "append.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "snapshot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/rls.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(es_snapshot);
PG_FUNCTION_INFO_V1(es_drop_snapshots);

/* how often a fold is begun anew because what it ran has changed */
#define MAX_ATTEMPTS	5

static const EsQuery upsert_snapshot = {
	"INSERT INTO {es}.snapshots (stream, version, state, recorded_at, fingerprint)"
	" VALUES ($1, $2, $3, $4, $5)"
	" ON CONFLICT (stream, version) DO UPDATE SET state = EXCLUDED.state,"
	" taken_at = EXCLUDED.taken_at, recorded_at = EXCLUDED.recorded_at,"
	" fingerprint = EXCLUDED.fingerprint",
	5, {TEXTOID, INT8OID, JSONBOID, TIMESTAMPTZOID, BYTEAOID}
};

/* all but the newest few, and whatever other code has made */
static const EsQuery delete_old_snapshots = {
	"DELETE FROM {es}.snapshots WHERE stream OPERATOR(pg_catalog.=) $1"
	" AND version OPERATOR(pg_catalog.=) ANY (ARRAY("
	"  SELECT s.version FROM {es}.snapshots s WHERE s.stream OPERATOR(pg_catalog.=) $1"
	"  AND (s.fingerprint OPERATOR(pg_catalog.<>) $2 OR s.version OPERATOR(pg_catalog.<="
	"   ) (SELECT k.version FROM {es}.snapshots k WHERE k.stream OPERATOR(pg_catalog.=) $1"
	"      AND k.fingerprint OPERATOR(pg_catalog.=) $2"
	"      ORDER BY k.version DESC OFFSET $3 LIMIT 1))"
	"  FOR UPDATE SKIP LOCKED))",
	3, {TEXTOID, BYTEAOID, INT4OID}
};

static const EsQuery delete_snapshots = {
	"DELETE FROM {es}.snapshots WHERE $1 IS NULL"
	" OR pg_catalog.split_part(stream, '-', 1) OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

/*
 * Sets folded to the newest usable snapshot within the limit, allocated in the
 * current memory context, or to nothing.
 */
static void
start(EsStore *store, EsAggregate *aggregate, Datum stream,
	  const EsFoldLimit *limit, EsFolded *folded)
{
	bytea	   *fingerprint = es_aggregate_fingerprint(store, aggregate);

	memset(folded, 0, sizeof(*folded));
	folded->recorded_at = DT_NOBEGIN;
	if (es_guc_use_snapshots && !es_fold_is_filtered(store, limit) &&
		es_snapshot_find(store, stream, limit, fingerprint, folded))
		es_wake_count(ES_COUNT_SNAPSHOTS_USED, 1);
}

/*
 * Sets folded to the state of a stream within the limit, by way of a snapshot
 * where one may be used, and returns the aggregate that it was folded by.
 */
EsAggregate *
es_snapshot_load(EsStore *store, Datum stream, const EsFoldLimit *limit,
				 EsFolded *folded)
{
	EsAggregate *aggregate;

	do
	{
		CHECK_FOR_INTERRUPTS();
		aggregate = es_aggregate_get(store, stream);
		start(store, aggregate, stream, limit, folded);
		es_fold(store, aggregate, stream, limit, folded, NULL, NULL);
	} while (!es_aggregate_is_current(store, aggregate, stream));
	return aggregate;
}

/*
 * Takes a snapshot of a stream as it is now and returns its version.
 */
static int64
take(EsStore *store, Datum stream)
{
	EsFoldLimit limit = {PG_INT64_MAX, DT_NOEND, ES_SEE_ALL};
	EsAggregate *aggregate;
	EsFolded	folded;
	int64		from;
	bytea	   *fingerprint;
	Datum		values[5];

	/*
	 * A state must not get another code's fingerprint.  Here it does not do
	 * that the definition is the same again: it may have been another in
	 * between.
	 */
	for (int attempt = 1;; attempt++)
	{
		aggregate = es_aggregate_get(store, stream);
		fingerprint = es_aggregate_fingerprint(store, aggregate);
		start(store, aggregate, stream, &limit, &folded);
		from = folded.version;
		es_fold(store, aggregate, stream, &limit, &folded, NULL, NULL);
		if (es_aggregate_is_untouched(store, aggregate))
			break;
		if (attempt == MAX_ATTEMPTS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("functions or definitions changed while a snapshot of stream \"%s\" was taken",
							TextDatumGetCString(stream)),
					 errhint("Try again.")));
	}
	if (folded.version == from)
		return from;

	SPI_connect();
	values[0] = stream;
	values[1] = Int64GetDatum(folded.version);
	values[2] = JsonbPGetDatum(folded.state);
	values[3] = TimestampTzGetDatum(folded.recorded_at);
	values[4] = PointerGetDatum(fingerprint);
	(void) es_store_execute(store, &upsert_snapshot, values, NULL);

	values[1] = PointerGetDatum(fingerprint);
	values[2] = Int32GetDatum(aggregate->snapshots_kept);
	(void) es_store_execute_by_index(store, &delete_old_snapshots, values, NULL);
	SPI_finish();
	return folded.version;
}

/*
 * Takes a snapshot if the append from version "before" to "after" made one due.
 * A snapshot that cannot be made does not fail the append: it is a warning, once
 * a session for each aggregate.
 */
void
es_snapshot_after_append(EsStore *store, Datum stream, int64 before, int64 after)
{
	EsAggregate *aggregate = es_aggregate_find(store, stream);
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	MemoryContext context;

	if (aggregate == NULL || aggregate->snapshot_every == 0 ||
		before / aggregate->snapshot_every == after / aggregate->snapshot_every)
		return;

	context = AllocSetContextCreate(oldcontext, "eventsourcing snapshot",
									ALLOCSET_DEFAULT_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		(void) take(store, stream);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		hidden;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = oldowner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		/* what it says may come from any event of the stream */
		hidden = check_enable_rls(store->events, InvalidOid, true) == RLS_ENABLED;
		if (!aggregate->warned)
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 hidden ? errmsg("could not take a snapshot of stream \"%s\"",
									 TextDatumGetCString(stream)) :
					 errmsg("could not take a snapshot of stream \"%s\": %s",
							TextDatumGetCString(stream), error->message),
					 hidden ? errdetail_log("%s", error->message) :
					 error->detail != NULL ? errdetail("%s", error->detail) :
					 error->context != NULL ? errdetail("%s", error->context) : 0,
					 errhint("The events were appended. Mend the aggregate of category \"%s\"; loading from further back works, but is slower.",
							 aggregate->category)));
		aggregate->warned = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	MemoryContextDelete(context);
}

/*
 * es_snapshot(stream)
 */
Datum
es_snapshot(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();

	PreventCommandIfReadOnly("es_snapshot()");
	es_check_argument(fcinfo, 0, "stream");
	es_append_check_rights(store, GetUserId());
	PG_RETURN_INT64(take(store, PG_GETARG_DATUM(0)));
}

/*
 * es_drop_snapshots(category)
 */
Datum
es_drop_snapshots(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Datum		category = PG_GETARG_DATUM(0);
	uint64		ndropped;

	es_store_check_owner(store);
	SPI_connect();
	ndropped = es_store_execute(store, &delete_snapshots, &category,
								PG_ARGISNULL(0) ? "n" : " ");
	SPI_finish();
	PG_RETURN_INT64((int64) ndropped);
}
