/*-------------------------------------------------------------------------
 *
 * log_heap_scan.c
 *		Reading the events table without the executor.
 *
 * A scan walks one of the indexes that every store has and hands each row to
 * the sink as it lies in its page, without a copy: the page stays pinned while
 * the sink works.  Its snapshot is an MVCC one, so within SERIALIZABLE the
 * index and the table remember what was read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "log_heap.h"
#include "log_tips.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

typedef struct LogScan
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc desc;

	/* of the last row that was found; version 0 for none */
	int64		version;
	TimestampTz recorded_at;
	TransactionId xmin;
	bool		kept;			/* nobody has removed it */
}			LogScan;

static void
begin_scan(LogScan * scan, EsStore *store, Relation rel, EsLogIndex kind, int nkeys)
{
	scan->rel = rel;
	scan->index = index_open(store->shape->indexes[kind], AccessShareLock);
	scan->slot = table_slot_create(rel, NULL);
	scan->version = 0;
	scan->desc = index_beginscan(rel, scan->index, GetActiveSnapshot(), NULL,
								 nkeys, 0);
}

static void
end_scan(LogScan * scan)
{
	index_endscan(scan->desc);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, NoLock);
	table_close(scan->rel, NoLock);
}

static void
stream_key(ScanKey key, Relation index, Datum stream)
{
	ScanKeyEntryInitialize(key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ, stream);
}

/* A bound of a version or of a position. */
static void
bigint_key(ScanKey key, int column, StrategyNumber strategy, int64 bound)
{
	RegProcedure procedure =
	strategy == BTGreaterStrategyNumber ? F_INT8GT :
	strategy == BTGreaterEqualStrategyNumber ? F_INT8GE : F_INT8LE;

	ScanKeyEntryInitialize(key, 0, column, strategy, InvalidOid, InvalidOid,
						   procedure, Int64GetDatum(bound));
}

/*
 * Feeds the sink with what the scan finds, at most max_count rows unless that
 * is negative.
 */
static void
run_scan(LogScan * scan, ScanDirection direction, int64 max_count,
		 EsEventSink sink, void *arg)
{
	static const EsLogColumn columns[ES_EVENT_NATTS] = {
		[ES_EVENT_POSITION] = ES_LOG_POSITION,
		[ES_EVENT_STREAM] = ES_LOG_STREAM,
		[ES_EVENT_VERSION] = ES_LOG_VERSION,
		[ES_EVENT_TYPE] = ES_LOG_TYPE,
		[ES_EVENT_DATA] = ES_LOG_DATA,
		[ES_EVENT_METADATA] = ES_LOG_METADATA,
		[ES_EVENT_EVENT_ID] = ES_LOG_EVENT_ID,
		[ES_EVENT_TAGS] = ES_LOG_TAGS,
		[ES_EVENT_RECORDED_AT] = ES_LOG_RECORDED_AT
	};

	while (max_count != 0 && index_getnext_slot(scan->desc, direction, scan->slot))
	{
		HeapTupleHeader header;
		EsEvent		event;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(scan->slot);
		for (int i = 0; i < ES_EVENT_NATTS; i++)
		{
			event.values[i] = scan->slot->tts_values[columns[i]];
			event.nulls[i] = scan->slot->tts_isnull[columns[i]];
		}
		scan->version = EsEventVersion(&event);
		scan->recorded_at = EsEventRecordedAt(&event);
		header = ((BufferHeapTupleTableSlot *) scan->slot)->base.tuple->t_data;
		scan->xmin = HeapTupleHeaderGetXmin(header);
		scan->kept = (header->t_infomask & HEAP_XMAX_INVALID) != 0;
		if (!sink(&event, arg))
			break;
		if (max_count > 0)
			max_count--;
	}
}

/*
 * Makes a snapshot of what is committed by now, and what we have done
 * ourselves, the active one.
 */
static void
push_latest_snapshot(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
}

/*
 * See es_log_find_ids().
 */
int
es_log_heap_find_ids(EsStore *store, Relation rel, Datum stream, int nevents,
					 const EsNewEvent *events, EsKnownId **known)
{
	int			nknown = 0;
	LogScan		scan;

	*known = palloc(nevents * sizeof(EsKnownId));
	push_latest_snapshot();
	begin_scan(&scan, store, rel, ES_LOG_BY_EVENT_ID, 2);
	for (int i = 0; i < nevents; i++)
	{
		ScanKeyData keys[2];
		EsKnownId  *k = &(*known)[nknown];
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (events[i].event_id == NULL)
			continue;
		stream_key(&keys[0], scan.index, stream);
		ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
							   InvalidOid, F_UUID_EQ, UUIDPGetDatum(events[i].event_id));
		index_rescan(scan.desc, keys, 2, NULL, 0);
		if (!index_getnext_slot(scan.desc, ForwardScanDirection, scan.slot))
			continue;
		k->ordinal = i;
		k->version = DatumGetInt64(slot_getattr(scan.slot, ES_LOG_VERSION + 1, &isnull));
		k->type = datumCopy(slot_getattr(scan.slot, ES_LOG_TYPE + 1, &isnull), false, -1);
		k->data = datumCopy(slot_getattr(scan.slot, ES_LOG_DATA + 1, &isnull), false, -1);
		nknown++;
	}
	end_scan(&scan);
	PopActiveSnapshot();
	return nknown;
}

/*
 * See es_log_scan_stream().
 */
void
es_log_heap_scan_stream(EsStore *store, Relation rel, Datum stream,
						const EsStreamRange *range, EsEventSink sink, void *arg)
{
	ScanKeyData keys[3];
	LogScan		scan;
	int			nkeys = 1;
	uint64		epoch = store->epoch;

	if (range->visibility == ES_SEE_ALL)
		push_latest_snapshot();

	/*
	 * A key is compared with every row, which is a good part of what a row
	 * costs: none for a bound that bounds nothing.
	 */
	if (range->from_version > 1)
		bigint_key(&keys[nkeys++], 2, BTGreaterEqualStrategyNumber, range->from_version);
	if (range->to_version < PG_INT64_MAX)
		bigint_key(&keys[nkeys++], 2, BTLessEqualStrategyNumber, range->to_version);
	begin_scan(&scan, store, rel, ES_LOG_BY_VERSION, nkeys);
	stream_key(&keys[0], scan.index, stream);
	index_rescan(scan.desc, keys, nkeys, NULL, 0);
	run_scan(&scan, range->backward ? BackwardScanDirection : ForwardScanDirection,
			 range->max_count, sink, arg);

	/*
	 * The snapshot may be older than what is known of the store: an owner who
	 * went past the guard may have removed since then what it still shows. So
	 * may one have meanwhile, if the sink brought the news.
	 */
	if (scan.version > 0 && range->to_version == PG_INT64_MAX &&
		range->max_count < 0 && !range->backward &&
		scan.kept && store->epoch == epoch)
		es_log_tips_remember(store, stream, scan.version, scan.recorded_at,
							 !TransactionIdIsCurrentTransactionId(scan.xmin));
	end_scan(&scan);
	if (range->visibility == ES_SEE_ALL)
		PopActiveSnapshot();
}

/*
 * See es_log_scan_positions().
 */
void
es_log_heap_scan_positions(EsStore *store, Relation rel, const EsPositionRange *range,
						   EsEventSink sink, void *arg)
{
	ScanKeyData keys[2];
	LogScan		scan;

	if (!range->snapshot)
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	begin_scan(&scan, store, rel, ES_LOG_BY_POSITION, 2);
	bigint_key(&keys[0], 1, BTGreaterStrategyNumber, range->after);
	bigint_key(&keys[1], 1, BTLessEqualStrategyNumber, range->upto);
	index_rescan(scan.desc, keys, 2, NULL, 0);
	run_scan(&scan, ForwardScanDirection, range->max_count, sink, arg);
	end_scan(&scan);
	if (!range->snapshot)
		PopActiveSnapshot();
}

/*
 * Returns a bigint of the first row that the scan finds backward, 0 if none.
 */
static int64
last_value(LogScan * scan, EsLogColumn column)
{
	int64		value = 0;
	bool		isnull;

	if (index_getnext_slot(scan->desc, BackwardScanDirection, scan->slot))
		value = DatumGetInt64(slot_getattr(scan->slot, column + 1, &isnull));
	end_scan(scan);
	return value;
}

/*
 * See es_log_stream_version().
 */
int64
es_log_heap_stream_version(EsStore *store, Relation rel, Datum stream)
{
	ScanKeyData key;
	LogScan		scan;

	begin_scan(&scan, store, rel, ES_LOG_BY_VERSION, 1);
	stream_key(&key, scan.index, stream);
	index_rescan(scan.desc, &key, 1, NULL, 0);
	return last_value(&scan, ES_LOG_VERSION);
}

/*
 * See es_log_head().
 */
int64
es_log_heap_head(EsStore *store, Relation rel)
{
	LogScan		scan;

	begin_scan(&scan, store, rel, ES_LOG_BY_POSITION, 0);
	index_rescan(scan.desc, NULL, 0, NULL, 0);
	return last_value(&scan, ES_LOG_POSITION);
}
