/*-------------------------------------------------------------------------
 *
 * projection.h
 *		Read models: their definitions, and taking them forward.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_PROJECTION_H
#define ES_PROJECTION_H

#include "log.h"
#include "nodes/parsenodes.h"
#include "script.h"
#include "utils/array.h"
#include "utils/snapshot.h"

/* Events that are read and run at once when a read model is brought forward. */
#define ES_PROJECTION_SLICE	20000

typedef enum EsProjectionState
{
	ES_PROJECTION_BUILDING,		/* takes in a history, for the first time */
	ES_PROJECTION_RUNNING,
	ES_PROJECTION_PAUSED
} EsProjectionState;

/* What a projection does with events. */
typedef struct EsProjectionBody
{
	char	   *text;
	char	   *search_path;
	char	   *granularity;
	ArrayType  *types;			/* NULL: all */
} EsProjectionBody;

typedef struct EsProjection
{
	char	   *name;
	bool		is_inline;
	EsProjectionState state;
	EsProjectionBody body;
	EsProjectionBody next;		/* for the next rebuild; text NULL: the same */
	ArrayType  *tables;			/* its read models */
	int64		position;		/* where its cursor stands */
	int			failures;		/* in a row */
} EsProjection;

/* The next events of a projection, and how to run them. */
typedef struct EsSlice
{
	EsStore    *store;
	EsScript   *script;
	ArrayType  *types;			/* as they may be stored; NULL: all */
	EsEventBatch *batch;
	int64		position;		/* everything up to here has been read */
	bool		done;			/* there was no more up to the limit */
} EsSlice;

/* projection.c */
extern void es_projection_check_table(EsStore *store, Oid relid);

/* projection_rows.c */
extern EsProjection *es_projection_get(EsStore *store, const char *name,
									   EsVisibility visibility);
extern void es_projection_raise_unknown(EsStore *store, const char *name);
extern EsProjection *es_projection_lock(EsStore *store, const char *name);
extern int64 es_projection_lock_or_skip(EsStore *store, const char *name);
extern void es_projection_set_position(EsStore *store, const char *name,
									   int64 position, int64 nevents);
extern void es_projection_set_state(EsStore *store, const char *name,
									const char *state);
extern void es_projection_set_body(EsStore *store, const char *name,
								   const EsProjectionBody *body);
extern void es_projection_set_next_body(EsStore *store, const char *name,
										const EsProjectionBody *body);
extern bool es_projection_insert(EsStore *store, const EsProjection *projection);
extern void es_projection_insert_cursor(EsStore *store, const char *name,
										int64 position);
extern bool es_projection_has_table(const EsProjection *projection, Oid relid);
extern void es_projection_delete(EsStore *store, const char *name);
extern bool es_projection_is_last_inline(EsStore *store, const char *name);

/* projection_slice.c */
extern EsScript *es_projection_parse(EsStore *store, const char *name,
									 const EsProjectionBody *body);
extern EsScript *es_projection_prepare(EsStore *store, const char *name,
									   const EsProjectionBody *body, int expected);
extern bool es_projection_is(const EsScript *script, const char *name,
							 const EsProjectionBody *body, int expected);
extern void es_projection_check_query(Query *query, const char *query_string);
extern EsSlice *es_slice_begin(EsStore *store, EsScript *script, ArrayType *types,
							   int64 after);
extern int	es_slice_read(EsSlice *slice, int64 upto, int max_count, bool snapshot);
extern void es_slice_run(EsSlice *slice, int nevents);
extern void es_slice_end(EsSlice *slice);

/* projection_inline.c */
extern Datum es_project(PG_FUNCTION_ARGS);
extern void es_project_inserted(EsStore *store, Datum stream, int64 version,
								TimestampTz recorded_at, int nevents,
								const EsNewEvent *events);

#endif							/* ES_PROJECTION_H */
