/*-------------------------------------------------------------------------
 *
 * reducer.c
 *		Folding events into state.
 *
 * A reducer is fed events in order and holds the state, by rules or by an apply
 * function.  Rules run here and now, in C.  An apply function is
 * user code: it runs as the store's owner, in a security-restricted context,
 * with the search_path of its creation, and writes times in UTC.  Pinning the
 * search_path costs more than many an apply function, so events are collected, as
 * the composite values that the function takes anyway, and applied in batches.
 *
 * Memory: "batch" holds the collected events and is reset after each batch.  The
 * state alternates between two contexts: an apply call allocates in the one that
 * does not hold its input, so the fold's memory does not grow with the stream.
 * A function in C may return a part of the event: before the batch is reset, the
 * state is copied out of it.
 * Rules keep the state as a tree; only what is shown to a sink alternates.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "owner.h"
#include "reducer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#define BATCH_EVENTS	1000
#define BATCH_BYTES		(1024 * 1024)

struct EsReducer
{
	EsStore    *store;
	EsAggregate *aggregate;
	EsStateSink sink;			/* or NULL */
	void	   *arg;

	EsRules    *rules;			/* or NULL: by an apply function */
	EsState    *tree;			/* the state by rules */

	FmgrInfo	apply;
	TupleDesc	event_desc;

	MemoryContext context;		/* of the reducer and all below */
	MemoryContext batch;
	MemoryContext states[2];
	int			current;		/* which of states[] holds the state */
	Jsonb	   *state;

	int			nevents;		/* collected */
	Datum		events[BATCH_EVENTS];
};

/*
 * Returns a reducer for the aggregate that starts from state (NULL: from the
 * aggregate's initial one), in a child of the current memory context.  With a
 * sink it shows the state at each event.
 */
EsReducer *
es_reducer_create(EsStore *store, EsAggregate *aggregate, Jsonb *state,
				  EsStateSink sink, void *arg)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "eventsourcing fold",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	EsReducer  *reducer = palloc0(sizeof(EsReducer));

	reducer->store = store;
	reducer->aggregate = aggregate;
	reducer->sink = sink;
	reducer->arg = arg;
	reducer->context = context;
	reducer->state = state != NULL ? state : aggregate->initial;
	for (int i = 0; i < 2; i++)
		reducer->states[i] = AllocSetContextCreate(context, "eventsourcing fold state",
												   ALLOCSET_DEFAULT_SIZES);
	if (aggregate->rules != NULL)
	{
		reducer->rules = es_aggregate_rules(aggregate);
		reducer->tree = es_state_create(reducer->state, context);
		MemoryContextSwitchTo(oldcontext);
		return reducer;
	}

	reducer->batch = AllocSetContextCreate(context, "eventsourcing fold batch",
										   ALLOCSET_DEFAULT_SIZES);

	fmgr_info_cxt(es_owner_function(store, aggregate->apply, ES_FUNCTION_APPLY,
									&aggregate->apply_function), &reducer->apply, context);
	reducer->event_desc = lookup_rowtype_tupdesc_copy(es_event_type(), -1);
	MemoryContextSwitchTo(oldcontext);
	return reducer;
}

static Datum
event_column(HeapTupleHeader event, TupleDesc desc, EsEventColumn column)
{
	HeapTupleData tuple;
	bool		isnull;

	tuple.t_len = HeapTupleHeaderGetDatumLength(event);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = event;
	return heap_getattr(&tuple, column + 1, desc, &isnull);
}

/* What apply_one() is working on, for the error's context. */
static void
apply_error_context(void *arg)
{
	EsReducer  *reducer = arg;
	HeapTupleHeader event = DatumGetHeapTupleHeader(reducer->events[reducer->nevents]);

	errcontext("apply function %s on event \"%s\", version " INT64_FORMAT " of stream \"%s\"",
			   reducer->aggregate->apply,
			   TextDatumGetCString(event_column(event, reducer->event_desc, ES_EVENT_TYPE)),
			   DatumGetInt64(event_column(event, reducer->event_desc, ES_EVENT_VERSION)),
			   TextDatumGetCString(event_column(event, reducer->event_desc, ES_EVENT_STREAM)));
}

/*
 * Calls the apply function for one event and shows the result to the sink.
 */
static void
apply_one(EsReducer *reducer, Datum event)
{
	LOCAL_FCINFO(fcinfo, 2);
	MemoryContext next = reducer->states[1 - reducer->current];
	MemoryContext oldcontext = MemoryContextSwitchTo(next);
	Jsonb	   *before = reducer->state;
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, &reducer->apply, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(before);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = event;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);

	/*
	 * Not "no change": jsonb_set() and its like return NULL for any NULL
	 * argument, and an event would be lost without a word.
	 */
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("apply function returned NULL"),
				 errhint("Return the state as it was for an event that does not change it.")));

	if (DatumGetPointer(result) != (Pointer) before)
		reducer->state = DatumGetJsonbP(result);
	if (reducer->sink != NULL)
	{
		EsEvent		columns;
		HeapTupleData tuple;

		tuple.t_len = HeapTupleHeaderGetDatumLength(DatumGetHeapTupleHeader(event));
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = DatumGetHeapTupleHeader(event);
		heap_deform_tuple(&tuple, reducer->event_desc, columns.values, columns.nulls);
		reducer->sink(&columns, before, reducer->state, reducer->arg);
	}

	/* free the old state, or what the call that kept it left behind */
	if (reducer->state != before)
		reducer->current = 1 - reducer->current;
	MemoryContextReset(reducer->states[1 - reducer->current]);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * Moves the state into the context of its own that does not hold it.
 */
static void
keep_state(EsReducer *reducer)
{
	MemoryContext next = reducer->states[1 - reducer->current];
	Size		size = VARSIZE(reducer->state);
	Jsonb	   *copy = MemoryContextAlloc(next, size);

	memcpy(copy, reducer->state, size);
	reducer->state = copy;
	reducer->current = 1 - reducer->current;
	MemoryContextReset(reducer->states[1 - reducer->current]);
}

/*
 * Applies the events collected.
 */
static void
flush(EsReducer *reducer)
{
	ErrorContextCallback callback;
	int			nevents = reducer->nevents;
	EsOwnerState owner;

	if (nevents == 0)
		return;

	es_owner_enter(&owner, reducer->store, reducer->aggregate->search_path);
	/* the state is kept, and read in any session: its text is everybody's */
	es_guc_pin_text();

	/* from here on there is an event that an error is about */
	callback.callback = apply_error_context;
	callback.arg = reducer;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	for (reducer->nevents = 0; reducer->nevents < nevents; reducer->nevents++)
	{
		CHECK_FOR_INTERRUPTS();
		apply_one(reducer, reducer->events[reducer->nevents]);
	}

	es_owner_leave(&owner);
	error_context_stack = callback.previous;
	/* a function in C may have returned a part of its event */
	keep_state(reducer);
	reducer->nevents = 0;
	MemoryContextReset(reducer->batch);
}

/*
 * Runs the rules for one event, and shows the result to the sink.  An event
 * that changes nothing costs the sink no copy of the state.
 */
static void
apply_rules(EsReducer *reducer, const EsEvent *event)
{
	Jsonb	   *before = reducer->state;

	es_rules_apply(reducer->rules, reducer->tree, event);
	if (reducer->sink == NULL)
		return;

	if (es_state_changed(reducer->tree))
	{
		MemoryContext oldcontext;

		oldcontext = MemoryContextSwitchTo(reducer->states[1 - reducer->current]);
		reducer->state = es_state_get(reducer->tree);
		MemoryContextSwitchTo(oldcontext);
	}
	reducer->sink(event, before, reducer->state, reducer->arg);
	if (reducer->state != before)
	{
		MemoryContextReset(reducer->states[reducer->current]);
		reducer->current = 1 - reducer->current;
	}
}

/*
 * Feeds the reducer with the next event.
 */
void
es_reducer_apply(EsReducer *reducer, const EsEvent *event)
{
	MemoryContext oldcontext;
	HeapTuple	tuple;

	if (reducer->tree != NULL)
	{
		apply_rules(reducer, event);
		return;
	}

	oldcontext = MemoryContextSwitchTo(reducer->batch);
	tuple = heap_form_tuple(reducer->event_desc, (Datum *) event->values,
							(bool *) event->nulls);
	reducer->events[reducer->nevents++] = HeapTupleGetDatum(tuple);
	MemoryContextSwitchTo(oldcontext);
	if (reducer->nevents == BATCH_EVENTS ||
		MemoryContextMemAllocated(reducer->batch, false) > BATCH_BYTES)
		flush(reducer);
}

/*
 * Returns the state after all events fed so far; it lives until the reducer is
 * fed again, or its memory context is gone.
 */
Jsonb *
es_reducer_state(EsReducer *reducer)
{
	if (reducer->tree != NULL)
		return es_state_get(reducer->tree);
	flush(reducer);
	return reducer->state;
}
