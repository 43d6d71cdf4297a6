/*-------------------------------------------------------------------------
 *
 * handler.c
 *		Scripts that react to events after their commit.
 *
 * A handler is a subscription with a script.  One transaction takes events,
 * runs the script over each of them and moves the cursor on, so what the script
 * writes to this database it writes exactly once.  The subscription's lock,
 * held to the end of that transaction, keeps it from running twice at a time;
 * it needs no leases.
 *
 * An event whose script fails is undone by itself and comes again later, behind
 * it the other events of its stream; the rest of the batch stands.  Batches run
 * in one subtransaction until something fails, since one for each event would
 * cost more than most scripts do.
 *
 * Everything is done as the store's owner: the events are read and the script
 * runs with his rights, whoever calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "attempt.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "consume.h"
#include "context.h"
#include "delivery.h"
#include "floor.h"
#include "fmgr.h"
#include "handler.h"
#include "miscadmin.h"
#include "owner.h"
#include "script.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(es_create_handler);

/* events in one transaction */
#define BATCH_SIZE	100

/* A script that this backend has prepared. */
typedef struct Prepared
{
	EsStore    *store;
	EsScript   *script;
} Prepared;

static List *prepared = NIL;

static const EsQuery insert_query = {
	"INSERT INTO {es}.handlers (name, script, search_path) VALUES ($1, $2, $3)",
	3, {TEXTOID, TEXTOID, TEXTOID}
};

static const EsQuery names_query = {
	"SELECT name FROM {es}.handlers ORDER BY name",
	0, {0}
};

static const EsQuery script_query = {
	"SELECT script, search_path FROM {es}.handlers"
	" WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static EsScriptSource
make_source(const char *name, const char *text, const char *search_path)
{
	EsScriptSource source;

	source.kind = ES_SCRIPT_HANDLER;
	source.name = name;
	source.text = text;

	source.search_path = search_path;
	source.granularity = ES_GRANULARITY_EVENT;
	source.expected = 1;
	return source;
}

/*
 * Fills in the texts of a handler; false where there is none of that name.
 */
static bool
find_script(EsStore *store, const char *name, char **script, char **search_path)
{
	Datum		value = CStringGetTextDatum(name);
	text	   *copies[2];
	bool		found;

	SPI_connect();
	found = es_store_execute(store, &script_query, &value, NULL) > 0;
	if (found)
	{
		copies[0] = es_result_copy(0, 1);
		copies[1] = es_result_copy(0, 2);
	}
	SPI_finish();
	if (found)
	{
		*script = text_to_cstring(copies[0]);
		*search_path = text_to_cstring(copies[1]);
	}
	return found;
}

/*
 * Returns the handler's script, prepared, from the cache or anew.  What is
 * stale there goes when the handler's name comes up again.
 */
static EsScript *
get_script(EsStore *store, const char *name, const char *text, const char *search_path)
{
	EsScriptSource source = make_source(name, text, search_path);
	MemoryContext oldcontext;
	ListCell   *cell;
	Prepared   *entry;

	foreach(cell, prepared)
	{
		entry = lfirst(cell);
		if (entry->store == store && es_script_is(entry->script, &source))
			return entry->script;
		if (entry->store == store && strcmp(es_script_name(entry->script), name) == 0)
		{
			es_script_free(entry->script);
			prepared = foreach_delete_current(prepared, cell);
			pfree(entry);
		}
	}

	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	entry = palloc0(sizeof(Prepared));
	MemoryContextSwitchTo(oldcontext);
	entry->store = store;
	entry->script = es_script_prepare(store, &source);
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	prepared = lappend(prepared, entry);
	MemoryContextSwitchTo(oldcontext);
	return entry->script;
}

/*
 * Returns a member of an event's metadata if it is a string, else NULL.
 */
static char *
metadata_string(const EsEvent *event, const char *key)
{
	Jsonb	   *metadata;
	JsonbValue	buffer;
	JsonbValue *value;

	if (event->nulls[ES_EVENT_METADATA])
		return NULL;
	metadata = DatumGetJsonbP(event->values[ES_EVENT_METADATA]);
	value = getKeyJsonValueFromContainer(&metadata->root, key, strlen(key), &buffer);
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Fills in what events say that the handling of this one causes: it is known by
 * its event_id, or else by its position; if it belongs to no correlation, it
 * starts one that has its position for a name, which es_trace() can find it by.
 */
static void
make_context(const EsEvent *event, EsContext *context)
{
	context->causation_id = event->nulls[ES_EVENT_EVENT_ID] ?
		psprintf(INT64_FORMAT, EsEventPosition(event)) :
		DatumGetCString(DirectFunctionCall1(uuid_out, event->values[ES_EVENT_EVENT_ID]));
	context->correlation_id = metadata_string(event, "correlation_id");
	if (context->correlation_id == NULL)
		context->correlation_id = psprintf(INT64_FORMAT, EsEventPosition(event));
	context->traceparent = metadata_string(event, "traceparent");
}

/* What is being run. */
typedef struct Run
{
	EsStore    *store;
	const char *name;
	const char *text;
	const char *search_path;
	EsDeliveries *deliveries;
	int			at;				/* which of them */
	int			end;			/* the one after the last */
} Run;

/*
 * Runs the script over deliveries from run->at to before run->end.
 */
static void
run_events(void *arg)
{
	Run		   *run = arg;
	EsScript   *script = get_script(run->store, run->name, run->text, run->search_path);

	for (; run->at < run->end; run->at++)
	{
		const EsEvent *event = run->deliveries->items[run->at].event;
		EsContext	context;

		make_context(event, &context);
		(void) es_context_override(&context);
		es_script_run(script, 1, event);
	}
}

/*
 * Runs the script over all deliveries, and gives back those at which it fails.
 */
static void
run_deliveries(EsSubscription *sub, Run *run)
{
	EsDeliveries *d = run->deliveries;
	int			start = 0;
	char	   *failed_at_end = NULL;

	run->end = d->n;
	while (start < d->n)
	{
		char	   *error = NULL;

		CHECK_FOR_INTERRUPTS();
		run->at = start;
		if (start < run->end)
			error = es_attempt_as(NULL, run_events, run);
		if (error == NULL)
		{
			start = run->end;
			if (failed_at_end != NULL)
				es_subscription_give_back(sub, d, start, ES_COMPANY_OTHERS, ES_RETRY_BACKOFF,
										  false, false, failed_at_end);
			failed_at_end = NULL;
			run->end = d->n;
		}
		else
		{
			/* what came before it was undone with it: run that again */
			run->end = run->at;
			failed_at_end = error;
		}
	}
}

/*
 * Takes a handler one batch forward, within the current transaction, with new
 * events up to a position.  Returns whether there was anything to do, and nobody
 * else was doing it.
 */
static bool
step(EsStore *store, const char *name, int64 upto, void **state)
{
	text	   *subscription = cstring_to_text(name);
	EsSubscription *sub;
	EsOwnerState owner;
	char	   *script;
	char	   *search_path;
	int64		taken;
	Run			run = {0};
	bool		moved = false;

	es_store_enter(&owner, store->owner, 0);
	if (find_script(store, name, &script, &search_path) &&
		!es_subscription_is_idle(store, subscription, upto) &&
		(sub = es_subscription_try_lock(store, subscription)) != NULL)
	{
		taken = sub->taken;
		run.store = store;
		run.name = name;
		run.text = script;
		run.search_path = search_path;
		run.deliveries = es_delivery_take(sub, BATCH_SIZE, upto);
		moved = run.deliveries->n > 0 || sub->taken != taken;
		run_deliveries(sub, &run);
		es_wake_count(ES_COUNT_HANDLED, run.deliveries->n);
	}
	es_store_leave(&owner);
	return moved;
}

/* What the runner wants to know of handlers. */

static bool
exists(EsStore *store, const char *name)
{
	char	   *script;
	char	   *search_path;

	return find_script(store, name, &script, &search_path);
}

static List *
due(EsStore *store)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *names = NIL;
	int64		upto = 0;
	uint64		n;
	SPITupleTable *handlers;

	SPI_connect();
	n = es_store_execute(store, &names_query, NULL, NULL);
	handlers = SPI_tuptable;

	/* asked once for all of them: it costs more than to look at a cursor */
	if (n > 0)
	{
		es_floor_check(store);
		upto = es_floor_safe(store);
	}
	for (uint64 row = 0; row < n; row++)
	{
		char	   *name = SPI_getvalue(handlers->vals[row], handlers->tupdesc, 1);
		MemoryContext spi;

		if (es_subscription_is_idle(store, cstring_to_text(name), upto))
			continue;
		spi = MemoryContextSwitchTo(caller);
		names = lappend(names, pstrdup(name));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return names;
}

static int64
reached(EsStore *store, const char *name)
{
	return es_subscription_position(store, cstring_to_text(name));
}

static void
end(void *state)
{
}

const EsRunKind es_handler_run_kind = {
	exists, due, reached, step, end
};

/*
 * es_create_handler(name, script, category, types, tags, after, max_attempts,
 * backoff, max_backoff)
 */
Datum
es_create_handler(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *search_path = es_owner_search_path();
	EsScriptSource source;
	Datum		values[3];

	PreventCommandIfReadOnly("es_create_handler()");
	es_store_check_owner(store);
	es_check_argument(fcinfo, 1, "script");
	values[0] = PointerGetDatum(es_consume_create(fcinfo, store, 2,
												  GetUserNameFromId(store->owner, false)));
	values[1] = PG_GETARG_DATUM(1);
	values[2] = CStringGetTextDatum(search_path);
	source = make_source(TextDatumGetCString(values[0]), TextDatumGetCString(values[1]), search_path);
	es_script_free(es_script_prepare(store, &source));

	SPI_connect();
	(void) es_store_execute(store, &insert_query, values, NULL);
	SPI_finish();
	es_wake_at_end();
	PG_RETURN_VOID();
}
