/*-------------------------------------------------------------------------
 *
 * decider.c
 *		The command side: load, decide and append in one call.
 *
 * A decider is a function of the owner's that takes a stream's state and a
 * command, and returns the events that follow from it, or raises.  What it
 * decided on is what its events are appended to: the append expects the version
 * that was loaded, and if a rival got there first, the decision is made again on
 * the new state.  So a decider may be called more than once for a command, and
 * must do nothing but decide.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "append.h"
#include "catalog.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "context.h"
#include "errors.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "owner.h"
#include "queue.h"
#include "snapshot.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(es_create_decider);
PG_FUNCTION_INFO_V1(es_execute);

static const EsQuery upsert_decider = {
	"INSERT INTO {es}.deciders (category, decide, search_path) VALUES ($1, $2, $3)"
	" ON CONFLICT (category) DO UPDATE SET"
	" decide = EXCLUDED.decide, search_path = EXCLUDED.search_path",
	3, {TEXTOID, TEXTOID, TEXTOID}
};

/*
 * es_create_decider(category, decide)
 */
Datum
es_create_decider(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Datum		values[3];
	EsAggregate *aggregate;

	es_check_argument(fcinfo, 0, "category");
	es_check_argument(fcinfo, 1, "decide");
	es_store_check_owner(store);

	/* the category must have a state to decide on */
	values[0] = PG_GETARG_DATUM(0);
	aggregate = es_aggregate_get(store, values[0]);
	if (strcmp(aggregate->category, TextDatumGetCString(values[0])) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a category", TextDatumGetCString(values[0])),
				 errhint("A category is the part of a stream's name before the first \"-\".")));

	values[1] = CStringGetTextDatum(es_owner_signature(store, PG_GETARG_OID(1), ES_FUNCTION_DECIDER));
	values[2] = CStringGetTextDatum(es_owner_search_path());
	SPI_connect();
	(void) es_store_execute(store, &upsert_decider, values, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Calls the decider, as the store's owner, and returns the array of events.
 * Raises 42704 where there is none.
 */
static Jsonb *
decide(EsStore *store, EsAggregate *aggregate, Jsonb *state, Datum command,
	   Datum payload)
{
	LOCAL_FCINFO(fcinfo, 3);
	FmgrInfo	function;
	EsOwnerState owner;
	Datum		result;

	if (aggregate->decide == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no decider is defined for category \"%s\"", aggregate->category),
				 errhint("Define it with es_create_decider(%s, ...).",
						 quote_literal_cstr(aggregate->category))));

	fmgr_info(es_owner_function(store, aggregate->decide, ES_FUNCTION_DECIDER,
								&aggregate->decide_function), &function);
	InitFunctionCallInfoData(*fcinfo, &function, 3, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(state);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = command;
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = payload;
	fcinfo->args[2].isnull = false;

	es_owner_enter(&owner, store, aggregate->decide_search_path);
	result = FunctionCallInvoke(fcinfo);
	es_owner_leave(&owner);
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("decider %s returned NULL for command \"%s\"",
						aggregate->decide, TextDatumGetCString(command)),
				 errhint("Return an empty array where there is nothing to do, and raise an error for a command that is refused or unknown.")));
	return DatumGetJsonbP(result);
}

/*
 * Raises XX001 for a stream whose snapshot is of events that it has no longer.
 */
static void
raise_ahead(text *stream, int64 loaded, int64 version)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("stream \"%s\" has a snapshot of events that it does not have",
					text_to_cstring(stream)),
			 errdetail("Its state is one of version " INT64_FORMAT ", and its last event has version " INT64_FORMAT ".",
					   loaded, version),
			 errhint("Somebody took events away. es_verify() tells what is wrong; es_drop_snapshots() has states folded from the events that are left.")));
}

/*
 * es_execute(stream, command, payload, expected_version, metadata)
 */
Datum
es_execute(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	text	   *stream;
	Jsonb	   *metadata = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	int64		expected = es_append_get_expected(fcinfo, 3);
	MemoryContext attempt;
	MemoryContext oldcontext;
	bool		queue;
	int			ahead = 0;

	PreventCommandIfReadOnly("es_execute()");
	es_check_argument(fcinfo, 0, "stream");
	es_check_argument(fcinfo, 1, "command");
	es_check_argument(fcinfo, 2, "payload");
	stream = PG_GETARG_TEXT_PP(0);
	es_append_check_rights(store, GetUserId());
	es_append_check_stream(stream);
	if (metadata != NULL && !JB_ROOT_IS_OBJECT(metadata))
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("metadata of command \"%s\" is not an object",
						TextDatumGetCString(PG_GETARG_DATUM(1))),
				 errdetail("Metadata: %s", JsonbToCString(NULL, &metadata->root, 0)),
				 errhint("Pass a JSON object, or NULL for none.")));

	queue = es_queue_is_hot(store, stream);
	attempt = AllocSetContextCreate(CurrentMemoryContext, "eventsourcing execute",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(attempt);
	for (;;)
	{
		EsFoldLimit limit = {PG_INT64_MAX, DT_NOEND, ES_SEE_ALL};
		EsAggregate *aggregate;
		EsTip		tip;
		EsFolded	folded;
		EsNewEvent *events;
		int			nevents;
		int64		version;
		bool		conflict = false;

		CHECK_FOR_INTERRUPTS();
		if (queue)
		{
			ErrorContextCallback callback;

			es_append_push_context(&callback, stream);
			if (!TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
				!es_log_tip(store, PointerGetDatum(stream), 0).ours)
				es_queue_join(store, stream);
			error_context_stack = callback.previous;
			/* who waited decides by what is defined now */
			AcceptInvalidationMessages();
		}
		queue = false;

		aggregate = es_snapshot_load(store, PointerGetDatum(stream), &limit, &folded);
		es_append_check_version(stream, expected, folded.version);
		nevents = es_parse_events(decide(store, aggregate, folded.state,
										 PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)),
								  &events);
		for (int i = 0; i < nevents; i++)
			events[i].metadata = es_context_defaults(events[i].metadata, metadata);
		version = es_append_to(store, stream, nevents, events, folded.version, &conflict);
		MemoryContextReset(attempt);
		if (!conflict)
		{
			MemoryContextSwitchTo(oldcontext);
			MemoryContextDelete(attempt);
			PG_RETURN_INT64(version);
		}

		/*
		 * The owner may just have taken events away, but once more is a
		 * snapshot of what is no longer there.
		 */
		if (version < folded.version && ahead++ > 0)
			raise_ahead(stream, folded.version, version);

		/*
		 * Lost to ourselves: what the decider appended there it would append
		 * again at the next attempt, and for ever.
		 */
		tip = es_log_tip(store, PointerGetDatum(stream), 0);
		if (tip.ours && tip.version > folded.version)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the decider of stream \"%s\" appended to that stream itself",
							text_to_cstring(stream)),
					 errdetail("The command was \"%s\".", TextDatumGetCString(PG_GETARG_DATUM(1))),
					 errhint("A decider returns the events that follow from a command; es_execute() appends them.")));

		/* a rival was faster: get in line, and decide on what he left */
		queue = true;
	}
}
