/*-------------------------------------------------------------------------
 *
 * append_input.c
 *		What may be appended: names and events, and events in JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "append.h"
#include "context.h"
#include "errors.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* a name longer than this is an error, not a key for an index */
#define MAX_NAME_LENGTH 512

/*
 * Raises ZE006, with the hint, unless the name can be a stream's or an event
 * type's.
 */
static void
check_name(const char *what, text *name, const char *hint)
{
	int			length = VARSIZE_ANY_EXHDR(name);

	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("%s must not be empty", what),
				 errhint("%s", hint)));
	if (length > MAX_NAME_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("%s is too long", what),
				 errdetail("\"%.*s...\" has %d bytes, at most %d are allowed.",
						   pg_mbcliplen(VARDATA_ANY(name), length, 40),
						   VARDATA_ANY(name), length, MAX_NAME_LENGTH),
				 errhint("%s", hint)));
}

/*
 * Raises ZE006 unless the name can be a stream's.
 */
void
es_append_check_stream(text *stream)
{
	static const char hint[] = "A stream is named Category-id, such as \"Order-1\".";

	check_name("stream name", stream, hint);
	if (*VARDATA_ANY(stream) == '-')
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("stream name \"%s\" has no category", text_to_cstring(stream)),
				 errhint("%s", hint)));
}

/*
 * Raises ZE006 for metadata with a "$schema" that is not the number of one: who
 * reads the event by upcasters could do nothing with it, today or later, and
 * would not get past it.
 */
static void
check_schema(EsNewEvent *event)
{
	JsonbValue	value;
	bool		failed = true;

	if (event->metadata == NULL ||
		getKeyJsonValueFromContainer(&event->metadata->root, ES_SCHEMA_KEY,
									 strlen(ES_SCHEMA_KEY), &value) == NULL)
		return;
	if (value.type == jbvNumeric)
	{
		int32		schema = numeric_int4_opt_error(value.val.numeric, &failed);

		/* it rounds, and what is rounded is no number of a schema */
		failed = failed || schema < 1 ||
			!DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(value.val.numeric),
											  NumericGetDatum(int64_to_numeric(schema))));
	}
	if (failed)
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("metadata key \"%s\" of event \"%s\" is not the number of a schema",
						ES_SCHEMA_KEY, text_to_cstring(event->type)),
				 errdetail("Metadata: %s", JsonbToCString(NULL, &event->metadata->root, 0)),
				 errhint("Leave it out: the append puts the newest schema of the type there. The first one is 1.")));
}

/*
 * Raises ZE006 for what is wrong with an event itself.
 */
void
es_append_check_event(EsNewEvent *event)
{
	check_name("event type", event->type,
			   "A type says what happened, such as \"OrderShipped\".");
	if (event->metadata != NULL && !JB_ROOT_IS_OBJECT(event->metadata))
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("metadata of event \"%s\" is not an object", text_to_cstring(event->type)),
				 errdetail("Metadata: %s", JsonbToCString(NULL, &event->metadata->root, 0)),
				 errhint("Pass a JSON object, or NULL for none.")));
	check_schema(event);
	if (event->tags != NULL &&
		(ARR_NDIM(event->tags) > 1 || array_contains_nulls(event->tags)))
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("tags of event \"%s\" are not a plain list of strings", text_to_cstring(event->type)),
				 errhint("Pass a one-dimensional array without NULLs.")));
}

/* Which event of a batch is being looked at, for the error's context. */
static void
batch_error_context(void *arg)
{
	errcontext("event %d of the batch", *(int *) arg);
}

/*
 * Has errors say which event of a batch they are about, the one of that number,
 * until the caller puts error_context_stack back to callback->previous.
 */
void
es_append_push_element(ErrorContextCallback *callback, int *number)
{
	callback->callback = batch_error_context;
	callback->arg = number;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/*
 * Raises ZE006 unless all of them are events.
 */
void
es_append_check_events(int nevents, EsNewEvent *events)
{
	ErrorContextCallback callback;
	int			number = 1;

	es_append_push_element(&callback, &number);
	if (nevents == 1)
		error_context_stack = callback.previous;
	for (; number <= nevents; number++)
		es_append_check_event(&events[number - 1]);
	error_context_stack = callback.previous;
}

#define EVENTS_HINT \
	"For example '[{\"type\": \"OrderShipped\", \"data\": {\"carrier\": \"DHL\"}, \"tags\": [\"express\"]}]'."

#define RECORDED_HINT \
	"The keys are \"stream\", \"version\", \"type\", \"data\", \"recorded_at\", and optionally \"metadata\", \"event_id\", \"tags\"; \"position\" is ignored."

/* what an event recorded elsewhere has to have besides */
#define RECORDED_STREAM		1
#define RECORDED_VERSION	2
#define RECORDED_TIME		4

static void
raise_bad_value(const char *key, const char *wanted, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_ES_INVALID_EVENT),
			 errmsg("key \"%s\" of an event must be %s", key, wanted),
			 errhint("%s", hint)));
}

/*
 * Returns the array of a JSON array of strings.
 */
static ArrayType *
parse_tags(JsonbContainer *json, const char *hint)
{
	JsonbIterator *it = JsonbIteratorInit(json);
	JsonbIteratorToken token;
	JsonbValue	value;
	Datum	   *tags = palloc(JsonContainerSize(json) * sizeof(Datum));
	int			ntags = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvString)
			raise_bad_value("tags", "an array of strings", hint);
		tags[ntags++] = PointerGetDatum(cstring_to_text_with_len(value.val.string.val,
																 value.val.string.len));
	}
	return construct_array(tags, ntags, TEXTOID, -1, false, TYPALIGN_INT);
}

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/*
 * Fills in what an event recorded elsewhere has besides, if the key is of that,
 * and strikes it from those that are missing.  The position is not kept.
 */
static bool
parse_recorded(const JsonbValue *key, const JsonbValue *value, EsRecorded * recorded,
			   int *missing)
{
	char	   *string = value->type != jbvString ? NULL :
	pnstrdup(value->val.string.val, value->val.string.len);

	if (key_is(key, "stream"))
	{
		if (string == NULL)
			raise_bad_value("stream", "a string", RECORDED_HINT);
		recorded->stream = cstring_to_text(string);
		*missing &= ~RECORDED_STREAM;
	}
	else if (key_is(key, "version"))
	{
		if (string == NULL && value->type == jbvNumeric)
			string = numeric_normalize(value->val.numeric);
		if (string == NULL)
			raise_bad_value("version", "a whole number", RECORDED_HINT);
		recorded->version = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(string)));
		*missing &= ~RECORDED_VERSION;
	}
	else if (key_is(key, "recorded_at"))
	{
		if (string == NULL)
			raise_bad_value("recorded_at", "a string with a time", RECORDED_HINT);
		recorded->recorded_at =
			DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(string),
													ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		*missing &= ~RECORDED_TIME;
	}
	else
		return key_is(key, "position");
	return true;
}

/*
 * Fills an event from a JSON object, of one that was recorded elsewhere also what
 * it has besides.
 */
static void
parse_event(JsonbContainer *json, EsNewEvent *event, EsRecorded * recorded)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	const char *hint = recorded != NULL ? RECORDED_HINT : EVENTS_HINT;
	int			missing = RECORDED_STREAM | RECORDED_VERSION | RECORDED_TIME;

	memset(event, 0, sizeof(*event));
	it = JsonbIteratorInit(json);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue	value;
		bool		is_null;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		is_null = value.type == jbvNull;

		if (key_is(&key, "type"))
		{
			if (value.type != jbvString)
				raise_bad_value("type", "a string", hint);
			event->type = cstring_to_text_with_len(value.val.string.val,
												   value.val.string.len);
		}
		else if (key_is(&key, "data"))
			event->data = JsonbValueToJsonb(&value);
		else if (key_is(&key, "metadata"))
		{
			if (!is_null)
				event->metadata = JsonbValueToJsonb(&value);
		}
		else if (key_is(&key, "event_id"))
		{
			if (is_null)
				continue;
			if (value.type != jbvString)
				raise_bad_value("event_id", "a string with a UUID", hint);
			event->event_id =
				DatumGetUUIDP(DirectFunctionCall1(uuid_in,
												  CStringGetDatum(pnstrdup(value.val.string.val,
																		   value.val.string.len))));
		}
		else if (key_is(&key, "tags"))
		{
			if (is_null)
				continue;
			if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
				raise_bad_value("tags", "an array of strings", hint);
			event->tags = parse_tags(value.val.binary.data, hint);
		}
		else if (recorded == NULL || !parse_recorded(&key, &value, recorded, &missing))
			ereport(ERROR,
					(errcode(ERRCODE_ES_INVALID_EVENT),
					 errmsg("unknown key \"%.*s\" of an event",
							key.val.string.len, key.val.string.val),
					 recorded != NULL ? errhint("%s", hint) :
					 errhint("The keys are \"type\", \"data\", \"metadata\", \"event_id\", \"tags\".")));
	}
	if (event->type == NULL)
		raise_bad_value("type", "given", hint);
	if (recorded != NULL)
	{
		if (missing & RECORDED_STREAM)
			raise_bad_value("stream", "given", hint);
		if (missing & RECORDED_VERSION)
			raise_bad_value("version", "given", hint);
		if (missing & RECORDED_TIME)
			raise_bad_value("recorded_at", "given", hint);
		if (event->data == NULL)
			raise_bad_value("data", "given", hint);
	}
	if (event->data == NULL)
		event->data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/*
 * Returns the number of events in a JSON array of them, and the events, and what
 * those recorded elsewhere have besides (NULL for others).
 */
static int
parse_array(Jsonb *json, EsNewEvent **events, EsRecorded * *recorded)
{
	const char *hint = recorded != NULL ? RECORDED_HINT : EVENTS_HINT;
	ErrorContextCallback callback;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			nevents = 0;
	Size		nallocated;

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR,
				(errcode(ERRCODE_ES_INVALID_EVENT),
				 errmsg("events must be a JSON array of objects"),
				 errhint("%s", hint)));
	nallocated = Max(JB_ROOT_COUNT(json), 1);
	*events = palloc_extended(nallocated * sizeof(EsNewEvent), MCXT_ALLOC_HUGE);
	if (recorded != NULL)
		*recorded = palloc_extended(nallocated * sizeof(EsRecorded), MCXT_ALLOC_HUGE);

	es_append_push_element(&callback, &nevents);
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		nevents++;
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_ES_INVALID_EVENT),
					 errmsg("an event must be a JSON object"),
					 errhint("%s", hint)));
		parse_event(value.val.binary.data, &(*events)[nevents - 1],
					recorded == NULL ? NULL : &(*recorded)[nevents - 1]);
	}
	error_context_stack = callback.previous;
	return nevents;
}

/*
 * Returns the number of events in a JSON array of them, and the events,
 * allocated in the current memory context.  Raises ZE006 for what is not an
 * event.
 */
int
es_parse_events(Jsonb *json, EsNewEvent **events)
{
	return parse_array(json, events, NULL);
}

/*
 * The same for events that another store recorded.
 */
int
es_parse_recorded(Jsonb *json, EsNewEvent **events, EsRecorded * *recorded)
{
	return parse_array(json, events, recorded);
}
