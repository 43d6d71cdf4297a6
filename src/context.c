/*-------------------------------------------------------------------------
 *
 * context.c
 *		What goes into the metadata of an event by itself.
 *
 * The settings eventsourcing.actor, correlation_id, ... become keys of the same
 * names in the metadata of every event; metadata given with an event wins.  The
 * schema of the event's data goes there too, where it is not the first.
 *
 * What a handler appends belongs to the event that it handles, whoever runs it:
 * then the handler's context stands in the place of the settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "context.h"
#include "guc.h"
#include "utils/numeric.h"

typedef struct ContextKey
{
	const char *key;
	char	  **value;
	int			offset;			/* in EsContext, -1: not there */
} ContextKey;

static const ContextKey context_keys[] = {
	{"actor", &es_guc_actor, -1},
	{"causation_id", &es_guc_causation_id, offsetof(EsContext, causation_id)},
	{"command_id", &es_guc_command_id, -1},
	{"correlation_id", &es_guc_correlation_id, offsetof(EsContext, correlation_id)},
	{"traceparent", &es_guc_traceparent, offsetof(EsContext, traceparent)}
};

/* what is said instead of the settings, or NULL */
static const EsContext *override = NULL;

/*
 * Puts a context in the place of the settings, or with NULL takes it away, and
 * returns what was there.  The caller puts that back, after an error too.
 */
const EsContext *
es_context_override(const EsContext *context)
{
	const EsContext *previous = override;

	override = context;
	return previous;
}

/*
 * Returns the value of a key, or NULL.
 */
static const char *
value_of(const ContextKey *key)
{
	const char *value;

	if (override == NULL)
		value = *key->value;
	else if (key->offset >= 0)
		value = *(char *const *) ((const char *) override + key->offset);
	else
		value = NULL;
	return value != NULL && value[0] != '\0' ? value : NULL;
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	pushJsonbValue(state, token, &value);
}

static void
push_schema(JsonbParseState **state, int schema)
{
	JsonbValue	value;

	push_string(state, WJB_KEY, ES_SCHEMA_KEY);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(schema);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* Pushes the members of an object; none of NULL. */
static void
push_members(JsonbParseState **state, Jsonb *object)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (object == NULL)
		return;
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY || token == WJB_VALUE)
			pushJsonbValue(state, token, &value);
	}
}

/*
 * Returns metadata (an object, or NULL) with the context that is set added to
 * it, and the schema of the event's data where that is not 1: allocated in the
 * current memory context, or as it came where there is nothing to add.
 */
Jsonb *
es_context_merge(Jsonb *metadata, int schema)
{
	JsonbParseState *state = NULL;
	bool		adds = schema != 1;

	for (int i = 0; i < lengthof(context_keys); i++)
		adds |= value_of(&context_keys[i]) != NULL;
	if (!adds)
		return metadata;

	/* where a key comes twice, the later one stays */
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (schema != 1)
		push_schema(&state, schema);
	for (int i = 0; i < lengthof(context_keys); i++)
	{
		const char *value = value_of(&context_keys[i]);

		if (value == NULL)
			continue;
		push_string(&state, WJB_KEY, context_keys[i].key);
		push_string(&state, WJB_VALUE, value);
	}
	push_members(&state, metadata);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Returns metadata with the members of another object, or NULL, that it does
 * not have itself.  What is not an object is left to the append to refuse.
 */
Jsonb *
es_context_defaults(Jsonb *metadata, Jsonb *defaults)
{
	JsonbParseState *state = NULL;

	if (defaults == NULL || metadata == NULL)
		return metadata == NULL ? defaults : metadata;
	if (!JB_ROOT_IS_OBJECT(metadata) || !JB_ROOT_IS_OBJECT(defaults))
		return metadata;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_members(&state, defaults);
	push_members(&state, metadata);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Returns metadata with the schema of the event's data set.
 */
Jsonb *
es_context_with_schema(Jsonb *metadata, int schema)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_members(&state, metadata);
	push_schema(&state, schema);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
