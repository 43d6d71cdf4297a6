/*-------------------------------------------------------------------------
 *
 * run.c
 *		Running what works after commit: es_run(), es_wait().
 *
 * Each step is a transaction: the safe position is asked for first, then events
 * up to it are read and worked on, and cursor and effects commit together.  So
 * whenever the process ends, every event has counted once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "append.h"
#include "catalog.h"
#include "clock.h"
#include "commands/trigger.h"
#include "compat.h"
#include "errors.h"
#include "executor/spi.h"
#include "floor.h"
#include "fmgr.h"
#include "handler.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "projection.h"
#include "run.h"
#include "schedule.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "watermark.h"
#include "work.h"

PG_FUNCTION_INFO_V1(es_advance_watermark);
PG_FUNCTION_INFO_V1(es_run);
PG_FUNCTION_INFO_V1(es_wait);

const EsRunKind *const es_run_kinds[ES_RUN_KINDS] = {
	&es_timer_run_kind,
	&es_handler_run_kind,
	&es_projection_run_kind
};

/* es_wait() looks again after so many milliseconds, at first and at most */
#define WAIT_MIN	1
#define WAIT_MAX	50

/*
 * Raises 42501 unless the caller has a right on the view of projections.  The
 * view cannot be written to, so there UPDATE is a mark, of who may run.
 */
static void
check_right(EsStore *store, AclMode right, const char *action)
{
	Oid			view = get_relname_relid("projections", store->schema);

	if (!OidIsValid(view))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" lacks its view \"projections\"", NameStr(store->name)),
				 errhint("Bring it back with SELECT es_upgrade_store(%s).",
						 quote_literal_cstr(NameStr(store->name)))));
	if (pg_class_aclcheck(view, GetUserId(), right) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s of event store \"%s\"", action, NameStr(store->name)),
				 errhint("The store's owner can allow it: SELECT es_grant(%s, %s).",
						 quote_literal_cstr(GetUserNameFromId(GetUserId(), false)),
						 right == ACL_UPDATE ? "'consumer'" : "'reader'")));
}

/*
 * Returns of which kind the name is; raises 42704 if there is none.
 */
static const EsRunKind *
find_kind(EsStore *store, const char *name)
{
	for (int i = 0; i < ES_RUN_KINDS; i++)
	{
		if (es_run_kinds[i]->exists(store, name))
			return es_run_kinds[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no projection or handler \"%s\"", name),
			 errhint("The views projections and subscriptions in schema %s list them.",
					 quote_identifier(NameStr(store->name)))));
}

/*
 * Has constraints of the current transaction checked after each statement, also
 * those that are deferred.  One that fails at the commit would fail all of the
 * step, again and again, and nobody could tell what to put off or to park; nor
 * does PostgreSQL defer anything that the store's owner does for others.
 */
static void
check_constraints_at_once(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	all->deferred = false;
	AfterTriggerSetState(all);
}

/*
 * Runs one thing up to where the log is settled now, in transactions of its
 * own: next_transaction() ends one, and what is in "work", and begins another.
 */
void
es_run_one(const EsRunKind *kind, const char *name, MemoryContext work,
		   void (*next_transaction) (MemoryContext work))
{
	MemoryContext oldcontext = CurrentMemoryContext;
	int64		upto;
	void	   *state = NULL;

	/* the first look at a store reads its log, which takes a snapshot */
	PushActiveSnapshot(GetTransactionSnapshot());
	upto = es_floor_safe(es_store_current());
	PopActiveSnapshot();

	PG_TRY();
	{
		bool		more = true;

		while (more)
		{
			EsStore    *store = es_store_current();

			CHECK_FOR_INTERRUPTS();
			PushActiveSnapshot(GetTransactionSnapshot());
			MemoryContextSwitchTo(work);
			check_constraints_at_once();
			more = kind->step(store, name, upto, &state);
			MemoryContextSwitchTo(oldcontext);
			PopActiveSnapshot();
			next_transaction(work);
		}
	}
	PG_FINALLY();
	{
		if (state != NULL)
			kind->end(state);
	}
	PG_END_TRY();
}

/*
 * Takes the watermark of the store on, if it has one of its own.
 */
void
es_run_watermark(EsStore *store)
{
	int64		before = store->subscribed ? -1 : es_watermark_get(store);

	if (before >= 0)
		(void) es_watermark_advance(store, before, es_floor_safe(store));
}

/*
 * es_advance_watermark()
 */
Datum
es_advance_watermark(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();

	PreventCommandIfReadOnly("es_advance_watermark()");
	es_store_check_owner(store);
	if (store->subscribed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event store \"%s\" is a logical subscriber, whose watermark the publisher advances",
						NameStr(store->name)),
				 errhint("Run SELECT es_advance_watermark() there.")));
	PG_RETURN_INT64(es_watermark_advance(store, es_watermark_get(store), es_floor_safe(store)));
}

/*
 * es_run(name)
 */
Datum
es_run(PG_FUNCTION_ARGS)
{
	char	   *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		last_appended = es_store_current()->last_appended;
	MemoryContext work;

	check_right(es_store_current(), ACL_UPDATE, "run projections and handlers");
	work = es_work_begin(fcinfo, "es_run()");
	for (int i = 0; i < ES_RUN_KINDS; i++)
	{
		List	   *names = NIL;
		ListCell   *lc;

		PushActiveSnapshot(GetTransactionSnapshot());
		if (name == NULL)
			names = es_run_kinds[i]->due(es_store_current());
		else if (find_kind(es_store_current(), name) == es_run_kinds[i])
			names = list_make1(name);
		PopActiveSnapshot();
		foreach(lc, names)
			es_run_one(es_run_kinds[i], lfirst(lc), work, es_work_next);
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (name == NULL)
		es_run_watermark(es_store_current());
	/* es_wait() is for what the session appended, not for what handlers did */
	es_store_current()->last_appended = last_appended;
	PopActiveSnapshot();
	es_work_end(work);
	PG_RETURN_VOID();
}

/*
 * Raises ZE010, if it is because a projection is paused or fails.
 */
static void
raise_if_stopped(EsStore *store, const char *name, int64 position, int64 reached)
{
	EsProjection *projection = es_projection_get(store, name, ES_SEE_ALL);
	bool		paused = projection != NULL && projection->state == ES_PROJECTION_PAUSED;

	if (!paused && (projection == NULL || projection->failures == 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ES_WAIT_TIMEOUT),
			 errmsg("\"%s\" did not get to position " INT64_FORMAT " in time", name, position),
			 errdetail("It is at position " INT64_FORMAT ", and %s.", reached,
					   paused ? "paused" : "fails there"),
			 paused ?
			 errhint("Call es_resume_projection().") :
			 errhint("last_error in the view %s.projections says why.",
					 quote_identifier(NameStr(store->name)))));
}

/*
 * Raises ZE010.  Where nothing could have got to the position, it is the log that
 * is to be looked at.
 */
static void
raise_timeout(EsStore *store, const EsRunKind *kind, const char *name,
			  int64 position, int64 reached)
{
	const char *schema = quote_identifier(NameStr(store->name));
	const char *view = kind == &es_handler_run_kind ? "subscriptions" : "projections";
	int64		safe = PG_INT64_MAX;

	if (kind == &es_projection_run_kind)
		raise_if_stopped(store, name, position, reached);

	/* a copy of the store need not be able to tell */
	if (!RecoveryInProgress() && !store->subscribed)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		safe = es_floor_safe(store);
		PopActiveSnapshot();
	}
	ereport(ERROR,
			(errcode(ERRCODE_ES_WAIT_TIMEOUT),
			 errmsg("\"%s\" did not get to position " INT64_FORMAT " in time", name, position),
			 position > safe ?
			 errdetail("It is at position " INT64_FORMAT ". Nothing gets further than the safe position, " INT64_FORMAT ", for now.",
					   reached, safe) :
			 errdetail("It is at position " INT64_FORMAT ".", reached),
			 position > safe ?
			 errhint("No event has that position yet, or a transaction that appended is still open, maybe your own: see %s.open_appends.",
					 schema) :
			 errhint("Is anybody running it, by CALL es_run() or the worker? The view %s.%s tells what it is at.",
					 schema, view)));
}

/*
 * es_wait(name, position, timeout)
 */
Datum
es_wait(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *name;
	int64		position = PG_ARGISNULL(1) ? store->last_appended : PG_GETARG_INT64(1);
	const EsRunKind *kind;
	int64		timeout;
	TimestampTz until;
	long		delay = WAIT_MIN;
	static uint32 wait_event = 0;

	es_check_argument(fcinfo, 0, "name");
	timeout = es_clock_get_duration(fcinfo, 2, "timeout", true);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_right(store, ACL_SELECT, "wait for projections and handlers");
	kind = find_kind(store, name);
	until = GetCurrentTimestamp();
	until += Min(timeout, DT_NOEND - 1 - until);
	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("EventsourcingWait");
	for (;;)
	{
		int64		reached = kind->reached(store, name);
		TimestampTz now = GetCurrentTimestamp();

		if (reached >= position)
			break;
		if (now >= until)
			raise_timeout(store, kind, name, position, reached);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(delay, TimestampDifferenceMilliseconds(now, until) + 1),
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		delay = Min(delay * 2, WAIT_MAX);
	}
	PG_RETURN_VOID();
}
