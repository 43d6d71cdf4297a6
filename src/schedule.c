/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		Events that are to be appended at a time.
 *
 * A timer is a row until its event is in the log: the transaction that appends
 * the one deletes the other, so it fires exactly once, whatever crashes.  Who
 * fires a timer and who cancels it lock its row, so one of them comes second
 * and finds it gone.
 *
 * No timer is due before it was scheduled, whatever its time, and a run fires
 * those that were due when it began.  So what a trigger on the log schedules
 * meanwhile, even for the past, is for the next run, and a run ends.
 *
 * An event is appended with the rights of the role that scheduled it, as they
 * are at the time of appending.  The owner can write any role's name into the
 * table of timers, and owns the triggers on the log: so it is appended as that
 * role only where the owner has the role's rights anyway, else as the owner,
 * when the role may append.  One that cannot be appended is tried again, less and less
 * often, and for ever: an operator sees why in the view "scheduled" and removes
 * the cause or cancels it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "append.h"
#include "attempt.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "context.h"
#include "errors.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "schedule.h"
#include "script.h"
#include "upcast.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(es_cancel);
PG_FUNCTION_INFO_V1(es_schedule);

/* more than the name of a stream, which a key often has in it */
#define MAX_KEY_LENGTH	1024

/* timers in one transaction */
#define BATCH_SIZE	100

/* a timer that fails is tried again after this, doubling up to that */
#define RETRY_FIRST		USECS_PER_SEC
#define RETRY_MOST		(10 * USECS_PER_MINUTE)

static const EsQuery insert_query = {
	"INSERT INTO {es}.timers AS t (key, at, due, stream, type, data, metadata, role, schema)"
	" VALUES (coalesce($1, pg_catalog.gen_random_uuid()::pg_catalog.text), $2, greatest($2, $9), $3, $4, $5, $6, $7, $8)"
	" ON CONFLICT (key) DO UPDATE SET at = EXCLUDED.at, due = EXCLUDED.due,"
	" stream = EXCLUDED.stream, type = EXCLUDED.type, data = EXCLUDED.data,"
	" metadata = EXCLUDED.metadata, role = EXCLUDED.role, schema = EXCLUDED.schema, attempts = 0, error = NULL"
	" RETURNING key",
	9, {TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, NAMEOID, INT4OID,
	TIMESTAMPTZOID}
};

static const EsQuery delete_query = {
	"DELETE FROM {es}.timers WHERE key OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery due_query = {
	"SELECT key FROM {es}.timers WHERE due OPERATOR(pg_catalog.<=) $1"
	" ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED",
	2, {TIMESTAMPTZOID, INT8OID}
};

static const EsQuery get_query = {
	"SELECT ctid, stream, type, data, metadata, role::pg_catalog.text, attempts, schema"
	" FROM {es}.timers WHERE key OPERATOR(pg_catalog.=) $1 AND due OPERATOR(pg_catalog.<=) $2",
	2, {TEXTOID, TIMESTAMPTZOID}
};

/* this row, and not what has been scheduled under its key since it was read */
static const EsQuery forget_query = {
	"DELETE FROM {es}.timers WHERE ctid OPERATOR(pg_catalog.=) $1",
	1, {TIDOID}
};

static const EsQuery failed_query = {
	"UPDATE {es}.timers SET attempts = $2, due = $3, error = $4"
	" WHERE key OPERATOR(pg_catalog.=) $1",
	4, {TEXTOID, INT4OID, TIMESTAMPTZOID, TEXTOID}
};

static const EsQuery next_query = {
	"SELECT due FROM {es}.timers ORDER BY due LIMIT 1",
	0, {0}
};

/*
 * Returns the role to append a timer's event as.  Raises 42501 where that is not
 * the role that scheduled it, and row security would ask who it is.
 */
static Oid
appender(EsStore *store, Oid role)
{
	if (has_privs_of_role(store->owner, role))
		return role;
	es_append_check_rights(store, role);
	if (check_enable_rls(store->events, role, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot append later as role \"%s\", to which row security applies",
						GetUserNameFromId(role, true)),
				 errdetail("Timers run with the rights of the store's owner, role \"%s\".",
						   GetUserNameFromId(store->owner, true)),
				 errhint("Grant role \"%s\" to role \"%s\".",
						 GetUserNameFromId(role, true),
						 GetUserNameFromId(store->owner, true))));
	return store->owner;
}

/*
 * es_schedule(at, stream, type, data, key)
 */
Datum
es_schedule(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	EsNewEvent	event = {0};
	NameData	role;
	Datum		values[9];
	char		nulls[10] = "         ";
	text	   *key;

	PreventCommandIfReadOnly("es_schedule()");
	es_check_argument(fcinfo, 0, "at");
	es_check_argument(fcinfo, 1, "stream");
	es_check_argument(fcinfo, 2, "type");
	es_check_argument(fcinfo, 3, "data");
	if (!PG_ARGISNULL(4))
		(void) es_get_name(fcinfo, 4, "key", MAX_KEY_LENGTH);
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event cannot be scheduled at infinity")));

	/* now is the time to hear that it can't be appended */
	event.type = PG_GETARG_TEXT_PP(2);
	event.data = PG_GETARG_JSONB_P(3);
	es_append_check_stream(PG_GETARG_TEXT_PP(1));
	es_append_check_event(&event);
	es_append_check_rights(store, GetUserId());
	(void) appender(store, GetUserId());
	es_script_check_append();

	values[0] = PG_GETARG_DATUM(4);
	nulls[0] = PG_ARGISNULL(4) ? 'n' : ' ';
	values[1] = PG_GETARG_DATUM(0);
	values[2] = PG_GETARG_DATUM(1);
	values[3] = PG_GETARG_DATUM(2);
	values[4] = PG_GETARG_DATUM(3);
	event.metadata = es_context_merge(NULL, 1);
	values[5] = PointerGetDatum(event.metadata);
	nulls[5] = event.metadata == NULL ? 'n' : ' ';
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	values[6] = NameGetDatum(&role);
	values[7] = Int32GetDatum(es_upcast_schema(store, event.type));
	values[8] = TimestampTzGetDatum(es_clock_now());

	SPI_connect();
	(void) es_store_execute(store, &insert_query, values, nulls);
	key = es_result_copy(0, 1);
	SPI_finish();
	es_wake_at_end();
	PG_RETURN_TEXT_P(key);
}

/*
 * es_cancel(key)
 */
Datum
es_cancel(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Datum		value;
	bool		cancelled;

	PreventCommandIfReadOnly("es_cancel()");
	es_check_argument(fcinfo, 0, "key");
	es_append_check_rights(store, GetUserId());
	es_script_check_append();
	value = PG_GETARG_DATUM(0);
	SPI_connect();
	cancelled = es_store_execute(store, &delete_query, &value, NULL) > 0;
	SPI_finish();
	PG_RETURN_BOOL(cancelled);
}

/* A timer that is due. */
typedef struct Timer
{
	EsStore    *store;
	text	   *key;
	ItemPointerData ctid;
	text	   *stream;
	EsNewEvent	event;
	char	   *role;
	int			attempts;
	int			schema;			/* of its data */
} Timer;

/*
 * Reads one timer, whose row is locked; false if it is not due any more.  A
 * trigger on the log may have cancelled it, or put it off, when another one of
 * this transaction was fired.
 */
static bool
get(Timer *timer, TimestampTz now)
{
	Datum		values[2];
	text	   *role = NULL;
	bool		is_due;
	bool		isnull;

	values[0] = PointerGetDatum(timer->key);
	values[1] = TimestampTzGetDatum(now);
	SPI_connect();
	is_due = es_store_execute(timer->store, &get_query, values, NULL) > 0;
	if (is_due)
	{
		timer->ctid = *(ItemPointer) DatumGetPointer(es_result_value(0, 1, &isnull));
		timer->stream = es_result_copy(0, 2);
		timer->event.type = es_result_copy(0, 3);
		timer->event.data = es_result_copy(0, 4);
		timer->event.metadata = es_result_copy(0, 5);
		role = es_result_copy(0, 6);
		timer->attempts = DatumGetInt32(es_result_value(0, 7, &isnull));
		timer->schema = DatumGetInt32(es_result_value(0, 8, &isnull));
	}
	SPI_finish();
	if (is_due)
		timer->role = text_to_cstring(role);
	return is_due;
}

/*
 * Fires one timer, whose row is locked: appends its event with the rights of the
 * role that scheduled it.
 */
static void
fire(void *arg)
{
	Timer	   *timer = arg;
	EsStore    *store = timer->store;
	Oid			role = get_role_oid(timer->role, true);
	EsOwnerState state;

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", which scheduled the event, does not exist", timer->role)));

	/* append would take the data for what the type's schema is by now */
	if (timer->schema != es_upcast_schema(store, timer->event.type))
		timer->event.metadata = es_context_with_schema(timer->event.metadata, timer->schema);
	es_store_enter(&state, appender(store, role), 0);
	(void) es_append_to(store, timer->stream, 1, &timer->event, ES_VERSION_ANY, NULL);
	es_store_leave(&state);
}

/*
 * Forgets a timer that was fired; not in the subtransaction that fired it, which
 * would make a MultiXact of the row's lock.  Where a trigger on the log has
 * scheduled the next one under the same key, that stays.
 */
static void
forget(Timer *timer)
{
	Datum		value = PointerGetDatum(&timer->ctid);

	SPI_connect();
	(void) es_store_execute(timer->store, &forget_query, &value, NULL);
	SPI_finish();
}

/*
 * Writes down that a timer failed, and when it is tried again.
 */
static void
put_off(Timer *timer, char *error)
{
	int64		wait = RETRY_MOST;
	Datum		values[4];

	if (timer->attempts < 10)
		wait = Min(wait, RETRY_FIRST << Max(timer->attempts, 0));
	values[0] = PointerGetDatum(timer->key);
	values[1] = Int32GetDatum(timer->attempts + 1);
	values[2] = TimestampTzGetDatum(es_clock_now() + wait);
	values[3] = CStringGetTextDatum(error);
	SPI_connect();
	(void) es_store_execute(timer->store, &failed_query, values, NULL);
	SPI_finish();
}

/*
 * Fires some of the timers that were due when the run began.  Returns whether
 * there were any.
 */
static bool
step(EsStore *store, const char *name, int64 upto, void **state)
{
	static const EsContext none = {0};
	TimestampTz *began = *state;
	Datum		values[2];
	Timer	   *timers = palloc0(BATCH_SIZE * sizeof(Timer));
	int			n;

	if (began == NULL)
	{
		/* to end(); the worker has no portal */
		began = MemoryContextAlloc(TopMemoryContext, sizeof(TimestampTz));
		*began = es_clock_now();
		*state = began;
	}
	values[0] = TimestampTzGetDatum(*began);
	values[1] = Int64GetDatum(BATCH_SIZE);

	SPI_connect();
	n = (int) es_store_execute(store, &due_query, values, NULL);
	for (int i = 0; i < n; i++)
	{
		timers[i].store = store;
		timers[i].key = es_result_copy(i, 1);
	}
	SPI_finish();

	for (int i = 0; i < n; i++)
	{
		char	   *error;

		if (!get(&timers[i], *began))
			continue;
		error = es_attempt_as(&none, fire, &timers[i]);
		if (error == NULL)
			forget(&timers[i]);
		else
			put_off(&timers[i], error);
	}
	return n > 0;
}

/*
 * Returns when the next timer is due, DT_NOEND for none.
 */
TimestampTz
es_schedule_next(EsStore *store)
{
	TimestampTz due = DT_NOEND;
	bool		isnull;

	SPI_connect();
	if (es_store_execute(store, &next_query, NULL, NULL) > 0)
		due = DatumGetTimestampTz(es_result_value(0, 1, &isnull));
	SPI_finish();
	return due;
}

/* What the runner wants to know of timers, which all run under one name. */

static bool
exists(EsStore *store, const char *name)
{
	return false;
}

static List *
due(EsStore *store)
{
	return es_schedule_next(store) <= es_clock_now() ? list_make1("timers") : NIL;
}

static int64
reached(EsStore *store, const char *name)
{
	return -1;
}

static void
end(void *state)
{
	pfree(state);
}

const EsRunKind es_timer_run_kind = {
	exists, due, reached, step, end
};
