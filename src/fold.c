/*-------------------------------------------------------------------------
 *
 * fold.c
 *		From the events of a stream to its state.
 *
 * A fold depends on the state that it starts from, the aggregate's definition,
 * the upcasters and the events, and on nothing else.  It reads the stream once,
 * and its memory does not grow with the stream.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fold.h"
#include "upcast.h"
#include "utils/memutils.h"

typedef struct Fold
{
	EsReducer  *reducer;
	EsUpcast   *upcast;
	TimestampTz as_of;
	EsFolded   *folded;
} Fold;

/* An event sink: folds the event, or ends the scan at the time limit. */
static bool
fold_event(const EsEvent *stored, void *arg)
{
	Fold	   *fold = arg;
	EsEvent		event = *stored;

	if (EsEventRecordedAt(&event) > fold->as_of)
		return false;

	/* an event that an upcaster drops counts as a version all the same */
	if (es_upcast_event(fold->upcast, &event))
		es_reducer_apply(fold->reducer, &event);
	fold->folded->version = EsEventVersion(&event);
	fold->folded->recorded_at = Max(fold->folded->recorded_at, EsEventRecordedAt(&event));
	fold->folded->nevents++;
	return true;
}

/*
 * Folds the events after folded->version, on top of folded->state, into it; the
 * new state is allocated in the current memory context.  A sink is shown the
 * state before and after each event.
 */
void
es_fold(EsStore *store, EsAggregate *aggregate, Datum stream,
		const EsFoldLimit *limit, EsFolded *folded, EsStateSink sink, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "eventsourcing load",
												  ALLOCSET_DEFAULT_SIZES);
	EsStreamRange range = {0};
	Fold		fold;
	Jsonb	   *state;

	MemoryContextSwitchTo(context);
	fold.reducer = es_reducer_create(store, aggregate, folded->state, sink, arg);
	fold.upcast = es_upcast_begin(store);
	fold.as_of = limit->as_of;
	fold.folded = folded;

	range.from_version = folded->version + 1;
	range.to_version = limit->version;
	range.max_count = -1;
	range.visibility = limit->visibility;
	es_log_scan_stream(store, stream, &range, fold_event, &fold);

	state = es_reducer_state(fold.reducer);
	folded->state = MemoryContextAlloc(caller, VARSIZE(state));
	memcpy(folded->state, state, VARSIZE(state));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
