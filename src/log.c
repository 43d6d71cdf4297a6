/*-------------------------------------------------------------------------
 *
 * log.c
 *		The two ways into the events table, and which one is taken.
 *
 * log_spi.c is right everywhere; log_heap.c is faster, and right where
 * log_shape.c says so.  Nobody above log.h can tell them apart.  The setting
 * eventsourcing.log_path forces either, for tests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "log.h"
#include "log_heap.h"
#include "log_spi.h"
#include "log_tips.h"
#include "utils/acl.h"

/*
 * Returns the last event of a stream: all rows, whoever asks, as of now.  It
 * asks in order to append, and so takes the lock that appending takes.  The
 * version expected, where it is positive, only tells where to look first.
 */
EsTip
es_log_tip(EsStore *store, Datum stream, int64 expected)
{
	Relation	rel = es_log_heap_open(store, RowExclusiveLock, ACL_NO_RIGHTS);

	if (rel == NULL)
		return es_log_spi_tip(store, stream);
	return es_log_heap_tip(store, rel, stream, expected);
}

/*
 * Whether the stream can be taken to be at the version expected, without a look:
 * because it is expected to be new, or that event is known to be there.  If it
 * has moved on, the insertion finds that out.  Fills in the tip that it is then.
 */
bool
es_log_may_be_at(EsStore *store, Datum stream, int64 expected, EsTip *tip)
{
	if (expected == 0)
	{
		*tip = (EsTip)
		{
			.alone = true
		};
		return true;
	}
	return expected > 0 && es_log_tips_recall(store, stream, tip) &&
		tip->version == expected;
}

/*
 * Returns how many of the new events' ids the stream has already, and the
 * events that carry them, in the order of the new ones.
 */
int
es_log_find_ids(EsStore *store, Datum stream, int nevents,
				const EsNewEvent *events, EsKnownId **known)
{
	Relation	rel = es_log_heap_open(store, RowExclusiveLock, ACL_NO_RIGHTS);

	if (rel == NULL)
		return es_log_spi_find_ids(store, stream, nevents, events, known);
	return es_log_heap_find_ids(store, rel, stream, nevents, events, known);
}

/*
 * Inserts events as the versions that follow the tip's.  Waits for a rival in
 * flight for the first of them; then either holds it to the end of the
 * transaction, or returns false, with nothing inserted.  With raise set,
 * whatever is in the way is PostgreSQL's own error instead.
 */
bool
es_log_insert(EsStore *store, Datum stream, const EsTip *tip,
			  TimestampTz recorded_at, int nevents, const EsNewEvent *events,
			  bool raise)
{
	Relation	rel = es_log_heap_open(store, RowExclusiveLock, ACL_INSERT);

	if (rel == NULL)
		return es_log_spi_insert(store, stream, tip, recorded_at, nevents, events, raise);
	return es_log_heap_insert(store, rel, stream, tip, recorded_at, nevents, events, raise);
}

/*
 * Feeds the sink with events of one stream, in the order of versions.
 */
void
es_log_scan_stream(EsStore *store, Datum stream, const EsStreamRange *range,
				   EsEventSink sink, void *arg)
{
	Relation	rel = es_log_heap_open(store, AccessShareLock,
									   range->visibility == ES_SEE_ALL ? ACL_NO_RIGHTS : ACL_SELECT);

	if (rel == NULL)
		es_log_spi_scan_stream(store, stream, range, sink, arg);
	else
		es_log_heap_scan_stream(store, rel, stream, range, sink, arg);
}

/*
 * Feeds the sink with events of the store in the order of positions, with a
 * snapshot taken now (within REPEATABLE READ: the transaction's), or with the
 * active one.
 */
void
es_log_scan_positions(EsStore *store, const EsPositionRange *range,
					  EsEventSink sink, void *arg)
{
	Relation	rel = NULL;

	/* which index serves a filter best, the planner knows */
	if (range->category == NULL && range->types == NULL && range->tags == NULL)
		rel = es_log_heap_open(store, AccessShareLock, ACL_SELECT);
	if (rel == NULL)
		es_log_spi_scan_positions(store, range, sink, arg);
	else
		es_log_heap_scan_positions(store, rel, range, sink, arg);
}

/*
 * Returns the version of a stream as the caller's statement sees it.
 */
int64
es_log_stream_version(EsStore *store, Datum stream)
{
	Relation	rel = es_log_heap_open(store, AccessShareLock, ACL_SELECT);

	if (rel == NULL)
		return es_log_spi_stream_version(store, stream);
	return es_log_heap_stream_version(store, rel, stream);
}

/*
 * Returns the highest position as the caller's statement sees it.
 */
int64
es_log_head(EsStore *store)
{
	Relation	rel = es_log_heap_open(store, AccessShareLock, ACL_SELECT);

	if (rel == NULL)
		return es_log_spi_head(store);
	return es_log_heap_head(store, rel);
}
