/*-------------------------------------------------------------------------
 *
 * fold.c
 *		From the events of a stream to its state.
 *
 * A fold depends on the state that it starts from, the aggregate's definition,
 * the upcasters and the events, and on nothing else.  It reads the stream once,
 * and its memory does not grow with the stream.
 *
 * Versions have no gaps, and a fold that missed an event would be silently wrong,
 * so it is an error; but row security may hide events from the caller, and what
 * he gets then is the state of what he may see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fold.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "wake.h"

typedef struct Fold
{
	EsReducer  *reducer;
	EsUpcast   *upcast;
	const EsFoldLimit *limit;
	bool		filtered;
	EsFolded   *folded;
} Fold;

/*
 * Whether row security may hide events from a fold.
 */
bool
es_fold_is_filtered(EsStore *store, const EsFoldLimit *limit)
{
	return limit->visibility != ES_SEE_ALL &&
		check_enable_rls(store->events, InvalidOid, true) == RLS_ENABLED;
}

/*
 * Raises that events before this one are missing.
 */
static void
raise_gap(const Fold *fold, const EsEvent *event)
{
	const char *stream = TextDatumGetCString(event->values[ES_EVENT_STREAM]);

	/* the transaction appended behind what others did after its snapshot */
	if (fold->limit->visibility == ES_SEE_STATEMENT && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent appends to stream \"%s\"", stream),
				 errdetail("The transaction's snapshot sees version " INT64_FORMAT " and then " INT64_FORMAT ".",
						   fold->folded->version, EsEventVersion(event)),
				 errhint("Retry the transaction.")));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("stream \"%s\" has a gap between its versions", stream),
			 errdetail("Version " INT64_FORMAT " is followed by " INT64_FORMAT ".",
					   fold->folded->version, EsEventVersion(event)),
			 errhint("SELECT * FROM es_verify() tells what else is wrong.")));
}

/* An event sink: folds the event, or ends the scan at the time limit. */
static bool
fold_event(const EsEvent *stored, void *arg)
{
	Fold	   *fold = arg;
	EsEvent		event = *stored;

	if (EsEventRecordedAt(&event) > fold->limit->as_of)
		return false;
	if (EsEventVersion(&event) != fold->folded->version + 1 && !fold->filtered)
		raise_gap(fold, &event);

	/* an event that an upcaster drops counts as a version all the same */
	if (es_upcast_event(fold->upcast, &event))
		es_reducer_apply(fold->reducer, &event);
	fold->folded->version = EsEventVersion(&event);
	fold->folded->recorded_at = Max(fold->folded->recorded_at, EsEventRecordedAt(&event));
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
	int64		from = folded->version;

	MemoryContextSwitchTo(context);
	fold.reducer = es_reducer_create(store, aggregate, folded->state, sink, arg);
	fold.upcast = es_upcast_begin(store);
	fold.limit = limit;
	fold.filtered = es_fold_is_filtered(store, limit);
	fold.folded = folded;

	range.from_version = folded->version + 1;
	range.to_version = limit->version;
	range.max_count = -1;
	range.visibility = limit->visibility;
	es_log_scan_stream(store, stream, &range, fold_event, &fold);
	es_wake_count(ES_COUNT_FOLDED, folded->version - from);

	state = es_reducer_state(fold.reducer);
	folded->state = MemoryContextAlloc(caller, VARSIZE(state));
	memcpy(folded->state, state, VARSIZE(state));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
