/*-------------------------------------------------------------------------
 *
 * store.h
 *		The store that a call works on, its relations and its saved plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_STORE_H
#define ES_STORE_H

#include "postgres.h"

#include "executor/spi.h"
#include "storage/lock.h"

/* The layout of a store's tables that this library works with. */
#define ES_STORE_LAYOUT		1

/* How many of its tables the code reads; see store.c. */
#define ES_STORE_TABLES		16

typedef struct EsStore
{
	NameData	name;			/* hash key */
	bool		valid;			/* cleared by invalidation, set by look-up */
	uint64		epoch;			/* another one, and of no other entry,
								 * whenever this one was looked up anew */

	Oid			schema;
	Oid			owner;			/* of events, and so of the store */
	Oid			events;
	Oid			sequence;		/* of positions */
	Oid			tables[ES_STORE_TABLES];
	Oid			subscriptions;	/* the view, whose rights make a consumer */
	bool		subscribed;		/* logical replication brings the events */

	struct EsLogShape *shape;	/* log_shape.c: of events; NULL until used */
	struct EsSnapshotTable *snapshots;	/* snapshot_find.c; NULL until used */
	LOCKTAG		floor;			/* floor.c: the lock taken last */
	uint64		sequence_checked;	/* floor.c: the epoch when it was */
	uint64		append_checked; /* the same, for what who appends relies on */
	uint64		categories_listed;	/* aggregate.c: the epoch when they were */
	int64		last_appended;	/* the position of this session's last event,
								 * 0 for none: for read-your-writes */
} EsStore;

/* What es_store_leave() goes back to. */
typedef struct EsOwnerState
{
	Oid			userid;
	int			sec_context;
	int			guc_nestlevel;
} EsOwnerState;

/*
 * A query over a store's relations; "{es}" in it stands for the store's
 * quoted schema.  The address of the EsQuery is the plan's key, so it has to
 * be static.  Operators and functions in it must be qualified: the caller's
 * search_path is in force.
 */
#define ES_QUERY_MAXARGS	20

typedef struct EsQuery
{
	const char *sql;
	int			nargs;
	Oid			argtypes[ES_QUERY_MAXARGS];
} EsQuery;

extern void es_store_init(void);
extern EsStore *es_store_current(void);
extern EsStore *es_store_current_for(LOCKMODE lockmode);
extern EsStore *es_store_named(const char *name);
extern Oid	es_store_events_or_none(void);
extern void es_store_validate(EsStore *store);
extern void es_store_check_owner(EsStore *store);
extern void es_store_check_reader(EsStore *store);

/* store_query.c */
extern SPIPlanPtr es_store_plan(EsStore *store, const EsQuery *query);
extern SPIPlanPtr es_store_index_plan(EsStore *store, const EsQuery *query);
extern SPIPlanPtr es_store_custom_plan(EsStore *store, const EsQuery *query);
extern char *es_store_expand(EsStore *store, const char *sql);
extern void es_store_enter(EsOwnerState *state, Oid role, int sec_context);
extern void es_store_leave(const EsOwnerState *state);
extern uint64 es_store_execute(EsStore *store, const EsQuery *query, Datum *values,
							   const char *nulls);
extern uint64 es_store_execute_by_index(EsStore *store, const EsQuery *query,
										Datum *values, const char *nulls);
extern void es_store_call(EsStore *store, const char *format,...) pg_attribute_printf(2, 3);
extern uint64 es_store_select_latest(EsStore *store, const EsQuery *query,
									 Datum *values, const char *nulls);
extern uint64 es_store_select(EsStore *store, const EsQuery *query, Datum *values,
							  const char *nulls, bool as_statement);
extern Datum es_result_value(uint64 row, int column, bool *isnull);
extern void *es_result_copy(uint64 row, int column);

#endif							/* ES_STORE_H */
