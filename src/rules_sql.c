/*-------------------------------------------------------------------------
 *
 * rules_sql.c
 *		Rules as an SQL function, for trying them out without a store.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "rules.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(es_apply_rules);

/* The rules of the last call, kept for the next one. */
typedef struct Cache
{
	MemoryContext mcxt;			/* of source and program */
	Jsonb	   *source;
	EsRules    *program;
} Cache;

/* Returns the program for these rules, the cached one if they are the same. */
static EsRules *
cached_rules(FunctionCallInfo fcinfo, Jsonb *rules)
{
	Cache	   *cache = fcinfo->flinfo->fn_extra;
	Size		size = VARSIZE(rules);

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Cache));
		fcinfo->flinfo->fn_extra = cache;
	}
	if (cache->program != NULL && VARSIZE(cache->source) == size &&
		memcmp(cache->source, rules, size) == 0)
		return cache->program;

	cache->program = NULL;
	if (cache->mcxt != NULL)
		MemoryContextReset(cache->mcxt);
	else
		cache->mcxt = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
											"eventsourcing rules",
											ALLOCSET_SMALL_SIZES);
	cache->source = MemoryContextAlloc(cache->mcxt, size);
	memcpy(cache->source, rules, size);
	cache->program = es_rules_compile(rules, cache->mcxt);
	return cache->program;
}

/* Takes an es_event apart. */
static void
deform_event(HeapTupleHeader header, EsEvent *event)
{
	TupleDesc	tupdesc;
	HeapTupleData tuple;

	tupdesc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
									 HeapTupleHeaderGetTypMod(header));
	if (tupdesc->natts != ES_EVENT_NATTS)
		elog(ERROR, "es_event has %d columns, not %d", tupdesc->natts,
			 ES_EVENT_NATTS);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, tupdesc, event->values, event->nulls);
	ReleaseTupleDesc(tupdesc);
}

/*
 * es_apply_rules(rules jsonb, state jsonb, event es_event) returns jsonb
 *
 * Returns the state after the event.
 */
Datum
es_apply_rules(PG_FUNCTION_ARGS)
{
	Jsonb	   *rules = PG_GETARG_JSONB_P(0);
	Jsonb	   *before = PG_GETARG_JSONB_P(1);
	EsRules    *program = cached_rules(fcinfo, rules);
	EsState    *state;
	EsEvent		event;
	Jsonb	   *after;

	deform_event(PG_GETARG_HEAPTUPLEHEADER(2), &event);
	state = es_state_create(before, CurrentMemoryContext);
	es_rules_apply(program, state, &event);
	after = es_state_get(state);
	es_state_destroy(state);
	PG_RETURN_JSONB_P(after);
}
