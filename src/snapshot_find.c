/*-------------------------------------------------------------------------
 *
 * snapshot_find.c
 *		Finding a snapshot to start a fold from.
 *
 * As with the log there are two ways: by a saved plan, which is right
 * everywhere, and past the executor, by the primary key's index, for a third of
 * what the plan costs, where that makes no difference: on a table as
 * es_create_store() made it, without row security.  Whether it is one holds
 * until the store's epoch moves on.  The setting eventsourcing.log_path has it
 * always be the plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "guc.h"
#include "snapshot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* What was found when a store's table of snapshots was last looked at. */
typedef struct EsSnapshotTable
{
	uint64		epoch;
	Oid			relid;
	Oid			index;			/* InvalidOid: this is one for the plan */
	AttrNumber	version;
	AttrNumber	state;
	AttrNumber	recorded_at;
	AttrNumber	fingerprint;
}			EsSnapshotTable;

static const EsQuery select_snapshot = {
	"SELECT version, state, recorded_at, xmin FROM {es}.snapshots"
	" WHERE stream OPERATOR(pg_catalog.=) $1"
	" AND version OPERATOR(pg_catalog.<=) $2"
	" AND recorded_at OPERATOR(pg_catalog.<=) $3"
	" AND fingerprint OPERATOR(pg_catalog.=) $4"
	" ORDER BY version DESC LIMIT 1",
	4, {TEXTOID, INT8OID, TIMESTAMPTZOID, BYTEAOID}
};

/*
 * Whether a snapshot may stand for events that the caller does not see: taken
 * by his own transaction, of all there was, it is ahead of what a transaction
 * in REPEATABLE READ sees of the log.
 */
static bool
is_ahead(const EsFoldLimit *limit, Datum xmin)
{
	return limit->visibility == ES_SEE_STATEMENT && IsolationUsesXactSnapshot() &&
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

static bool
find_by_plan(EsStore *store, Datum stream, const EsFoldLimit *limit,
			 bytea *fingerprint, EsFolded *folded)
{
	Datum		values[4];
	bool		found = false;
	bool		isnull;

	values[0] = stream;
	values[1] = Int64GetDatum(limit->version);
	values[2] = TimestampTzGetDatum(limit->as_of);
	values[3] = PointerGetDatum(fingerprint);

	SPI_connect();
	if (es_store_select(store, &select_snapshot, values, NULL,
						limit->visibility == ES_SEE_STATEMENT) > 0 &&
		!is_ahead(limit, es_result_value(0, 4, &isnull)))
	{
		folded->version = DatumGetInt64(es_result_value(0, 1, &isnull));
		folded->state = es_result_copy(0, 2);
		folded->recorded_at = DatumGetTimestampTz(es_result_value(0, 3, &isnull));
		found = true;
	}
	SPI_finish();
	return found;
}

/*
 * Notes whether the table can be read directly.
 */
static void
inspect(EsStore *store, EsSnapshotTable * table, Relation rel)
{
	AttrNumber	keys[2];
	List	   *indexes;
	ListCell   *lc;

	table->epoch = store->epoch;
	table->index = InvalidOid;
	if (rel->rd_rel->relrowsecurity || rel->rd_rel->relhasrules ||
		rel->rd_rel->relhassubclass ||
		pg_class_aclcheck(table->relid, store->owner, ACL_SELECT) != ACLCHECK_OK)
		return;
	keys[0] = get_attnum(table->relid, "stream");
	keys[1] = table->version = get_attnum(table->relid, "version");
	table->state = get_attnum(table->relid, "state");
	table->recorded_at = get_attnum(table->relid, "recorded_at");
	table->fingerprint = get_attnum(table->relid, "fingerprint");

	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (es_index_is_on(index, RelationGetDescr(rel), lengthof(keys), keys) &&
			RelationGetIndexPredicate(index) == NIL)
			table->index = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
}

/*
 * Returns the table, open and locked, if it can be read directly, or NULL.
 */
static Relation
open_directly(EsStore *store)
{
	EsSnapshotTable *table = store->snapshots;
	Relation	rel;

	if (es_guc_log_path == ES_LOG_PATH_SPI)
		return NULL;
	if (table == NULL)
	{
		store->snapshots = table = MemoryContextAllocZero(CacheMemoryContext,
														  sizeof(EsSnapshotTable));
		table->epoch = store->epoch - 1;
	}
	for (;;)
	{
		es_store_validate(store);
		if (table->epoch != store->epoch)
			table->relid = get_relname_relid("snapshots", store->schema);
		rel = try_table_open(table->relid, AccessShareLock);
		if (rel == NULL)
			return NULL;
		if (store->valid)
			break;

		/*
		 * the lock brought news: its columns may be others, or it another
		 * table
		 */
		table_close(rel, AccessShareLock);
	}
	if (table->epoch != store->epoch)
		inspect(store, table, rel);
	if (OidIsValid(table->index))
		return rel;
	table_close(rel, AccessShareLock);
	return NULL;
}

static bool
fits(const EsSnapshotTable * table, TupleTableSlot *slot, const EsFoldLimit *limit,
	 bytea *fingerprint)
{
	bool		isnull;
	bytea	   *other;

	if (DatumGetTimestampTz(slot_getattr(slot, table->recorded_at, &isnull)) > limit->as_of)
		return false;
	other = DatumGetByteaPP(slot_getattr(slot, table->fingerprint, &isnull));
	return VARSIZE_ANY_EXHDR(other) == VARSIZE_ANY_EXHDR(fingerprint) &&
		memcmp(VARDATA_ANY(other), VARDATA_ANY(fingerprint), VARSIZE_ANY_EXHDR(other)) == 0;
}

static bool
find_directly(EsStore *store, Relation rel, Datum stream, const EsFoldLimit *limit,
			  bytea *fingerprint, EsFolded *folded)
{
	const		EsSnapshotTable *table = store->snapshots;
	Relation	index = index_open(table->index, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		latest = limit->visibility == ES_SEE_ALL;
	bool		found = false;
	bool		isnull;
	ScanKeyData keys[2];
	IndexScanDesc scan;

	if (latest)
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ, stream);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTLessEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_INT8LE, Int64GetDatum(limit->version));
	scan = index_beginscan(rel, index, GetActiveSnapshot(), NULL, lengthof(keys), 0);
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	while (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		if (!fits(table, slot, limit, fingerprint))
			continue;
		if (is_ahead(limit, slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull)))
			break;
		folded->version = DatumGetInt64(slot_getattr(slot, table->version, &isnull));
		folded->state = DatumGetJsonbPCopy(slot_getattr(slot, table->state, &isnull));
		folded->recorded_at = DatumGetTimestampTz(slot_getattr(slot, table->recorded_at, &isnull));
		found = true;
		break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	if (latest)
		PopActiveSnapshot();
	return found;
}

/*
 * Fills in the newest snapshot of a stream within the limit that code of this
 * fingerprint made, its state in the current memory context.  Returns false
 * where there is none, and then has not touched folded.
 */
bool
es_snapshot_find(EsStore *store, Datum stream, const EsFoldLimit *limit,
				 bytea *fingerprint, EsFolded *folded)
{
	Relation	rel = open_directly(store);
	bool		found;

	if (rel == NULL)
		return find_by_plan(store, stream, limit, fingerprint, folded);
	found = find_directly(store, rel, stream, limit, fingerprint, folded);

	/* as after a query: the result is worth what is known of the store by now */
	es_store_validate(store);
	return found;
}
