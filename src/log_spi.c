/*-------------------------------------------------------------------------
 *
 * log_spi.c
 *		The events table by way of saved plans.
 *
 * Right everywhere: partitioned tables, row security, users' triggers, other
 * table access methods.
 *
 * Who sees what: events are inserted and scanned as the caller, so rights and
 * row security on the table hold.  What the version check asks (the tip of a
 * stream, the ids in it) is asked as the store's owner and past row security,
 * with the newest snapshot whatever the isolation level: the unique index sees
 * every row too.
 *
 * Each function connects to SPI by itself, and what it returns is allocated in
 * the caller's memory context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "guard.h"
#include "log_spi.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define EVENT_COLUMNS \
	"position, stream, version, type, data, metadata, event_id, tags, recorded_at"

static const EsQuery tip_query = {
	"SELECT version, recorded_at, xmin FROM {es}.events"
	" WHERE stream OPERATOR(pg_catalog.=) $1"
	" ORDER BY version DESC LIMIT 1",
	1, {TEXTOID}
};

static const EsQuery version_query = {
	"SELECT version FROM {es}.events"
	" WHERE stream OPERATOR(pg_catalog.=) $1"
	" ORDER BY version DESC LIMIT 1",
	1, {TEXTOID}
};

static const EsQuery head_query = {
	"SELECT position FROM {es}.events ORDER BY position DESC LIMIT 1",
	0, {0}
};

static const EsQuery last_position_query = {
	"SELECT position FROM {es}.events WHERE position OPERATOR(pg_catalog.<=) $1"
	" ORDER BY position DESC LIMIT 1",
	1, {INT8OID}
};

static const EsQuery find_ids_query = {
	"SELECT i.ordinal, e.version, e.type, e.data"
	"  FROM pg_catalog.unnest($2) WITH ORDINALITY i (event_id, ordinal)"
	"  JOIN {es}.events e ON e.stream OPERATOR(pg_catalog.=) $1"
	"                    AND e.event_id OPERATOR(pg_catalog.=) i.event_id"
	" ORDER BY i.ordinal",
	2, {TEXTOID, UUIDARRAYOID}
};

static const EsQuery positions_query = {
	"SELECT position FROM {es}.events"
	" WHERE position OPERATOR(pg_catalog.>) $1 AND position OPERATOR(pg_catalog.<=) $2"
	" ORDER BY position LIMIT $3",
	3, {INT8OID, INT8OID, INT8OID}
};

/*
 * Inserting.  $1 to $9 are the (first) event; $10 and beyond are the columns
 * of further ones, as arrays.
 */
#define INSERT_INTO \
	"INSERT INTO {es}.events" \
	" (position, version, recorded_at, stream, type, data, metadata, event_id, tags) "
#define FIRST_EVENT \
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
#define FIRST_EVENT_TYPES \
	INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, UUIDOID, TEXTARRAYOID
#define FURTHER_EVENTS(columns) \
	"SELECT e.position, $2 OPERATOR(pg_catalog.+) e.ordinal, $3, $4, e.type, e.data," \
	" e.metadata, e.event_id, e.tags::pg_catalog.text[]" \
	" FROM " columns "unnest($10, $11, $12, $13, $14, $15) WITH ORDINALITY" \
	" e (position, type, data, metadata, event_id, tags, ordinal)"
#define FURTHER_EVENTS_TYPES \
	INT8ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID, UUIDARRAYOID, TEXTARRAYOID

static const EsQuery insert_one = {
	INSERT_INTO FIRST_EVENT "ON CONFLICT DO NOTHING",
	9, {FIRST_EVENT_TYPES}
};

/* the same, but what is in the way is an error */
static const EsQuery insert_one_or_raise = {
	INSERT_INTO FIRST_EVENT,
	9, {FIRST_EVENT_TYPES}
};

/*
 * One statement for the whole batch, so that statement triggers see it whole.
 * Only who got the first version inserts the others, and nobody can be in
 * their way.  (RETURNING a constant asks for no right to SELECT.)
 */
static const EsQuery insert_many = {
	"WITH first AS (" INSERT_INTO FIRST_EVENT "ON CONFLICT DO NOTHING RETURNING 1) "
	INSERT_INTO FURTHER_EVENTS("first CROSS JOIN "),
	15, {FIRST_EVENT_TYPES, FURTHER_EVENTS_TYPES}
};

static const EsQuery insert_many_or_raise = {
	"WITH first AS (" INSERT_INTO FIRST_EVENT "RETURNING 1) "
	INSERT_INTO FURTHER_EVENTS("first CROSS JOIN "),
	15, {FIRST_EVENT_TYPES, FURTHER_EVENTS_TYPES}
};

static const EsQuery stream_forward = {
	"SELECT " EVENT_COLUMNS " FROM {es}.events"
	" WHERE stream OPERATOR(pg_catalog.=) $1"
	" AND version OPERATOR(pg_catalog.>=) $2 AND version OPERATOR(pg_catalog.<=) $3"
	" ORDER BY version LIMIT $4",
	4, {TEXTOID, INT8OID, INT8OID, INT8OID}
};

static const EsQuery stream_backward = {
	"SELECT " EVENT_COLUMNS " FROM {es}.events"
	" WHERE stream OPERATOR(pg_catalog.=) $1"
	" AND version OPERATOR(pg_catalog.>=) $2 AND version OPERATOR(pg_catalog.<=) $3"
	" ORDER BY version DESC LIMIT $4",
	4, {TEXTOID, INT8OID, INT8OID, INT8OID}
};

/* One query for each combination of filters, so that each can use its index. */
#define BY_POSITION(filters) { \
	"SELECT " EVENT_COLUMNS " FROM {es}.events" \
	" WHERE position OPERATOR(pg_catalog.>) $1 AND position OPERATOR(pg_catalog.<=) $2" \
	filters \
	" ORDER BY position LIMIT $3", \
	6, {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID} \
}
#define BY_CATEGORY	" AND pg_catalog.split_part(stream, '-', 1) OPERATOR(pg_catalog.=) $4"
#define BY_TYPES	" AND type OPERATOR(pg_catalog.=) ANY ($5)"
#define BY_TAGS		" AND tags OPERATOR(pg_catalog.@>) $6"

#define FILTER_CATEGORY	1
#define FILTER_TYPES	2
#define FILTER_TAGS		4

static const EsQuery by_position[] = {
	BY_POSITION(""),
	BY_POSITION(BY_CATEGORY),
	BY_POSITION(BY_TYPES),
	BY_POSITION(BY_CATEGORY BY_TYPES),
	BY_POSITION(BY_TAGS),
	BY_POSITION(BY_CATEGORY BY_TAGS),
	BY_POSITION(BY_TYPES BY_TAGS),
	BY_POSITION(BY_CATEGORY BY_TYPES BY_TAGS)
};

static const EsQuery by_list = {
	"SELECT " EVENT_COLUMNS " FROM {es}.events"
	" WHERE position OPERATOR(pg_catalog.=) ANY ($1) ORDER BY position",
	1, {INT8ARRAYOID}
};

static const EsQuery places_query = {
	"SELECT position, stream FROM {es}.events"
	" WHERE position OPERATOR(pg_catalog.=) ANY ($1) ORDER BY position",
	1, {INT8ARRAYOID}
};

static void
connect(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
finish(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * Runs a SELECT as the store's owner, past row security, with a snapshot that
 * sees all that is committed by now.  The result is in SPI_tuptable.
 */
static void
select_all_rows(EsStore *store, const EsQuery *query, Datum *values,
				bool latest, long max_rows)
{
	SPIPlanPtr	plan;
	Snapshot	snapshot = InvalidSnapshot;
	EsOwnerState owner;
	int			rc;

	es_store_enter(&owner, store->owner, SECURITY_NOFORCE_RLS);
	plan = es_store_index_plan(store, query);
	if (latest && IsolationUsesXactSnapshot())
	{
		/* make our own earlier changes visible to the newest snapshot */
		CommandCounterIncrement();
		snapshot = GetLatestSnapshot();
	}
	rc = SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot,
							  false, false, max_rows);
	es_store_leave(&owner);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
}

static Datum
result_value(uint64 row, int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, &isnull);
}

/*
 * Returns the last event of a stream: all rows, whoever asks, as of now.
 */
EsTip
es_log_spi_tip(EsStore *store, Datum stream)
{
	EsTip		tip = {0};

	connect();
	select_all_rows(store, &tip_query, &stream, true, 1);
	if (SPI_processed > 0)
	{
		tip.version = DatumGetInt64(result_value(0, 1));
		tip.recorded_at = DatumGetTimestampTz(result_value(0, 2));
		tip.ours = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(result_value(0, 3)));
	}
	finish();
	return tip;
}

/*
 * Returns how many of the new events' ids the stream has already, and the
 * events that carry them, in the order of the new ones.
 */
int
es_log_spi_find_ids(EsStore *store, Datum stream, int nevents,
					const EsNewEvent *events, EsKnownId **known)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum	   *ids = palloc(nevents * sizeof(Datum));
	int		   *ordinals = palloc(nevents * sizeof(int));
	Datum		values[2];
	int			nids = 0;
	int			nknown;

	for (int i = 0; i < nevents; i++)
	{
		if (events[i].event_id == NULL)
			continue;
		ordinals[nids] = i;
		ids[nids++] = UUIDPGetDatum(events[i].event_id);
	}
	*known = NULL;
	if (nids == 0)
		return 0;

	connect();
	values[0] = stream;
	values[1] = PointerGetDatum(construct_array(ids, nids, UUIDOID, UUID_LEN,
												false, TYPALIGN_CHAR));
	select_all_rows(store, &find_ids_query, values, true, 0);
	nknown = (int) SPI_processed;
	*known = MemoryContextAlloc(caller, Max(nknown, 1) * sizeof(EsKnownId));
	for (int i = 0; i < nknown; i++)
	{
		EsKnownId  *k = &(*known)[i];

		k->ordinal = ordinals[DatumGetInt64(result_value(i, 1)) - 1];
		k->version = DatumGetInt64(result_value(i, 2));
		k->type = SPI_datumTransfer(result_value(i, 3), false, -1);
		k->data = SPI_datumTransfer(result_value(i, 4), false, -1);
	}
	finish();
	return nknown;
}

/*
 * Fills the parameters of the events after the first one: a datum per column.
 */
static void
make_columns(int nevents, const EsNewEvent *events, Datum *columns)
{
	Datum	   *values = palloc(nevents * sizeof(Datum));
	bool	   *nulls = palloc(nevents * sizeof(bool));
	int			lower = 1;
	FmgrInfo	array_out_fn;

#define COLUMN(n, value, is_null, typid, typlen, typbyval, typalign) \
	do { \
		for (int i = 0; i < nevents; i++) \
		{ \
			nulls[i] = (is_null); \
			values[i] = nulls[i] ? (Datum) 0 : (value); \
		} \
		columns[n] = PointerGetDatum(construct_md_array(values, nulls, 1, \
														&nevents, &lower, typid, typlen, \
														typbyval, typalign)); \
	} while (0)

	COLUMN(0, Int64GetDatum(events[i].position), false,
		   INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	COLUMN(1, PointerGetDatum(events[i].type), false,
		   TEXTOID, -1, false, TYPALIGN_INT);
	COLUMN(2, PointerGetDatum(events[i].data), false,
		   JSONBOID, -1, false, TYPALIGN_INT);
	COLUMN(3, PointerGetDatum(events[i].metadata), events[i].metadata == NULL,
		   JSONBOID, -1, false, TYPALIGN_INT);
	COLUMN(4, UUIDPGetDatum(events[i].event_id), events[i].event_id == NULL,
		   UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);

	/* arrays of different lengths don't go into one array: pass them as text */
	fmgr_info(F_ARRAY_OUT, &array_out_fn);
	COLUMN(5, PointerGetDatum(cstring_to_text(OutputFunctionCall(&array_out_fn,
																 PointerGetDatum(events[i].tags)))),
		   events[i].tags == NULL,
		   TEXTOID, -1, false, TYPALIGN_INT);
#undef COLUMN
}

/*
 * Runs an INSERT as the caller.  Returns false where nothing was inserted; with
 * raise set that is an error (55000), and so is ever an INSERT of a part: who
 * wants to refuse an event has to raise, or it would be lost without a word.
 */
static bool
insert(EsStore *store, const EsQuery *query, Datum *values, const char *nulls,
	   int nevents, bool raise)
{
	SPIPlanPtr	plan = es_store_plan(store, query);
	Oid			admitted = es_guard_admit(store->events);
	uint64		wanted = Max(nevents - 1, 1);	/* a batch: of its second part */
	volatile int rc = 0;

	PG_TRY();
	{
		rc = SPI_execute_plan(plan, values, nulls, false, 0);
	}
	PG_FINALLY();
	{
		es_guard_close(admitted);
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	if (rc == SPI_OK_INSERT && SPI_processed == wanted)
		return true;
	if (SPI_processed > 0 || raise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("events were not inserted into \"%s.events\"", NameStr(store->name)),
				 errdetail("A trigger or a rule on the table left out some or all of %d.", nevents),
				 errhint("A trigger can refuse an event by raising an error, but not by leaving it out.")));
	return false;
}

/*
 * The same within a subtransaction: returns false, with nothing done, where a
 * row was in the way.  ON CONFLICT DO NOTHING does not serve a caller in
 * REPEATABLE READ: a rival that committed after his snapshot would be a
 * serialization failure (40001) to it, though it is an ordinary conflict of
 * versions to us.
 */
static bool
insert_in_subtransaction(EsStore *store, const EsQuery *query, Datum *values,
						 const char *nulls, int nevents)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	volatile bool inserted = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		(void) insert(store, query, values, nulls, nevents, true);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(oldcontext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			ReThrowError(error);
		FreeErrorData(error);
		inserted = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	return inserted;
}

/*
 * See es_log_insert().
 */
bool
es_log_spi_insert(EsStore *store, Datum stream, const EsTip *tip,
				  TimestampTz recorded_at, int nevents, const EsNewEvent *events,
				  bool raise)
{
	Datum		values[15];
	char		nulls[16];
	bool		conflict_is_error = raise || IsolationUsesXactSnapshot();
	const EsQuery *query;
	bool		inserted;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(events[0].position);
	values[1] = Int64GetDatum(tip->version + 1);
	values[2] = TimestampTzGetDatum(recorded_at);
	values[3] = stream;
	values[4] = PointerGetDatum(events[0].type);
	values[5] = PointerGetDatum(events[0].data);
	values[6] = PointerGetDatum(events[0].metadata);
	values[7] = UUIDPGetDatum(events[0].event_id);
	values[8] = PointerGetDatum(events[0].tags);
	for (int i = 6; i <= 8; i++)
		nulls[i] = DatumGetPointer(values[i]) == NULL ? 'n' : ' ';

	connect();
	if (nevents > 1)
	{
		make_columns(nevents - 1, events + 1, values + 9);
		query = conflict_is_error ? &insert_many_or_raise : &insert_many;
	}
	else
		query = conflict_is_error ? &insert_one_or_raise : &insert_one;

	if (conflict_is_error && !raise)
		inserted = insert_in_subtransaction(store, query, values, nulls, nevents);
	else
		inserted = insert(store, query, values, nulls, nevents, raise);
	finish();
	return inserted;
}

/*
 * A receiver of the executor's rows that hands them to an event sink, one by
 * one, without a copy.
 */
typedef struct SinkReceiver
{
	DestReceiver pub;
	EsEventSink sink;
	void	   *arg;
	ErrorContextCallback *context;	/* of an error in the sink */
} SinkReceiver;

static bool
sink_receive(TupleTableSlot *slot, DestReceiver *self)
{
	SinkReceiver *receiver = (SinkReceiver *) self;
	ErrorContextCallback *context = error_context_stack;
	EsEvent		event;
	bool		more;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	memcpy(event.values, slot->tts_values, sizeof(event.values));
	memcpy(event.nulls, slot->tts_isnull, sizeof(event.nulls));

	/* what it has to say has nothing to do with our query */
	error_context_stack = receiver->context;
	more = receiver->sink(&event, receiver->arg);
	error_context_stack = context;
	return more;
}

static void
sink_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
sink_noop(DestReceiver *self)
{
}

/*
 * Runs a SELECT of EVENT_COLUMNS and feeds the sink.  With by_index an index is
 * made for it; else which one is best depends on the values.  With read_only it
 * sees what the calling statement sees, else what a new statement would.
 */
static void
scan(EsStore *store, const EsQuery *query, bool by_index, Datum *values,
	 const bool *nulls, bool read_only, EsEventSink sink, void *arg)
{
	/* any type but DestNone, whose SELECTs SPI treats as utility commands */
	SinkReceiver receiver = {
		{
			sink_receive, sink_startup, sink_noop, sink_noop, DestTuplestore
		}, sink, arg, error_context_stack
	};
	SPIExecuteOptions options = {0};
	int			rc;

	es_store_check_reader(store);
	connect();
	options.params = makeParamList(query->nargs);
	for (int i = 0; i < query->nargs; i++)
	{
		ParamExternData *param = &options.params->params[i];

		param->value = values[i];
		param->isnull = nulls[i];
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = query->argtypes[i];
	}
	options.read_only = read_only;
	options.dest = (DestReceiver *) &receiver;
	rc = SPI_execute_plan_extended(by_index ? es_store_index_plan(store, query) :
								   es_store_custom_plan(store, query), &options);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(rc));
	finish();
}

/*
 * The same as the store's owner, past row security, with the newest snapshot.
 */
static void
scan_all_rows(EsStore *store, const EsQuery *query, Datum *values,
			  const bool *nulls, EsEventSink sink, void *arg)
{
	EsOwnerState owner;

	es_store_enter(&owner, store->owner, SECURITY_NOFORCE_RLS);
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	scan(store, query, true, values, nulls, true, sink, arg);
	PopActiveSnapshot();
	es_store_leave(&owner);
}

/*
 * Feeds the sink with events of one stream, in the order of versions.
 */
void
es_log_spi_scan_stream(EsStore *store, Datum stream, const EsStreamRange *range,
					   EsEventSink sink, void *arg)
{
	Datum		values[4];
	bool		nulls[4] = {false};
	const EsQuery *query;

	values[0] = stream;
	values[1] = Int64GetDatum(range->from_version);
	values[2] = Int64GetDatum(range->to_version);
	values[3] = Int64GetDatum(range->max_count);
	nulls[3] = range->max_count < 0;
	query = range->backward ? &stream_backward : &stream_forward;
	if (range->visibility == ES_SEE_ALL)
		scan_all_rows(store, query, values, nulls, sink, arg);
	else
		scan(store, query, true, values, nulls, true, sink, arg);
}

/*
 * Feeds the sink with events of the store in the order of positions, with a
 * snapshot taken now (within REPEATABLE READ: the transaction's), or with the
 * active one.
 */
void
es_log_spi_scan_positions(EsStore *store, const EsPositionRange *range,
						  EsEventSink sink, void *arg)
{
	Datum		values[6];
	bool		nulls[6] = {false};
	int			filters = 0;

	values[0] = Int64GetDatum(range->after);
	values[1] = Int64GetDatum(range->upto);
	values[2] = Int64GetDatum(range->max_count);
	nulls[2] = range->max_count < 0;
	values[3] = PointerGetDatum(range->category);
	nulls[3] = range->category == NULL;
	values[4] = PointerGetDatum(range->types);
	nulls[4] = range->types == NULL;
	values[5] = PointerGetDatum(range->tags);
	nulls[5] = range->tags == NULL;

	if (range->category != NULL)
		filters |= FILTER_CATEGORY;
	if (range->types != NULL)
		filters |= FILTER_TYPES;
	if (range->tags != NULL)
		filters |= FILTER_TAGS;
	scan(store, &by_position[filters], filters == 0, values, nulls, range->snapshot, sink, arg);
}

/*
 * Feeds the sink with the events at these positions, in their order, as far as
 * the caller may see them.  With the newest snapshot: who has waited for a lock
 * is told positions that his statement, or transaction, does not see yet.
 */
void
es_log_scan_list(EsStore *store, ArrayType *positions, EsEventSink sink, void *arg)
{
	Datum		value = PointerGetDatum(positions);
	bool		isnull = false;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	scan(store, &by_list, true, &value, &isnull, true, sink, arg);
	PopActiveSnapshot();
}

/*
 * Returns how many of the positions have an event, and these with their
 * streams, in the order of positions: all rows, whoever asks, as of now.
 */
int
es_log_find_places(EsStore *store, ArrayType *positions, EsPlace **places)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		value = PointerGetDatum(positions);
	int			nplaces;

	connect();
	select_all_rows(store, &places_query, &value, true, 0);
	nplaces = (int) SPI_processed;
	*places = MemoryContextAlloc(caller, Max(nplaces, 1) * sizeof(EsPlace));
	for (int i = 0; i < nplaces; i++)
	{
		(*places)[i].position = DatumGetInt64(result_value(i, 1));
		(*places)[i].stream = es_result_copy(i, 2);
	}
	finish();
	return nplaces;
}

/*
 * Runs a query for one bigint as the caller; 0 where it has no row.
 */
static int64
select_int64(EsStore *store, const EsQuery *query, Datum *values)
{
	int64		result = 0;
	int			rc;

	connect();
	rc = SPI_execute_plan(es_store_index_plan(store, query), values, NULL, true, 1);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	if (SPI_processed > 0)
		result = DatumGetInt64(result_value(0, 1));
	finish();
	return result;
}

/*
 * Returns the version of a stream as the caller's statement sees it.
 */
int64
es_log_spi_stream_version(EsStore *store, Datum stream)
{
	return select_int64(store, &version_query, &stream);
}

/*
 * Returns the highest position as the caller's statement sees it.
 */
int64
es_log_spi_head(EsStore *store)
{
	return select_int64(store, &head_query, NULL);
}

/*
 * Returns the highest position up to "upto" of all rows that are committed by now,
 * 0 if there is none.
 */
int64
es_log_last_position(EsStore *store, int64 upto)
{
	int64		result = 0;
	Datum		value = Int64GetDatum(upto);

	connect();
	select_all_rows(store, &last_position_query, &value, true, 1);
	if (SPI_processed > 0)
		result = DatumGetInt64(result_value(0, 1));
	finish();
	return result;
}

/*
 * Returns the first position in (after, upto] that is committed by now but that
 * the transaction's snapshot does not see, or PG_INT64_MAX if it sees all.
 * Within READ COMMITTED nothing is unseen; within REPEATABLE READ this reads
 * the positions of the whole range, twice.
 */
int64
es_log_first_unseen(EsStore *store, int64 after, int64 upto)
{
	const int	chunk = 10000;
	int64	   *latest;
	int64		result = PG_INT64_MAX;

	if (!IsolationUsesXactSnapshot())
		return result;

	connect();
	latest = palloc(chunk * sizeof(int64));
	for (;;)
	{
		Datum		values[3];
		int			nlatest;
		int			nseen;

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum(after);
		values[1] = Int64GetDatum(upto);
		values[2] = Int64GetDatum(chunk);

		select_all_rows(store, &positions_query, values, true, 0);
		nlatest = (int) SPI_processed;
		for (int i = 0; i < nlatest; i++)
			latest[i] = DatumGetInt64(result_value(i, 1));
		SPI_freetuptable(SPI_tuptable);

		select_all_rows(store, &positions_query, values, false, 0);
		nseen = (int) SPI_processed;
		for (int i = 0; i < nlatest && result == PG_INT64_MAX; i++)
		{
			if (i >= nseen || DatumGetInt64(result_value(i, 1)) != latest[i])
				result = latest[i];
		}
		SPI_freetuptable(SPI_tuptable);

		if (result != PG_INT64_MAX || nlatest < chunk)
			break;
		after = latest[nlatest - 1];
	}
	finish();
	return result;
}
