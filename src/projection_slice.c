/*-------------------------------------------------------------------------
 *
 * projection_slice.c
 *		A projection's events, read and run in slices.
 *
 * What takes a read model forward, or builds it anew, goes through the log from
 * a position on: reads so many events, runs the script over them, and so on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "projection.h"
#include "upcast.h"
#include "utils/lsyscache.h"

static EsScriptSource
make_source(const char *name, const EsProjectionBody *body, int expected)
{
	EsScriptSource source = {0};

	source.kind = ES_SCRIPT_PROJECTION;
	source.name = name;
	source.text = body->text;
	source.search_path = body->search_path;
	source.granularity = es_granularity_parse(body->granularity);
	source.expected = expected;
	return source;
}

/*
 * Returns the script of a projection that is being defined.
 */
EsScript *
es_projection_parse(EsStore *store, const char *name, const EsProjectionBody *body)
{
	EsScriptSource source = make_source(name, body, 1);

	return es_script_prepare(store, &source);
}

/*
 * Raises 42P01: a projection would change a table that is only called like one
 * of its own.
 */
static void
raise_stranger(const char *projection, Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("\"%s\" is not a table of projection \"%s\"",
					get_rel_name(relid), projection),
			 errdetail("It got the name of one since the projection was created, and lacks what that table held."),
			 errhint("Call es_drop_projection(), and create the projection again; or give the table that it was created for its name back.")));
}

/*
 * Returns the script of a projection, for runs of about so many events.  Raises
 * 42P01 where a name in it has come to mean another table since the projection
 * was defined.
 */
EsScript *
es_projection_prepare(EsStore *store, const char *name, const EsProjectionBody *body,
					  int expected)
{
	EsScriptSource source = make_source(name, body, expected);
	EsProjection *projection = es_projection_get(store, name, ES_SEE_ALL);
	EsScript   *script = es_script_prepare(store, &source);
	bool		only_inserts;
	ListCell   *lc;

	foreach(lc, es_script_targets(script, &only_inserts))
	{
		Oid			target = lfirst_oid(lc);

		if (projection == NULL || es_projection_has_table(projection, target))
			continue;
		es_script_free(script);
		raise_stranger(name, target);
	}
	return script;
}

static bool
stranger_walker(Node *node, void *arg)
{
	EsProjection *projection = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->commandType != CMD_SELECT && query->resultRelation > 0)
		{
			Oid			target = rt_fetch(query->resultRelation, query->rtable)->relid;

			if (!es_projection_has_table(projection, target))
				raise_stranger(projection->name, target);
		}
		return query_tree_walker(query, stranger_walker, arg, 0);
	}
	return expression_tree_walker(node, stranger_walker, arg);
}

/*
 * Called before any query is planned.  Raises 42P01 where it is a statement of a
 * projection that is running, was understood anew because its table is gone, and
 * now changes another one.
 */
void
es_projection_check_query(Query *query, const char *query_string)
{
	const char *name;
	EsStore    *store = es_script_planning(query_string, &name);
	EsProjection *projection;

	if (store == NULL)
		return;
	projection = es_projection_get(store, name, ES_SEE_ALL);
	if (projection != NULL)
		(void) stranger_walker((Node *) query, projection);
}

/*
 * Whether a script is what es_projection_prepare() would make.
 */
bool
es_projection_is(const EsScript *script, const char *name, const EsProjectionBody *body,
				 int expected)
{
	EsScriptSource source = make_source(name, body, expected);

	return es_script_is(script, &source);
}

/*
 * Begins to read a projection's events in slices, from a position on.
 */
EsSlice *
es_slice_begin(EsStore *store, EsScript *script, ArrayType *types, int64 after)
{
	EsSlice    *slice = palloc0(sizeof(EsSlice));

	slice->store = store;
	slice->script = script;
	slice->types = types == NULL ? NULL : es_upcast_types(store, types);
	slice->batch = es_event_batch_create();
	slice->position = after;
	return slice;
}

typedef struct Reading
{
	EsSlice    *slice;
	EsUpcast   *upcast;
	int			nevents;
} Reading;

/* An event sink. */
static bool
read_event(const EsEvent *stored, void *arg)
{
	Reading    *reading = arg;
	EsEvent		event = *stored;

	reading->nevents++;
	if (es_upcast_event(reading->upcast, &event))
		es_event_batch_add(reading->slice->batch, &event);
	reading->slice->position = EsEventPosition(stored);
	return true;
}

/*
 * Reads the next events up to a position, at most max_count, as the store's
 * owner and past row security; snapshot: as the active one sees them, instead of
 * all that is committed by now.  Returns how many there are to run.  Where that
 * raises an error, because of an upcaster, the slice holds what comes before.
 */
int
es_slice_read(EsSlice *slice, int64 upto, int max_count, bool snapshot)
{
	EsStore    *store = slice->store;
	EsPositionRange range = {0};
	Reading		reading = {0};
	EsOwnerState owner;

	es_event_batch_reset(slice->batch);
	slice->done = false;
	range.after = slice->position;
	range.upto = upto;
	range.max_count = max_count;
	range.types = slice->types;
	range.snapshot = snapshot;
	reading.slice = slice;

	es_store_enter(&owner, store->owner, SECURITY_NOFORCE_RLS);
	reading.upcast = es_upcast_begin(store);
	es_log_scan_positions(store, &range, read_event, &reading);
	es_upcast_end(reading.upcast);
	es_store_leave(&owner);

	slice->done = reading.nevents < max_count;
	if (slice->done)
		slice->position = upto;
	return slice->batch->nevents;
}

/*
 * Runs the first so many of the events read.
 */
void
es_slice_run(EsSlice *slice, int nevents)
{
	es_script_run(slice->script, nevents, slice->batch->events);
}

void
es_slice_end(EsSlice *slice)
{
	es_event_batch_destroy(slice->batch);
	pfree(slice);
}
