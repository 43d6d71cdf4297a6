/*-------------------------------------------------------------------------
 *
 * append.c
 *		Appending events to a stream.
 *
 * The rule: of two appends that expect the same version exactly one succeeds
 * and the other gets ZE001; appends that expect none never fail because of
 * each other.  The unique index on (stream, version) is the lock: whoever
 * inserts the first event's version holds it to the end of the transaction.
 *
 * Who expects a new stream need not look: version 1 goes in or it does not.  Nor
 * need who knows the event that he expects to be the last.  Only a session that
 * failed at that looks first for a while, because every failure leaves a dead row
 * behind.
 *
 * The order of steps matters.  A stream's positions grow with its versions
 * because the tip is read before positions are drawn, and they are drawn anew
 * for every attempt.  recorded_at grows too, whatever the clock does, because
 * it is never less than the tip's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "append.h"
#include "compat.h"
#include "context.h"
#include "errors.h"
#include "floor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue.h"
#include "script.h"
#include "snapshot.h"
#include "upcast.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(es_append);
PG_FUNCTION_INFO_V1(es_append_events);

/* how many appends are still to look before they leap */
#define WARY_APPENDS 100
static int	wary = 0;

static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(const EsNewEvent *const *) a)->event_id,
				  (*(const EsNewEvent *const *) b)->event_id, UUID_LEN);
}

/*
 * Returns how many of the events have an id; raises ZE003 where two have the
 * same.
 */
static int
check_ids(int nevents, EsNewEvent *events)
{
	EsNewEvent **sorted;
	int			nids = 0;

	for (int i = 0; i < nevents; i++)
		nids += events[i].event_id != NULL;
	if (nids < 2)
		return nids;

	sorted = palloc(nids * sizeof(EsNewEvent *));
	nids = 0;
	for (int i = 0; i < nevents; i++)
	{
		if (events[i].event_id != NULL)
			sorted[nids++] = &events[i];
	}
	qsort(sorted, nids, sizeof(EsNewEvent *), compare_ids);
	for (int i = 1; i < nids; i++)
	{
		if (compare_ids(&sorted[i - 1], &sorted[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_ES_IDEMPOTENCY_VIOLATION),
					 errmsg("event id %s occurs twice in one batch",
							DatumGetCString(DirectFunctionCall1(uuid_out,
																UUIDPGetDatum(sorted[i]->event_id)))),
					 errhint("Give every event an id of its own.")));
	}
	pfree(sorted);
	return nids;
}

/*
 * Whether the caller may read every event.  The look-up of ids sees them all.
 */
static bool
may_see_all(EsStore *store)
{
	return pg_class_aclcheck(store->events, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(store->events, InvalidOid, true) != RLS_ENABLED;
}

/*
 * Looks for the batch in the stream.  Returns 0 where none of its ids is known
 * there; the version of its last event where all of it has been appended
 * before; raises ZE003 for anything in between.
 */
static int64
find_batch(EsStore *store, text *stream, int nevents, int nids,
		   EsNewEvent *events)
{
	EsKnownId  *known;
	int			nknown;

	nknown = es_log_find_ids(store, PointerGetDatum(stream), nevents, events, &known);
	if (nknown == 0)
		return 0;

	for (int i = 0; i < nknown; i++)
	{
		EsNewEvent *event = &events[known[i].ordinal];
		const char *problem = NULL;

		if (!DatumGetBool(DirectFunctionCall2(byteaeq, PointerGetDatum(event->type), known[i].type)))
			problem = "with another type";
		else if (compareJsonbContainers(&event->data->root,
										&DatumGetJsonbP(known[i].data)->root) != 0)
			problem = "with other data";
		else if (i > 0 && known[i].version <= known[i - 1].version)
			problem = "in another order";
		if (problem != NULL && !may_see_all(store))
			problem = "for another event";
		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ES_IDEMPOTENCY_VIOLATION),
					 errmsg("event id %s was used before in stream \"%s\", %s",
							DatumGetCString(DirectFunctionCall1(uuid_out,
																UUIDPGetDatum(event->event_id))),
							text_to_cstring(stream), problem),
					 may_see_all(store) ?
					 errdetail("The event with this id is \"%s\" at version " INT64_FORMAT ".",
							   TextDatumGetCString(known[i].type), known[i].version) :
					 errdetail("The event with this id is at version " INT64_FORMAT ".",
							   known[i].version),
					 errhint("An event id belongs to one event for ever; a retry has to repeat type and data.")));
	}
	if (nknown < nevents)
		ereport(ERROR,
				(errcode(ERRCODE_ES_IDEMPOTENCY_VIOLATION),
				 errmsg("%d of the %d events were appended to stream \"%s\" before",
						nknown, nevents, text_to_cstring(stream)),
				 errdetail("Event id %s is at version " INT64_FORMAT ".",
						   DatumGetCString(DirectFunctionCall1(uuid_out,
															   UUIDPGetDatum(events[known[0].ordinal].event_id))),
						   known[0].version),
				 nids < nevents ?
				 errhint("Give every event of a batch an id, or none: one without cannot be known again.") :
				 errhint("Retry the batch as it was, or append only the events that are new.")));
	return known[nknown - 1].version;
}

/*
 * Whether the insertion is to tell if the version expected holds; fills in the
 * tip that the stream then has.  Within SERIALIZABLE what was decided on has to
 * have been read.
 */
static bool
may_leap(EsStore *store, text *stream, int64 expected, EsTip *tip)
{
	if (expected < 0 || IsolationIsSerializable())
		return false;
	if (wary > 0)
	{
		wary--;
		return false;
	}
	return es_log_may_be_at(store, PointerGetDatum(stream), expected, tip);
}

static bool
version_holds(int64 expected, int64 actual)
{
	if (expected == ES_VERSION_ANY)
		return true;
	if (expected == ES_VERSION_EXISTS)
		return actual > 0;
	return expected == actual;
}

/*
 * Raises ZE001 unless the stream's version is as expected.
 */
void
es_append_check_version(text *stream, int64 expected, int64 actual)
{
	const char *name;

	if (version_holds(expected, actual))
		return;
	name = text_to_cstring(stream);
	es_wake_count(ES_COUNT_CONFLICTS, 1);
	ereport(ERROR,
			(errcode(ERRCODE_ES_VERSION_CONFLICT),
			 errmsg("version conflict on stream \"%s\"", name),
			 expected == ES_VERSION_EXISTS ?
			 errdetail("Stream \"%s\": expected version -1 (any but 0), actual version " INT64_FORMAT ".",
					   name, actual) :
			 errdetail("Stream \"%s\": expected version " INT64_FORMAT ", actual version " INT64_FORMAT ".",
					   name, expected, actual),
			 errhint("Load the stream, decide again on its present state, and append with the version loaded.")));
}

/*
 * Returns argument n of a function as an expected version, ES_VERSION_ANY where
 * it is NULL.  Raises 22023 for what is none.
 */
int64
es_append_get_expected(FunctionCallInfo fcinfo, int n)
{
	int64		expected;

	if (PG_ARGISNULL(n))
		return ES_VERSION_ANY;
	expected = PG_GETARG_INT64(n);
	if (expected < 0 && expected != ES_VERSION_EXISTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expected version " INT64_FORMAT " is not valid", expected),
				 errhint("Pass NULL for any version, 0 for a new stream, a positive number for exactly that version, -1 for a stream that exists.")));
	return expected;
}

/*
 * Raises 42501 unless the role may append.
 */
void
es_append_check_rights(EsStore *store, Oid role)
{
	if (pg_class_aclcheck(store->events, role, ACL_INSERT) != ACLCHECK_OK ||
		object_aclcheck(NamespaceRelationId, store->schema, role, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to append to event store \"%s\"", NameStr(store->name)),
				 errhint("The store's owner can allow it: SELECT es_grant(%s, 'writer').",
						 quote_literal_cstr(GetUserNameFromId(role, false)))));
}

/*
 * Raises ZE001 for a version that is not the stream's next.
 */
static void
raise_not_next(text *stream, int64 version, int64 actual)
{
	const char *name = text_to_cstring(stream);

	ereport(ERROR,
			(errcode(ERRCODE_ES_VERSION_CONFLICT),
			 errmsg("version " INT64_FORMAT " is not the next one of stream \"%s\"", version, name),
			 errdetail("Stream \"%s\" is at version " INT64_FORMAT ".", name, actual),
			 errhint("Import the versions of a stream in order and without gaps; those that it has need not be imported again.")));
}

/*
 * Raises 22023 for an event that was recorded before the stream's last one.
 */
static void
raise_time_went_back(text *stream, TimestampTz recorded_at, const EsTip *tip)
{
	const char *before = pstrdup(timestamptz_to_str(tip->recorded_at));

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("version " INT64_FORMAT " of stream \"%s\" cannot have been recorded before version " INT64_FORMAT,
					tip->version + 1, text_to_cstring(stream), tip->version),
			 errdetail("Recorded at %s, and version " INT64_FORMAT " at %s.",
					   timestamptz_to_str(recorded_at), tip->version, before),
			 errhint("Times do not go back within a stream.")));
}

/*
 * Appends events to a stream, now or, for an import, as recorded at some time;
 * see append().
 */
static int64
append_events(EsStore *store, text *stream, int nevents, EsNewEvent *events,
			  int64 expected, const TimestampTz *recorded_at, bool *conflict)
{
	int			nids;
	bool		leap;
	bool		lost = false;
	bool		queue;
	bool		queued = false;
	int64		lost_at = 0;
	EsTip		tip;

	es_append_check_stream(stream);
	es_append_check_events(nevents, events);
	es_append_check_rights(store, GetUserId());
	es_script_check_append();

	for (int i = 0; i < nevents && recorded_at == NULL; i++)
		events[i].metadata = es_context_merge(events[i].metadata,
											  es_upcast_schema(store, events[i].type));
	nids = check_ids(nevents, events);
	queue = es_queue_is_hot(store, stream);

	/* who has written nothing yet can't own the tip, and needs no look at it */
	if (queue && expected < 0 && nevents > 0 && nids == 0 &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		es_queue_join(store, stream);
		queued = true;
	}
	es_floor_enter(store);
	/* since a decider loaded, the guard may have been off, and events gone */
	es_store_validate(store);
	es_wake_at_end();
	leap = nevents > 0 && may_leap(store, stream, expected, &tip);

	for (;;)
	{
		bool		holds;
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		if (!leap)
			tip = es_log_tip(store, PointerGetDatum(stream), expected);
		holds = version_holds(expected, tip.version);

		/*
		 * Lost to ourselves: what a trigger did there it would do again at
		 * the next attempt, and for ever.
		 */
		if (lost && tip.ours && tip.version > lost_at)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a trigger got in the way of an append to stream \"%s\"",
							text_to_cstring(stream)),
					 errhint("A trigger that appends to the event's own stream has to be an AFTER trigger, and one that refuses an event has to raise an error.")));

		/*
		 * A single new event with an id needs no look-up: the index on ids
		 * makes its insertion fail if the id is known.
		 */
		if (nids > 0 && tip.version > 0 && (nevents > 1 || lost || !holds))
		{
			int64		version = find_batch(store, stream, nevents, nids, events);

			if (version > 0)
				return version;
		}
		if (!holds && conflict != NULL)
		{
			*conflict = true;
			return tip.version;
		}
		if (!holds && recorded_at != NULL)
			raise_not_next(stream, expected + 1, tip.version);
		es_append_check_version(stream, expected, tip.version);
		if (nevents == 0)
			return tip.version;
		if (tip.version > PG_INT64_MAX - nevents)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("stream \"%s\" is full", text_to_cstring(stream)),
					 errdetail("It is at version " INT64_FORMAT ".", tip.version),
					 errhint("Go on in another stream.")));

		/* what beats us to an exact version beats us for good: no queue */
		if (queue && !queued && !tip.ours && expected < 0)
		{
			es_queue_join(store, stream);
			queued = true;
			continue;
		}

		now = Max(GetCurrentTimestamp(), tip.recorded_at);
		if (recorded_at != NULL)
		{
			if (*recorded_at < tip.recorded_at && tip.version > 0)
				raise_time_went_back(stream, *recorded_at, &tip);
			now = *recorded_at;
		}
		for (int i = 0; i < nevents; i++)
			events[i].position = es_floor_next(store);

		/*
		 * Lost, and yet the stream has not moved, or none but us has moved
		 * it: the obstacle is neither a rival's version nor a known id, but,
		 * say, a unique index or a trigger of the user's.  Let PostgreSQL
		 * tell.
		 */
		if (es_log_insert(store, PointerGetDatum(stream), &tip, now,
						  nevents, events,
						  lost && lost_at == tip.version))
		{
			store->last_appended = events[nevents - 1].position;
			es_wake_count(ES_COUNT_APPENDED, nevents);
			es_snapshot_after_append(store, PointerGetDatum(stream),
									 tip.version, tip.version + nevents);
			return tip.version + nevents;
		}
		if (leap)
		{
			leap = false;
			wary = WARY_APPENDS;
			continue;
		}
		lost = queue = true;
		lost_at = tip.version;
	}
}

/*
 * Says where it was that somebody waited in vain.  Other errors name the stream
 * themselves, as far as it matters.
 */
static void
append_error_context(void *arg)
{
	switch (geterrcode())
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			errcontext("append to stream \"%s\"", text_to_cstring(arg));
			break;
		default:
			break;
	}
}

/*
 * Has errors of waiting say that it is an append to this stream, until the caller
 * puts error_context_stack back to callback->previous.
 */
void
es_append_push_context(ErrorContextCallback *callback, text *stream)
{
	callback->callback = append_error_context;
	callback->arg = stream;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static int64
append(EsStore *store, text *stream, int nevents, EsNewEvent *events,
	   int64 expected, const TimestampTz *recorded_at, bool *conflict)
{
	ErrorContextCallback callback;
	int64		version;

	es_append_push_context(&callback, stream);
	version = append_events(store, stream, nevents, events, expected, recorded_at, conflict);
	error_context_stack = callback.previous;
	return version;
}

/*
 * Appends events to a stream of the store and returns its new version: the one
 * behind es_append(), es_append_events() and all that appends for others.
 * Events are changed: they get positions, and the context in their metadata.
 * With conflict given, a version that is not as expected sets it, and the
 * stream's version is returned.
 *
 * Raises ZE001, ZE003, ZE006, 22023, 42501.
 */
int64
es_append_to(EsStore *store, text *stream, int nevents, EsNewEvent *events,
			 int64 expected, bool *conflict)
{
	return append(store, stream, nevents, events, expected, NULL, conflict);
}

/*
 * Appends an event that was recorded before, as it was: as that version, at that
 * time, with its metadata unchanged.  Returns the stream's new version.
 */
int64
es_append_recorded(EsStore *store, text *stream, EsNewEvent *event, int64 version,
				   TimestampTz recorded_at)
{
	int64		result = append(store, stream, 1, event, version - 1, &recorded_at, NULL);

	/* known, but not from an earlier import of this version */
	if (result != version)
		ereport(ERROR,
				(errcode(ERRCODE_ES_IDEMPOTENCY_VIOLATION),
				 errmsg("event id %s was used before in stream \"%s\", for another version",
						DatumGetCString(DirectFunctionCall1(uuid_out,
															UUIDPGetDatum(event->event_id))),
						text_to_cstring(stream)),
				 errdetail("The event with this id is at version " INT64_FORMAT ", not " INT64_FORMAT ".",
						   result, version),
				 errhint("Give every event of a stream an id of its own, or none.")));
	return result;
}

/*
 * Raises ZE006 where a required argument is NULL.
 */
static void
check_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("%s must not be NULL", name),
				 errhint("An event has a stream, a type and data; data without anything to say is '{}'.")));
}

/*
 * es_append(stream, type, data, expected_version, metadata, event_id, tags)
 */
Datum
es_append(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};

	PreventCommandIfReadOnly("es_append()");
	check_argument(fcinfo, 0, "stream");
	check_argument(fcinfo, 1, "type");
	check_argument(fcinfo, 2, "data");

	event.type = PG_GETARG_TEXT_PP(1);
	event.data = PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(4))
		event.metadata = PG_GETARG_JSONB_P(4);
	if (!PG_ARGISNULL(5))
		event.event_id = PG_GETARG_UUID_P(5);
	if (!PG_ARGISNULL(6))
		event.tags = PG_GETARG_ARRAYTYPE_P(6);

	PG_RETURN_INT64(es_append_to(es_store_current_for(RowExclusiveLock), PG_GETARG_TEXT_PP(0), 1, &event,
								 es_append_get_expected(fcinfo, 3),
								 NULL));
}

/*
 * es_append_events(stream, events, expected_version)
 */
Datum
es_append_events(PG_FUNCTION_ARGS)
{
	EsNewEvent *events;
	int			nevents;

	PreventCommandIfReadOnly("es_append_events()");
	check_argument(fcinfo, 0, "stream");
	check_argument(fcinfo, 1, "events");

	nevents = es_parse_events(PG_GETARG_JSONB_P(1), &events);
	PG_RETURN_INT64(es_append_to(es_store_current_for(RowExclusiveLock), PG_GETARG_TEXT_PP(0), nevents, events,
								 es_append_get_expected(fcinfo, 2),
								 NULL));
}
