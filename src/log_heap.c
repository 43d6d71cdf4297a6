/*-------------------------------------------------------------------------
 *
 * log_heap.c
 *		Inserting into the events table without the executor.
 *
 * The rule is that of INSERT ... ON CONFLICT DO NOTHING, whose steps these are:
 * wait for whoever is inserting the same key; insert the first event such that
 * a rival who comes first can still be given way to; fill the indexes, the
 * unique ones without raising; or take the tuple back and start again.  One step
 * is missing on purpose: within REPEATABLE READ a rival that the snapshot does
 * not see is no serialization failure, but an ordinary conflict of versions, and
 * the caller gets to tell it.
 *
 * The executor inserts speculatively, which takes a lock and, to confirm the
 * tuple, a WAL record more.  A plain tuple does as well, killed if it lost, where
 * nobody else is told of it: a rival who met it in between waits for the end of
 * our transaction, for nothing, but not for ever, since we wait for none but
 * those whose tuples stand, and no more in line, where he may be ahead of us.
 * Logical decoding is told of it, so there, and for what else the executor's code
 * has to fill, the insertion is speculative.
 *
 * Who got the first version has them all, because versions have no gaps: the
 * further events go in with a plain multi-insert.
 *
 * The guard trigger, which asks who inserts, is not fired, since it is us.  Other
 * statement triggers are, and see all rows of a batch as one; but where that of
 * the inline projections is the only one, they are called without it.
 *
 * Indexes that every store has are filled from here: their keys are columns,
 * and what they need to know is kept with the shape.  Any others are left to
 * ExecInsertIndexTuples().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "log_heap.h"
#include "log_tips.h"
#include "miscadmin.h"
#include "projection.h"
#include "queue.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "waitpoint.h"

/* how many further events go into the table at once */
#define CHUNK_EVENTS	250
#define CHUNK_BYTES		(64 * 1024)

typedef struct Insertion
{
	EsLogShape *shape;
	Relation	rel;
	Relation	indexes[ES_LOG_NINDEXES];	/* NULL where there is nothing to
											 * insert */
	CommandId	cid;
	bool		speculative;

	/* these only with further indexes or with triggers */
	EState	   *estate;
	ResultRelInfo *others;
	TransitionCaptureState *transition;
}			Insertion;

static void
read_tip(EsTip *tip, TupleTableSlot *slot)
{
	HeapTuple	tuple;
	bool		isnull;

	tip->version = DatumGetInt64(slot_getattr(slot, ES_LOG_VERSION + 1, &isnull));
	tip->recorded_at = DatumGetTimestampTz(slot_getattr(slot, ES_LOG_RECORDED_AT + 1, &isnull));
	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
	tip->ours = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/*
 * Fills in the last event of a stream that the snapshot sees, if there is one;
 * "from" is a version that it probably has.  Returns false where an insertion in
 * flight is beyond it (the dirty snapshot only).
 */
static bool
find_tip(Relation rel, Relation index, Datum stream, int64 from, Snapshot snapshot,
		 TupleTableSlot *slot, EsTip *tip)
{
	ScanKeyData keys[2];
	IndexScanDesc scan;
	int			nkeys = from > 1 ? 2 : 1;
	bool		alone = true;

	memset(tip, 0, sizeof(*tip));
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ, stream);
	/* else a scan would take in all of the stream that is on the leaf page */
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_INT8GE, Int64GetDatum(from));
	scan = index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
	index_rescan(scan, keys, nkeys, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		if (snapshot->snapshot_type == SNAPSHOT_DIRTY &&
			TransactionIdIsValid(snapshot->xmin))
			alone = false;
		else
			read_tip(tip, slot);
	}
	index_endscan(scan);
	ExecClearTuple(slot);
	if (alone && tip->version == 0 && nkeys > 1)
		return find_tip(rel, index, stream, 0, snapshot, slot, tip);
	return alone;
}

/*
 * See es_log_tip().
 *
 * A dirty snapshot costs nothing and tells in the same look whether a rival is
 * in flight.  Then, to know what is committed, a real snapshot is needed: he
 * may commit while we walk past his events.  So it is within SERIALIZABLE,
 * where what was read has to be remembered.
 */
EsTip
es_log_heap_tip(EsStore *store, Relation rel, Datum stream, int64 expected)
{
	Relation	index = index_open(store->shape->indexes[ES_LOG_BY_VERSION], RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	EsTip		tip;
	int64		from = expected;

	if (expected <= 0)
		from = es_log_tips_recall(store, stream, &tip) ? tip.version : 0;
	InitDirtySnapshot(dirty);
	if (!IsolationIsSerializable() &&
		find_tip(rel, index, stream, from, &dirty, slot, &tip))
		tip.alone = true;
	else
	{
		Snapshot	latest;

		CommandCounterIncrement();
		latest = RegisterSnapshot(GetLatestSnapshot());
		(void) find_tip(rel, index, stream, from, latest, slot, &tip);
		UnregisterSnapshot(latest);
	}
	if (tip.version > 0)
		es_log_tips_remember(store, stream, tip.version, tip.recorded_at, !tip.ours);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return tip;
}

/*
 * Opens an index that is not one of ours, for ExecInsertIndexTuples() and
 * ExecCheckIndexConstraints().  What it is told of the index is gathered anew
 * each time: CREATE INDEX CONCURRENTLY and its like announce its stages for the
 * index alone.
 */
static void
open_other(ResultRelInfo * others, Oid indexoid)
{
	int			n = others->ri_NumIndices++;
	Relation	index = index_open(indexoid, RowExclusiveLock);
	IndexInfo  *info = BuildIndexInfo(index);

	if (info->ii_Unique)
		BuildSpeculativeIndexInfo(index, info);
	others->ri_IndexRelationDescs[n] = index;
	others->ri_IndexRelationInfo[n] = info;
}

/*
 * Sets up the executor's state for the parts that are left to it.
 */
static void
begin_executor(Insertion * in, int nindexes)
{
	MemoryContext oldcontext;

	in->estate = CreateExecutorState();
	oldcontext = MemoryContextSwitchTo(in->estate->es_query_cxt);
	in->others = makeNode(ResultRelInfo);
	InitResultRelInfo(in->others, in->rel, 0, NULL, 0);
	in->others->ri_IndexRelationDescs = palloc(nindexes * sizeof(Relation));
	in->others->ri_IndexRelationInfo = palloc(nindexes * sizeof(IndexInfo *));
	in->estate->es_opened_result_relations = list_make1(in->others);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * Opens whatever an insertion of events, with ids or without, has to fill and
 * to fire.
 */
static void
begin_insertion(Insertion * in, EsStore *store, Relation rel, bool with_ids)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	memset(in, 0, sizeof(*in));
	in->shape = store->shape;
	in->rel = rel;
	in->cid = GetCurrentCommandId(true);
	in->speculative = RelationIsLogicallyLogged(rel) ||
		list_length(indexes) > ES_LOG_NINDEXES;
	if (in->shape->after_triggers || list_length(indexes) > ES_LOG_NINDEXES)
		begin_executor(in, list_length(indexes));

	foreach(lc, indexes)
	{
		Oid			indexoid = lfirst_oid(lc);
		int			kind = 0;

		while (kind < ES_LOG_NINDEXES && in->shape->indexes[kind] != indexoid)
			kind++;
		if (kind == ES_LOG_NINDEXES)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(in->estate->es_query_cxt);

			open_other(in->others, indexoid);
			MemoryContextSwitchTo(oldcontext);
		}
		else if (kind != ES_LOG_BY_EVENT_ID || with_ids)
			in->indexes[kind] = index_open(indexoid, RowExclusiveLock);
	}
	list_free(indexes);

	if (in->shape->after_triggers)
	{
		AfterTriggerBeginQuery();
		in->transition = MakeTransitionCaptureState(rel->trigdesc,
													RelationGetRelid(rel),
													CMD_INSERT);
	}
}

/*
 * Fires the triggers if there is something for them to see, and closes
 * everything but the table.
 */
static void
end_insertion(Insertion * in, bool inserted)
{
	if (in->shape->after_triggers)
	{
		if (inserted)
			ExecASInsertTriggers(in->estate, in->others, in->transition);
		AfterTriggerEndQuery(in->estate);
	}
	for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
	{
		if (in->indexes[kind] != NULL)
			index_close(in->indexes[kind], NoLock);
	}
	if (in->estate != NULL)
	{
		ExecCloseResultRelations(in->estate);
		FreeExecutorState(in->estate);
	}
}

/*
 * The key of an event in one of the indexes; false where it has none.
 */
static bool
get_key(const TupleTableSlot *slot, EsLogIndex kind, Datum *key)
{
	const		EsLogIndexKeys *keys = &es_log_index_keys[kind];

	for (int i = 0; i < keys->nkeys; i++)
	{
		if (slot->tts_isnull[keys->columns[i]])
			return false;
		key[i] = slot->tts_values[keys->columns[i]];
	}
	return true;
}

/*
 * Fills one of the indexes.  Returns false, where the tuple can still give way,
 * if somebody else has the key, or may get it.
 */
static bool
insert_index_entry(Insertion * in, EsLogIndex kind, TupleTableSlot *slot,
				   bool yielding)
{
	static const bool nulls[ES_LOG_MAXKEYS] = {false};
	Datum		key[ES_LOG_MAXKEYS];
	IndexUniqueCheck check = UNIQUE_CHECK_NO;
	bool		unique;

	if (in->indexes[kind] == NULL || !get_key(slot, kind, key))
		return true;
	if (in->indexes[kind]->rd_index->indisunique)
		check = yielding ? UNIQUE_CHECK_PARTIAL : UNIQUE_CHECK_YES;
	unique = index_insert(in->indexes[kind], key, (bool *) nulls, &slot->tts_tid,
						  in->rel, check, false, &in->shape->index_infos[kind]);
	return unique || check != UNIQUE_CHECK_PARTIAL;
}

/*
 * The same for the indexes that are not ours.
 */
static bool
insert_other_entries(Insertion * in, TupleTableSlot *slot, bool yielding)
{
	bool		conflict = false;

	if (in->others == NULL || in->others->ri_NumIndices == 0)
		return true;
	list_free(ExecInsertIndexTuples(in->others, slot, in->estate, false, yielding,
									yielding ? &conflict : NULL, NIL, false));
	ResetPerTupleExprContext(in->estate);
	return !conflict;
}

/*
 * Returns whether nobody has the event's key in a unique index, after waiting
 * for everybody who is about to have it, or to be rid of it.
 */
static bool
is_key_free(Insertion * in, EsLogIndex kind, TupleTableSlot *event)
{
	Relation	index = in->indexes[kind];
	TupleTableSlot *slot;
	Datum		key[ES_LOG_MAXKEYS];
	ScanKeyData keys[ES_LOG_MAXKEYS];
	SnapshotData dirty;
	bool		found;

	if (index == NULL || !get_key(event, kind, key))
		return true;
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ, key[0]);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, InvalidOid,
						   kind == ES_LOG_BY_EVENT_ID ? F_UUID_EQ : F_INT8EQ, key[1]);

	slot = table_slot_create(in->rel, NULL);
	InitDirtySnapshot(dirty);
	for (;;)
	{
		IndexScanDesc scan = index_beginscan(in->rel, index, &dirty, NULL, 2, 0);
		ItemPointerData tid;

		index_rescan(scan, keys, 2, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		if (found)
			tid = slot->tts_tid;
		index_endscan(scan);
		ExecClearTuple(slot);
		if (!found || (!TransactionIdIsValid(dirty.xmin) && !TransactionIdIsValid(dirty.xmax)))
			break;

		if (dirty.speculativeToken != 0)
			SpeculativeInsertionWait(dirty.xmin, dirty.speculativeToken);
		else
			XactLockTableWait(TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax,
							  in->rel, &tid, XLTW_InsertIndex);
		CHECK_FOR_INTERRUPTS();
	}
	ExecDropSingleTupleTableSlot(slot);
	return !found;
}

/*
 * Returns whether the event can go in, as far as can be known beforehand.
 */
static bool
is_free(Insertion * in, TupleTableSlot *slot, bool alone)
{
	ItemPointerData conflict;
	ItemPointerData none;

	if (!alone && !is_key_free(in, ES_LOG_BY_VERSION, slot))
		return false;
	if (!is_key_free(in, ES_LOG_BY_EVENT_ID, slot))
		return false;
	if (in->others == NULL || in->others->ri_NumIndices == 0)
		return true;
	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(in->others, slot, in->estate, &conflict, &none, NIL);
}

static bool
insert_entries(Insertion * in, TupleTableSlot *slot, bool yielding)
{
	for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
	{
		if (!insert_index_entry(in, kind, slot, yielding))
			return false;
	}
	return insert_other_entries(in, slot, yielding);
}

/*
 * The two ways to insert a tuple that can still give way.
 */
static bool
insert_speculatively(Insertion * in, TupleTableSlot *slot)
{
	TransactionId xid = GetCurrentTransactionId();
	uint32		token = SpeculativeInsertionLockAcquire(xid);
	bool		inserted;

	table_tuple_insert_speculative(in->rel, slot, in->cid, 0, NULL, token);
	inserted = insert_entries(in, slot, true);
	table_tuple_complete_speculative(in->rel, slot, token, inserted);
	/* wake up who waits for our decision */
	SpeculativeInsertionLockRelease(xid);
	return inserted;
}

/*
 * Takes back the tuple that was just inserted, for everybody and at once, as if
 * it had been a speculative one.  Were it only deleted, it would be in flight
 * to others up to the end of our transaction: two who both gave way would then
 * wait for each other.
 */
static void
kill_tuple(Insertion * in, TupleTableSlot *slot)
{
	const uint32 token = 1;		/* of no lock: nobody waits for it */
	ItemPointer tid = &slot->tts_tid;
	Buffer		buffer = ReadBuffer(in->rel, ItemPointerGetBlockNumber(tid));
	Page		page;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	HeapTupleHeaderSetSpeculativeToken((HeapTupleHeader)
									   PageGetItem(page, PageGetItemId(page, ItemPointerGetOffsetNumber(tid))),
									   token);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	table_tuple_complete_speculative(in->rel, slot, token, false);
	ReleaseBuffer(buffer);
}

static bool
insert_or_kill(Insertion * in, TupleTableSlot *slot)
{
	table_tuple_insert(in->rel, slot, in->cid, 0, NULL);
	if (insert_entries(in, slot, true))
		return true;
	ES_WAIT_POINT("append: giving way");
	kill_tuple(in, slot);
	es_queue_stay_out();
	return false;
}

/*
 * Inserts the first event; false if somebody else's is in its place.
 */
static bool
insert_first(Insertion * in, TupleTableSlot *slot, bool alone)
{
	bool		inserted = false;

	while (!inserted)
	{
		if (!is_free(in, slot, alone))
			return false;
		inserted = in->speculative ? insert_speculatively(in, slot) :
			insert_or_kill(in, slot);
		alone = false;
	}
	return true;
}

/*
 * The same, but what is in the way is an error.
 */
static void
insert_or_raise(Insertion * in, TupleTableSlot *slot)
{
	table_tuple_insert(in->rel, slot, in->cid, 0, NULL);
	(void) insert_entries(in, slot, false);
}

static Size
event_size(const EsNewEvent *event)
{
	return VARSIZE_ANY(event->data) +
		(event->metadata != NULL ? VARSIZE_ANY(event->metadata) : 0);
}

static void
fill_slot(TupleTableSlot *slot, Datum stream, int64 version,
		  TimestampTz recorded_at, const EsNewEvent *event)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	ExecClearTuple(slot);
	memset(nulls, 0, ES_LOG_NATTS * sizeof(bool));
	values[ES_LOG_POSITION] = Int64GetDatum(event->position);
	values[ES_LOG_VERSION] = Int64GetDatum(version);
	values[ES_LOG_RECORDED_AT] = TimestampTzGetDatum(recorded_at);
	values[ES_LOG_STREAM] = stream;
	values[ES_LOG_TYPE] = PointerGetDatum(event->type);
	values[ES_LOG_DATA] = PointerGetDatum(event->data);
	values[ES_LOG_METADATA] = PointerGetDatum(event->metadata);
	nulls[ES_LOG_METADATA] = event->metadata == NULL;
	values[ES_LOG_EVENT_ID] = UUIDPGetDatum(event->event_id);
	nulls[ES_LOG_EVENT_ID] = event->event_id == NULL;
	values[ES_LOG_TAGS] = PointerGetDatum(event->tags);
	nulls[ES_LOG_TAGS] = event->tags == NULL;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = InvalidOid;
}

static void
capture(Insertion * in, TupleTableSlot *slot)
{
	if (in->transition != NULL)
		ExecARInsertTriggers(in->estate, in->others, slot, NIL, in->transition);
}

/*
 * Inserts further events, the first of them as "version", in chunks: a page of
 * the table is locked and logged once for all the events that fit into it.
 */
static void
insert_further(Insertion * in, Datum stream, int64 version, TimestampTz recorded_at,
			   int nevents, const EsNewEvent *events)
{
	/* holds the tuples of a chunk, and is reset after it */
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "eventsourcing insert",
												  ALLOCSET_DEFAULT_SIZES);
	int			nslots = Min(nevents, CHUNK_EVENTS);
	TupleTableSlot **slots = palloc(nslots * sizeof(TupleTableSlot *));
	int			done = 0;

	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(in->rel), &TTSOpsVirtual);

	while (done < nevents)
	{
		MemoryContext oldcontext;
		Size		size = 0;
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		while (n < nslots && done + n < nevents && size < CHUNK_BYTES)
		{
			const EsNewEvent *event = &events[done + n];

			fill_slot(slots[n], stream, version + done + n, recorded_at, event);
			size += event_size(event);
			n++;
		}

		oldcontext = MemoryContextSwitchTo(context);
		table_multi_insert(in->rel, slots, n, in->cid, 0, NULL);
		/* one index after the other: it stays in the processor's cache */
		for (int kind = 0; kind < ES_LOG_NINDEXES; kind++)
		{
			for (int i = 0; i < n; i++)
				(void) insert_index_entry(in, kind, slots[i], false);
		}
		for (int i = 0; i < n; i++)
		{
			(void) insert_other_entries(in, slots[i], false);
			capture(in, slots[i]);
		}
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(context);
		done += n;
	}

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
	MemoryContextDelete(context);
}

static bool
has_ids(int nevents, const EsNewEvent *events)
{
	for (int i = 0; i < nevents; i++)
	{
		if (events[i].event_id != NULL)
			return true;
	}
	return false;
}

static bool
fires(char enabled)
{
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return enabled != TRIGGER_FIRES_ON_ORIGIN;
	return enabled != TRIGGER_FIRES_ON_REPLICA;
}

/*
 * Has the inline projections take in what was inserted: their trigger, without
 * the tuplestore and the rest that a trigger costs.
 */
static void
project(EsStore *store, Datum stream, int64 version, TimestampTz recorded_at,
		int nevents, const EsNewEvent *events)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "eventsourcing inline projections",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);

	es_project_inserted(store, stream, version, recorded_at, nevents, events);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * See es_log_insert().
 */
bool
es_log_heap_insert(EsStore *store, Relation rel, Datum stream, const EsTip *tip,
				   TimestampTz recorded_at, int nevents, const EsNewEvent *events,
				   bool raise)
{
	Insertion	in;
	TupleTableSlot *slot;
	bool		inserted = true;

	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");

	begin_insertion(&in, store, rel, has_ids(nevents, events));
	slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	fill_slot(slot, stream, tip->version + 1, recorded_at, &events[0]);
	if (raise)
		insert_or_raise(&in, slot);
	else
		inserted = insert_first(&in, slot, tip->alone);

	if (inserted)
	{
		capture(&in, slot);
		if (nevents > 1)
			insert_further(&in, stream, tip->version + 2, recorded_at,
						   nevents - 1, events + 1);
	}
	if (inserted)
		es_log_tips_remember(store, stream, tip->version + nevents, recorded_at, false);
	ExecDropSingleTupleTableSlot(slot);
	end_insertion(&in, inserted);
	if (inserted && in.shape->projects != 0 && fires(in.shape->projects))
		project(store, stream, tip->version + 1, recorded_at, nevents, events);
	table_close(rel, NoLock);
	return inserted;
}
