/*-------------------------------------------------------------------------
 *
 * script.c
 *		Running a user's SQL over events.
 *
 * The only module that runs scripts, the bodies of projections and handlers: one
 * or more SELECT, INSERT, UPDATE, DELETE or MERGE statements over the relation
 * "new_events", which has the columns of es_event.  It is an ephemeral named
 * relation, like a trigger's transition table, so events never become SQL text.
 *
 * A script is one SPI plan, made once; PostgreSQL's plan cache makes it anew
 * when what it uses changes.  It runs as the store's owner, in a
 * security-restricted context, with the search_path of its creation; being the
 * text of data-modifying statements run inside another statement, it can
 * neither end the transaction nor change the role.
 *
 * It always sees what is committed by now, whatever the caller's isolation
 * level: an event goes into a read model that other transactions have taken
 * forward since the caller's snapshot, and an UPDATE that did not see their row
 * would be lost without a word.
 *
 * Memory: "context" holds the script; each run has its tuplestore, which spills
 * to disk at work_mem, in the caller's memory context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "owner.h"
#include "parser/parsetree.h"
#include "script.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#define NEW_EVENTS	"new_events"

/*
 * Every scan of a tuplestore leaves a read pointer in it, and they are never
 * given back: runs of single events take a new one now and then.
 */
#define RUNS_PER_TUPLESTORE 32

struct EsScript
{
	EsStore    *store;
	EsScriptSource source;		/* a copy */
	SPIPlanPtr	plan;
	TupleDesc	desc;			/* of new_events */
	List	   *targets;		/* relations that its statements change */
	bool		only_inserts;	/* into them */
	bool		updates;		/* their rows */
	MemoryContext context;
	int			running;		/* how deep in its runs we are */
	bool		dropped;		/* free it after the last of them */
};

/* What the scripts that are running are at; the innermost first. */
typedef struct Run
{
	EsScript   *script;
	int			nevents;		/* in new_events */
	const EsEvent *first;		/* of them */
	const EsEvent *last;
	struct Run *outer;
} Run;

static Run *innermost = NULL;

/* which event of the last es_script_run() failed; -1 if it is not known */
static int	failed_at = -1;

/*
 * Returns the granularity of that name; raises 22023 if there is none.
 */
EsGranularity
es_granularity_parse(const char *name)
{
	if (strcmp(name, "event") == 0)
		return ES_GRANULARITY_EVENT;
	if (strcmp(name, "stream") == 0)
		return ES_GRANULARITY_STREAM;
	if (strcmp(name, "batch") == 0)
		return ES_GRANULARITY_BATCH;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown granularity \"%s\"", name),
			 errhint("The granularities are \"event\", \"stream\" and \"batch\".")));
}

static const char *
kind_name(EsScriptKind kind)
{
	return kind == ES_SCRIPT_PROJECTION ? "projection" : "handler";
}

static char *
event_text(const EsEvent *event, EsEventColumn column)
{
	return TextDatumGetCString(event->values[column]);
}

/*
 * What is running, for an error's context.
 */
static void
run_error_context(void *arg)
{
	Run		   *run = arg;
	const char *kind = kind_name(run->script->source.kind);
	const char *name = run->script->source.name;

	if (run->nevents == 1)
		errcontext("%s \"%s\" on event \"%s\", version " INT64_FORMAT " of stream \"%s\", position " INT64_FORMAT,
				   kind, name,
				   event_text(run->first, ES_EVENT_TYPE),
				   EsEventVersion(run->first),
				   event_text(run->first, ES_EVENT_STREAM),
				   EsEventPosition(run->first));
	else
		errcontext("%s \"%s\" on %d events, from position " INT64_FORMAT " to " INT64_FORMAT,
				   kind, name, run->nevents,
				   EsEventPosition(run->first), EsEventPosition(run->last));
}

/*
 * Returns the store of the projection that is running just now, and its name;
 * NULL if none is.
 */
EsStore *
es_script_projection(const char **name)
{
	for (Run *run = innermost; run != NULL; run = run->outer)
	{
		if (run->script->source.kind == ES_SCRIPT_PROJECTION)
		{
			*name = run->script->source.name;
			return run->script->store;
		}
	}
	return NULL;
}

/*
 * Raises 55000 where a projection is running: events come from decisions, and a
 * read model that made some would make them again with every rebuild.
 */
void
es_script_check_append(void)
{
	const char *name;

	if (es_script_projection(&name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" must not append events", name),
				 errdetail("It would append them again whenever it is rebuilt."),
				 errhint("Append from a handler, which runs once for each event.")));
}

/* A walk over the queries of a script. */
typedef struct Inspection
{
	EsScript   *script;
	Oid			extension;		/* schema */
	int			location;		/* of the statement, for errors */
} Inspection;

static int
statement_position(Inspection *inspection)
{
	const char *text = inspection->script->source.text;
	int			location = Max(inspection->location, 0);

	location += strspn(text +location, " \t\r\n");
	internalerrquery(text);
	return internalerrposition(pg_mbstrlen_with_len(text, location) + 1);
}

static void
inspect_function(Inspection *inspection, Oid function)
{
	char	   *name;

	if (inspection->script->source.kind != ES_SCRIPT_PROJECTION ||
		get_func_namespace(function) != inspection->extension)
		return;
	name = get_func_name(function);
	if (name == NULL || strncmp(name, "es_append", strlen("es_append")) != 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a projection must not append events, but calls %s()", name),
			 errhint("Append from a handler, which runs once for each event."),
			 statement_position(inspection)));
}

static bool
inspect_walker(Node *node, void *arg)
{
	Inspection *inspection = arg;
	EsScript   *script = inspection->script;

	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
		inspect_function(inspection, ((FuncExpr *) node)->funcid);
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->commandType != CMD_SELECT && query->resultRelation > 0)
		{
			Oid			relid = rt_fetch(query->resultRelation, query->rtable)->relid;

			if (get_rel_namespace(relid) == script->store->schema)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a %s must not change \"%s.%s\", which belongs to the event store",
								kind_name(script->source.kind),
								get_namespace_name(script->store->schema),
								get_rel_name(relid)),
						 errhint("Keep your own tables in a schema of their own."),
						 statement_position(inspection)));
			script->targets = list_append_unique_oid(script->targets, relid);
			if (query->commandType != CMD_INSERT)
				script->only_inserts = false;
			if (query->commandType == CMD_UPDATE || query->commandType == CMD_MERGE ||
				(query->onConflict != NULL && query->onConflict->action == ONCONFLICT_UPDATE))
				script->updates = true;
		}
		return query_tree_walker(query, inspect_walker, arg, 0);
	}
	return expression_tree_walker(node, inspect_walker, arg);
}

/*
 * Walks over the script's statements as PostgreSQL understood them, and notes
 * what they change; raises 0A000 for what must not be in a script.
 */
static void
inspect(EsScript *script)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(script->context);
	Inspection	inspection;
	ListCell   *lc;

	inspection.script = script;
	inspection.extension = es_extension_schema();
	script->only_inserts = true;
	foreach(lc, SPI_plan_get_plan_sources(script->plan))
	{
		CachedPlanSource *source = lfirst(lc);
		ListCell   *lc2;

		inspection.location = source->raw_parse_tree->stmt_location;
		foreach(lc2, source->query_list)
		{
			Query	   *query = lfirst_node(Query, lc2);

			if (query->commandType == CMD_UTILITY)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a %s must not run %s",
								kind_name(script->source.kind),
								GetCommandTagName(CreateCommandTag(query->utilityStmt))),
						 errhint("The statements of a script are SELECT, INSERT, UPDATE, DELETE and MERGE."),
						 statement_position(&inspection)));
			(void) inspect_walker((Node *) query, &inspection);
		}
	}
	MemoryContextSwitchTo(oldcontext);
}

/*
 * Fills in new_events, still without a tuplestore behind it.
 */
static void
make_new_events(EsScript *script, EphemeralNamedRelationData *enr)
{
	memset(enr, 0, sizeof(*enr));
	enr->md.name = NEW_EVENTS;
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = script->desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = script->source.granularity == ES_GRANULARITY_EVENT ?
		1 : Max(script->source.expected, 1);
}

/*
 * Has every statement planned, since some mistakes (an ON CONFLICT without its
 * index) are found only then.
 */
static void
plan_statements(EsScript *script, EphemeralNamedRelation new_events)
{
	QueryEnvironment *env = create_queryEnv();
	ListCell   *lc;

	register_ENR(env, new_events);
	foreach(lc, SPI_plan_get_plan_sources(script->plan))
	{
		CachedPlan *plan;

		PushActiveSnapshot(GetTransactionSnapshot());
		plan = GetCachedPlan(lfirst(lc), NULL, NULL, env);
		ReleaseCachedPlan(plan, NULL);
		PopActiveSnapshot();
	}
}

/*
 * Returns a script, parsed, planned and checked; it lives until es_script_free().
 * Raises whatever PostgreSQL has to say about its text, 0A000 for a statement
 * that a script must not contain, 22023 for none.
 */
EsScript *
es_script_prepare(EsStore *store, const EsScriptSource *source)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "eventsourcing script",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	EsScript   *script = palloc0(sizeof(EsScript));
	EphemeralNamedRelationData new_events;
	EsOwnerState owner;
	SPIPlanPtr	plan;

	script->store = store;
	script->context = context;
	script->source = *source;
	script->source.name = pstrdup(source->name);
	script->source.text = pstrdup(source->text);
	script->source.search_path = pstrdup(source->search_path);
	script->desc = lookup_rowtype_tupdesc_copy(es_event_type(), -1);
	MemoryContextSwitchTo(oldcontext);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	es_owner_enter(&owner, store, source->search_path);
	make_new_events(script, &new_events);
	if (SPI_register_relation(&new_events) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed");
	plan = SPI_prepare(script->source.text, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (SPI_plan_get_plan_sources(plan) == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the script of %s \"%s\" is empty",
						kind_name(source->kind), source->name),
				 errhint("Pass one or more SQL statements over the relation new_events.")));
	script->plan = plan;
	inspect(script);
	plan_statements(script, &new_events);
	es_owner_leave(&owner);

	/* nothing below can fail */
	SPI_keepplan(plan);
	MemoryContextSetParent(context, CacheMemoryContext);
	SPI_finish();
	return script;
}

/*
 * Whether the script was made from just this source.
 */
bool
es_script_is(const EsScript *script, const EsScriptSource *source)
{
	return script->source.kind == source->kind &&
		script->source.granularity == source->granularity &&
		script->source.expected == source->expected &&
		strcmp(script->source.name, source->name) == 0 &&
		strcmp(script->source.text, source->text) == 0 &&
		strcmp(script->source.search_path, source->search_path) == 0;
}

/*
 * Returns the name of the projection or handler.
 */
const char *
es_script_name(const EsScript *script)
{
	return script->source.name;
}

/*
 * Returns the relations that the script's own statements change, not those that
 * functions change which it calls; and whether it only inserts into them (which
 * includes ON CONFLICT).
 */
List *
es_script_targets(const EsScript *script, bool *only_inserts)
{
	*only_inserts = script->only_inserts;
	return script->targets;
}

/*
 * Returns the store of the projection that is running, and its name, where the
 * query that is about to be planned is one of its own statements, not one of a
 * function that it calls; else NULL.
 */
EsStore *
es_script_planning(const char *query_string, const char **name)
{
	ListCell   *lc;

	if (innermost == NULL || innermost->script->source.kind != ES_SCRIPT_PROJECTION)
		return NULL;
	foreach(lc, SPI_plan_get_plan_sources(innermost->script->plan))
	{
		CachedPlanSource *source = lfirst(lc);

		if (source->query_string == query_string)
			return es_script_projection(name);
	}
	return NULL;
}

/*
 * Whether the script's own statements update rows.
 */
bool
es_script_updates(const EsScript *script)
{
	return script->updates;
}

/*
 * Frees a script, also when it is running just now.
 */
void
es_script_free(EsScript *script)
{
	if (script->running > 0)
	{
		script->dropped = true;
		return;
	}
	SPI_freeplan(script->plan);
	MemoryContextDelete(script->context);
}

/*
 * The state of a run over a list of events.
 */
typedef struct Runner
{
	EsScript   *script;
	EphemeralNamedRelationData new_events;
	Tuplestorestate *tuples;
	int			runs;			/* since the tuplestore was made */
	int			at;				/* which event, where they run one by one */
	Run			run;
} Runner;

static void
run_statements(Runner *runner)
{
	int			rc;

	if (IsolationUsesXactSnapshot())
	{
		/* make our own earlier changes visible to the newest snapshot */
		CommandCounterIncrement();
		rc = SPI_execute_snapshot(runner->script->plan, NULL, NULL,
								  GetLatestSnapshot(), InvalidSnapshot,
								  false, true, 0);
	}
	else
		rc = SPI_execute_plan(runner->script->plan, NULL, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Runs the script over the events that the pointers point to.
 */
static void
run_events(Runner *runner, int nevents, const EsEvent *const *events)
{
	EsScript   *script = runner->script;

	CHECK_FOR_INTERRUPTS();
	if (runner->tuples != NULL && runner->runs == RUNS_PER_TUPLESTORE)
	{
		tuplestore_end(runner->tuples);
		runner->tuples = NULL;
	}
	if (runner->tuples == NULL)
	{
		runner->tuples = tuplestore_begin_heap(false, false, work_mem);
		runner->runs = 0;
		runner->new_events.reldata = runner->tuples;
	}
	else
		tuplestore_clear(runner->tuples);
	runner->runs++;

	for (int i = 0; i < nevents; i++)
		tuplestore_putvalues(runner->tuples, script->desc,
							 (Datum *) events[i]->values, (bool *) events[i]->nulls);
	runner->run.nevents = nevents;
	runner->run.first = events[0];
	runner->run.last = events[nevents - 1];
	run_statements(runner);
}

static int
compare_streams(const EsEvent *a, const EsEvent *b)
{
	text	   *x = DatumGetTextPP(a->values[ES_EVENT_STREAM]);
	text	   *y = DatumGetTextPP(b->values[ES_EVENT_STREAM]);
	int			length = VARSIZE_ANY_EXHDR(x);

	if (length != VARSIZE_ANY_EXHDR(y))
		return length - (int) VARSIZE_ANY_EXHDR(y);
	return memcmp(VARDATA_ANY(x), VARDATA_ANY(y), length);
}

/*
 * Sorts pointers to events so that the k-th events of all streams come one
 * behind the other, in the order of positions, after all (k-1)-th.  Returns how
 * many such rounds there are, and where each ends.
 */
static int
make_rounds(int nevents, const EsEvent **events, int **ends)
{
	typedef struct Stream
	{
		const EsEvent *event;	/* any of the stream; NULL: the slot is free */
		int			round;		/* of its last event */
	} Stream;

	int			size = 1;
	Stream	   *streams;
	int		   *rounds = palloc(nevents * sizeof(int));
	const EsEvent **sorted = palloc(nevents * sizeof(EsEvent *));
	int			nrounds = 0;

	while (size < nevents * 2)
		size *= 2;
	streams = palloc_extended(size * sizeof(Stream), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < nevents; i++)
	{
		text	   *name = DatumGetTextPP(events[i]->values[ES_EVENT_STREAM]);
		uint32		slot = hash_bytes((unsigned char *) VARDATA_ANY(name),
									  VARSIZE_ANY_EXHDR(name)) & (size - 1);

		while (streams[slot].event != NULL &&
			   compare_streams(streams[slot].event, events[i]) != 0)
			slot = (slot + 1) & (size - 1);
		streams[slot].event = events[i];
		rounds[i] = streams[slot].round++;
		nrounds = Max(nrounds, rounds[i] + 1);
	}

	/* the length of each round, then where it starts, then where it ends */
	*ends = palloc0((nrounds + 1) * sizeof(int));
	for (int i = 0; i < nevents; i++)
		(*ends)[rounds[i] + 1]++;
	for (int i = 1; i <= nrounds; i++)
		(*ends)[i] += (*ends)[i - 1];
	for (int i = 0; i < nevents; i++)
		sorted[(*ends)[rounds[i]]++] = events[i];
	memcpy(events, sorted, nevents * sizeof(EsEvent *));
	pfree(streams);
	pfree(rounds);
	pfree(sorted);
	return nrounds;
}

static void
run_all(Runner *runner, int nevents, const EsEvent **events)
{
	switch (runner->script->source.granularity)
	{
		case ES_GRANULARITY_EVENT:
			for (runner->at = 0; runner->at < nevents; runner->at++)
				run_events(runner, 1, &events[runner->at]);
			break;
		case ES_GRANULARITY_STREAM:
			if (nevents > 1)
			{
				int		   *ends;
				int			nrounds = make_rounds(nevents, events, &ends);
				int			start = 0;

				for (int i = 0; i < nrounds; i++)
				{
					run_events(runner, ends[i] - start, &events[start]);
					start = ends[i];
				}
				break;
			}
			/* FALLTHROUGH */
		case ES_GRANULARITY_BATCH:
			run_events(runner, nevents, events);
			break;
	}
}

/*
 * Ends a run, also one that failed.
 */
static void
leave(Run *run)
{
	innermost = run->outer;
	run->script->running--;
	if (run->script->dropped)
		es_script_free(run->script);
}

/*
 * Runs the script over events that are in the order of positions, as its
 * granularity has it.
 */
void
es_script_run(EsScript *script, int nevents, const EsEvent *events)
{
	ErrorContextCallback callback;
	EsOwnerState owner;
	Runner		runner = {0};
	const EsEvent **pointers;

	if (nevents == 0)
		return;
	pointers = palloc_extended(nevents * sizeof(EsEvent *), MCXT_ALLOC_HUGE);
	for (int i = 0; i < nevents; i++)
		pointers[i] = &events[i];

	runner.script = script;
	runner.at = -1;
	make_new_events(script, &runner.new_events);
	runner.run.script = script;
	runner.run.outer = innermost;

	callback.callback = run_error_context;
	callback.arg = &runner.run;
	callback.previous = error_context_stack;

	script->running++;
	PG_TRY();
	{
		innermost = &runner.run;
		runner.run.nevents = nevents;
		runner.run.first = &events[0];
		runner.run.last = &events[nevents - 1];
		error_context_stack = &callback;

		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		if (SPI_register_relation(&runner.new_events) != SPI_OK_REL_REGISTER)
			elog(ERROR, "SPI_register_relation failed");
		es_owner_enter(&owner, script->store, script->source.search_path);
		run_all(&runner, nevents, pointers);
		es_owner_leave(&owner);
		tuplestore_end(runner.tuples);
		SPI_finish();
	}
	PG_CATCH();
	{
		leave(&runner.run);
		failed_at = runner.at;
		PG_RE_THROW();
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
	leave(&runner.run);
	pfree(pointers);
}

/*
 * Returns which event an es_script_run() failed at that just raised an error,
 * from 0; -1 where that is not known, as more than one were run at once.
 */
int
es_script_failed_at(void)
{
	return failed_at;
}

/*
 * Returns an empty batch, in a child of the current memory context.
 */
EsEventBatch *
es_event_batch_create(void)
{
	EsEventBatch *batch = palloc0(sizeof(EsEventBatch));

	batch->context = AllocSetContextCreate(CurrentMemoryContext,
										   "eventsourcing event batch",
										   ALLOCSET_DEFAULT_SIZES);
	return batch;
}

/*
 * Adds a copy of the event.
 */
void
es_event_batch_add(EsEventBatch *batch, const EsEvent *event)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(batch->context);
	EsEvent    *copy;

	if (batch->nevents == batch->size)
	{
		batch->size = Max(batch->size * 2, 64);
		batch->events = batch->events == NULL ?
			palloc(batch->size * sizeof(EsEvent)) :
			repalloc_huge(batch->events, batch->size * sizeof(EsEvent));
	}
	copy = &batch->events[batch->nevents++];
	*copy = *event;
	for (int i = 0; i < ES_EVENT_NATTS; i++)
	{
		if (event->nulls[i] || i == ES_EVENT_POSITION || i == ES_EVENT_VERSION ||
			i == ES_EVENT_RECORDED_AT)
			continue;
		copy->values[i] = datumCopy(event->values[i], false,
									i == ES_EVENT_EVENT_ID ? UUID_LEN : -1);
	}
	MemoryContextSwitchTo(oldcontext);
}

/*
 * Empties the batch.
 */
void
es_event_batch_reset(EsEventBatch *batch)
{
	MemoryContextReset(batch->context);
	batch->nevents = 0;
	batch->size = 0;
	batch->events = NULL;
}

/*
 * Frees the batch.
 */
void
es_event_batch_destroy(EsEventBatch *batch)
{
	MemoryContextDelete(batch->context);
	pfree(batch);
}
