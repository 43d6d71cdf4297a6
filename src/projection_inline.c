/*-------------------------------------------------------------------------
 *
 * projection_inline.c
 *		Read models that are kept in the appending transaction.
 *
 * The rule: what an append inserts, every inline projection that is running
 * takes in before the append returns, or the append fails.  So log and read
 * models never disagree.
 *
 * They are called by a statement trigger with a transition table, which the
 * store has only as long as it has inline projections; where it is the only one
 * of its kind, the direct way into the log calls them itself (log_heap.c).
 *
 * Which projections those are is kept until the store's epoch moves on.  They
 * are looked up after the events table was locked for the insertion, and with
 * the newest snapshot: whoever set one running held that lock against us
 * (projection.c), so we cannot miss it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "errors.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projection.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(es_project);

/* One that is running. */
typedef struct Inline
{
	char	   *name;
	EsProjectionBody body;
	int			ntypes;			/* -1: all */
	text	  **types;			/* by any name that they have or had, sorted */
	EsScript   *script;			/* NULL until it is needed */
} Inline;

/* Those of a store, in the order of their creation. */
typedef struct Inlines
{
	EsStore    *store;			/* hash key */
	uint64		epoch;			/* of the store, when they were looked up */
	int			count;
	Inline	   *projections;
	AttrNumber	attnums[ES_EVENT_NATTS];	/* of the events table */
	MemoryContext context;
} Inlines;

static HTAB *inlines = NULL;

static const EsQuery select_inline = {
	"SELECT name, script, search_path, granularity, types"
	" FROM {es}.projection_definitions"
	" WHERE mode OPERATOR(pg_catalog.=) 'inline' AND state OPERATOR(pg_catalog.=) 'running'"
	" ORDER BY created_at, name",
	0, {0}
};

static const char *const column_names[ES_EVENT_NATTS] = {
	"position", "stream", "version", "type", "data", "metadata", "event_id",
	"tags", "recorded_at"
};

static int
compare_text(const void *a, const void *b)
{
	const text *x = *(const text *const *) a;
	const text *y = *(const text *const *) b;
	int			length = VARSIZE_ANY_EXHDR(x);

	if (length != VARSIZE_ANY_EXHDR(y))
		return length - (int) VARSIZE_ANY_EXHDR(y);
	return memcmp(VARDATA_ANY(x), VARDATA_ANY(y), length);
}

static void
set_types(EsStore *store, Inline *projection)
{
	Datum	   *types;

	projection->ntypes = -1;
	if (projection->body.types == NULL)
		return;
	deconstruct_array(es_upcast_types(store, projection->body.types), TEXTOID, -1, false,
					  TYPALIGN_INT, &types, NULL, &projection->ntypes);
	projection->types = (text **) types;
	qsort(projection->types, projection->ntypes, sizeof(text *), compare_text);
}

static bool
wants(const Inline *projection, const EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->values[ES_EVENT_TYPE]);

	return projection->ntypes < 0 ||
		bsearch(&type, projection->types, projection->ntypes, sizeof(text *),
				compare_text) != NULL;
}

/*
 * Reads a store's definitions into its entry, keeping the scripts that are still
 * the same.
 */
static void
look_up(Inlines *entry)
{
	EsStore    *store = entry->store;
	uint64		epoch = store->epoch;
	Inlines		old = *entry;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "eventsourcing inline projections",
												  ALLOCSET_SMALL_SIZES);
	int			count;
	Inline	   *projections;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	count = (int) es_store_select_latest(store, &select_inline, NULL, NULL);
	projections = MemoryContextAllocZero(context, Max(count, 1) * sizeof(Inline));
	for (int i = 0; i < count; i++)
	{
		Inline	   *projection = &projections[i];
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcontext = MemoryContextSwitchTo(context);
		Datum		types;
		bool		isnull;

		projection->name = SPI_getvalue(tuple, desc, 1);
		projection->body.text = SPI_getvalue(tuple, desc, 2);
		projection->body.search_path = SPI_getvalue(tuple, desc, 3);
		projection->body.granularity = SPI_getvalue(tuple, desc, 4);
		types = SPI_getbinval(tuple, desc, 5, &isnull);
		if (!isnull)
			projection->body.types = DatumGetArrayTypePCopy(types);
		set_types(store, projection);
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();

	/* nothing below can fail */
	for (int i = 0; i < old.count; i++)
	{
		Inline	   *before = &old.projections[i];

		for (int j = 0; j < count && before->script != NULL; j++)
		{
			if (strcmp(projections[j].name, before->name) == 0 &&
				es_projection_is(before->script, before->name, &projections[j].body, 1))
			{
				projections[j].script = before->script;
				before->script = NULL;
			}
		}
		if (before->script != NULL)
			es_script_free(before->script);
	}
	MemoryContextSetParent(context, CacheMemoryContext);
	entry->context = context;
	entry->count = count;
	entry->projections = projections;
	memset(entry->attnums, 0, sizeof(entry->attnums));
	entry->epoch = epoch;

	/* an append further up the stack may still be going through the old list */
	if (old.context != NULL)
		MemoryContextSetParent(old.context, TopTransactionContext);
}

static Inlines *
get_inlines(EsStore *store)
{
	Inlines    *entry;
	bool		found;

	if (inlines == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(EsStore *);
		ctl.entrysize = sizeof(Inlines);
		inlines = hash_create("eventsourcing inline projections", 4, &ctl,
							  HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(inlines, &store, HASH_ENTER, &found);
	if (!found)
		memset((char *) entry + sizeof(EsStore *), 0, sizeof(Inlines) - sizeof(EsStore *));
	if (entry->epoch != store->epoch)
		look_up(entry);
	return entry;
}

/*
 * Passes on an error of an inline projection: as ZE009, with what it was in the
 * message, DETAIL and CONTEXT; but as it is where it says nothing about the
 * projection (a deadlock, a cancelled query, a full disk), since clients retry
 * by those codes.
 */
static void
raise_failed(const Inline *projection, ErrorData *error, int nevents,
			 const EsEvent *events)
{
	int			at = nevents == 1 ? 0 : es_script_failed_at();
	StringInfoData detail;

	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
		case ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR):
			ReThrowError(error);
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);

	initStringInfo(&detail);
	appendStringInfo(&detail, "SQLSTATE %s", unpack_sql_state(error->sqlerrcode));
	if (at >= 0)
		appendStringInfo(&detail, " on event \"%s\", version " INT64_FORMAT " of stream \"%s\"",
						 TextDatumGetCString(events[at].values[ES_EVENT_TYPE]),
						 EsEventVersion(&events[at]),
						 TextDatumGetCString(events[at].values[ES_EVENT_STREAM]));
	else
		appendStringInfo(&detail, " on one of %d events from version " INT64_FORMAT " of stream \"%s\"",
						 nevents, EsEventVersion(&events[0]),
						 TextDatumGetCString(events[0].values[ES_EVENT_STREAM]));
	appendStringInfoChar(&detail, '.');
	if (error->detail != NULL)
		appendStringInfo(&detail, " %s", error->detail);

	/* the context so far is in the error already */
	error_context_stack = NULL;
	ereport(ERROR,
			(errcode(ERRCODE_ES_PROJECTION_FAILED),
			 errmsg("projection \"%s\" failed: %s", projection->name, error->message),
			 errdetail_internal("%s", detail.data),
			 errhint("The append was undone. Correct the script with es_alter_projection(), or let appends do without it: SELECT es_pause_projection(%s).%s%s",
					 quote_literal_cstr(projection->name),
					 error->hint != NULL ? " " : "", error->hint != NULL ? error->hint : ""),
			 error->internalquery != NULL ? internalerrquery(error->internalquery) : 0,
			 error->internalquery != NULL ? internalerrposition(error->internalpos) : 0,
			 error->context != NULL ? errcontext("%s", error->context) : 0));
}

static void
run_inline(EsStore *store, Inline *projection, int nevents, const EsEvent *events)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		if (projection->script == NULL)
			projection->script = es_projection_prepare(store, projection->name,
													   &projection->body, 1);
		es_script_run(projection->script, nevents, events);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		raise_failed(projection, error, nevents, events);
	}
	PG_END_TRY();
}

/*
 * Has every inline projection take in events that were just inserted, in the
 * order of positions.  Raises ZE009 where one fails.
 */
static void
project(EsStore *store, int nevents, const EsEvent *events)
{
	Inlines    *entry = get_inlines(store);

	for (int i = 0; i < entry->count; i++)
	{
		Inline	   *projection = &entry->projections[i];
		int			nwanted = 0;
		EsEvent    *wanted;

		for (int j = 0; j < nevents; j++)
			nwanted += wants(projection, &events[j]);
		if (nwanted == 0)
			continue;
		if (nwanted == nevents)
		{
			run_inline(store, projection, nevents, events);
			continue;
		}

		wanted = palloc_extended(nwanted * sizeof(EsEvent), MCXT_ALLOC_HUGE);
		nwanted = 0;
		for (int j = 0; j < nevents; j++)
		{
			if (wants(projection, &events[j]))
				wanted[nwanted++] = events[j];
		}
		run_inline(store, projection, nwanted, wanted);
		pfree(wanted);
	}
}

static bool
any_wants(const Inlines *entry, const EsEvent *event)
{
	for (int i = 0; i < entry->count; i++)
	{
		if (wants(&entry->projections[i], event))
			return true;
	}
	return false;
}

/*
 * Where the columns of an event are in the events table: on a table that was
 * made by other hands, a partitioned one, in any order.
 */
static void
find_columns(Inlines *entry, TupleDesc desc)
{
	for (int i = 0; i < ES_EVENT_NATTS; i++)
	{
		for (int j = 0; j < desc->natts; j++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, j);

			if (!att->attisdropped && strcmp(NameStr(att->attname), column_names[i]) == 0)
				entry->attnums[i] = j + 1;
		}
		if (entry->attnums[i] == 0)
			elog(ERROR, "the events table has no column \"%s\"", column_names[i]);
	}
}

static void
read_slot(const Inlines *entry, TupleTableSlot *slot, EsEvent *event)
{
	slot_getallattrs(slot);
	for (int i = 0; i < ES_EVENT_NATTS; i++)
	{
		event->values[i] = slot->tts_values[entry->attnums[i] - 1];
		event->nulls[i] = slot->tts_isnull[entry->attnums[i] - 1];
	}
}

/* What is on its way to the projections: a single event needs no copy. */
typedef struct Intake
{
	Inlines    *inlines;
	EsUpcast   *upcast;
	EsEventBatch *batch;		/* NULL for a single event */
} Intake;

static void
begin_intake(Intake *intake, Inlines *entry, int64 nevents)
{
	intake->inlines = entry;
	intake->upcast = es_upcast_begin(entry->store);
	intake->batch = nevents > 1 ? es_event_batch_create() : NULL;
}

static void
take_in(Intake *intake, EsEvent *event)
{
	if (!es_upcast_event(intake->upcast, event) || !any_wants(intake->inlines, event))
		return;
	if (intake->batch == NULL)
		project(intake->inlines->store, 1, event);
	else
		es_event_batch_add(intake->batch, event);
}

static void
end_intake(Intake *intake)
{
	EsEventBatch *batch = intake->batch;

	if (batch != NULL)
	{
		if (batch->nevents > 0)
			project(intake->inlines->store, batch->nevents, batch->events);
		es_event_batch_destroy(batch);
	}
	es_upcast_end(intake->upcast);
}

/*
 * Does what the trigger es_project does, for events that were just inserted
 * without firing it: it has them from a transition table.
 */
void
es_project_inserted(EsStore *store, Datum stream, int64 version,
					TimestampTz recorded_at, int nevents, const EsNewEvent *events)
{
	Inlines    *entry;
	Intake		intake;

	/*
	 * The store may have been looked up long before the events were locked
	 * for the insertion: by a command, which is decided on in between.  That
	 * lock is held, but to get it again brought no news.
	 */
	AcceptInvalidationMessages();
	es_store_validate(store);
	entry = get_inlines(store);
	if (entry->count == 0)
		return;
	begin_intake(&intake, entry, nevents);
	for (int i = 0; i < nevents; i++)
	{
		const EsNewEvent *new = &events[i];
		EsEvent		event = {0};

		event.values[ES_EVENT_POSITION] = Int64GetDatum(new->position);
		event.values[ES_EVENT_STREAM] = stream;
		event.values[ES_EVENT_VERSION] = Int64GetDatum(version + i);
		event.values[ES_EVENT_TYPE] = PointerGetDatum(new->type);
		event.values[ES_EVENT_DATA] = PointerGetDatum(new->data);
		event.values[ES_EVENT_METADATA] = PointerGetDatum(new->metadata);
		event.nulls[ES_EVENT_METADATA] = new->metadata == NULL;
		event.values[ES_EVENT_EVENT_ID] = PointerGetDatum(new->event_id);
		event.nulls[ES_EVENT_EVENT_ID] = new->event_id == NULL;
		event.values[ES_EVENT_TAGS] = PointerGetDatum(new->tags);
		event.nulls[ES_EVENT_TAGS] = new->tags == NULL;
		event.values[ES_EVENT_RECORDED_AT] = TimestampTzGetDatum(recorded_at);
		take_in(&intake, &event);
	}
	end_intake(&intake);
}

/*
 * es_project(): the statement trigger on the events table.
 */
Datum
es_project(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	EsStore    *store;
	Inlines    *entry;
	TupleDesc	desc;
	TupleTableSlot *slot;
	Intake		intake;
	int64		nevents;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		trigdata->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("es_project() can only be called as an AFTER INSERT statement trigger with a transition table")));

	/* not the current one: a table may be captured into another */
	store = es_store_named(get_namespace_name(RelationGetNamespace(trigdata->tg_relation)));
	if (store->events != RelationGetRelid(trigdata->tg_relation))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is not the events table of a store",
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Drop the trigger: es_create_projection() puts it where it belongs.")));
	nevents = tuplestore_tuple_count(trigdata->tg_newtable);
	entry = get_inlines(store);
	if (nevents == 0 || entry->count == 0)
		return PointerGetDatum(NULL);

	desc = RelationGetDescr(trigdata->tg_relation);
	if (entry->attnums[0] == 0)
		find_columns(entry, desc);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	begin_intake(&intake, entry, nevents);
	while (tuplestore_gettupleslot(trigdata->tg_newtable, true, false, slot))
	{
		EsEvent		event;

		read_slot(entry, slot, &event);
		take_in(&intake, &event);
	}
	ExecDropSingleTupleTableSlot(slot);
	end_intake(&intake);
	return PointerGetDatum(NULL);
}
