/*-------------------------------------------------------------------------
 *
 * context.c
 *		What an appending transaction says of itself.
 *
 * The settings eventsourcing.actor, correlation_id, ... become keys of the same
 * names in the metadata of every event; metadata given with an event wins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "context.h"
#include "guc.h"

typedef struct ContextKey
{
	const char *key;
	char	  **value;
} ContextKey;

static const ContextKey context_keys[] = {
	{"actor", &es_guc_actor},
	{"causation_id", &es_guc_causation_id},
	{"command_id", &es_guc_command_id},
	{"correlation_id", &es_guc_correlation_id},
	{"traceparent", &es_guc_traceparent}
};

static inline bool
is_set(const ContextKey *key)
{
	return *key->value != NULL && (*key->value)[0] != '\0';
}

/*
 * Whether es_context_merge() would add anything.
 */
bool
es_context_is_set(void)
{
	for (int i = 0; i < lengthof(context_keys); i++)
	{
		if (is_set(&context_keys[i]))
			return true;
	}
	return false;
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

/*
 * Returns metadata (an object, or NULL) with the context that is set added to
 * it, allocated in the current memory context.
 */
Jsonb *
es_context_merge(Jsonb *metadata)
{
	JsonbParseState *state = NULL;
	JsonbValue *result;

	/* where a key comes twice, the later one stays */
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(context_keys); i++)
	{
		if (!is_set(&context_keys[i]))
			continue;
		push_string(&state, WJB_KEY, context_keys[i].key);
		push_string(&state, WJB_VALUE, *context_keys[i].value);
	}
	if (metadata != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&metadata->root);
		JsonbIteratorToken token;
		JsonbValue	value;

		while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		{
			if (token == WJB_KEY || token == WJB_VALUE)
				pushJsonbValue(&state, token, &value);
		}
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(result);
}
