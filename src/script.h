/*-------------------------------------------------------------------------
 *
 * script.h
 *		Running a user's SQL over events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_SCRIPT_H
#define ES_SCRIPT_H

#include "event.h"
#include "store.h"

/* How many events new_events may hold. */
typedef enum EsGranularity
{
	ES_GRANULARITY_EVENT,		/* one, in the order of positions */
	ES_GRANULARITY_STREAM,		/* of every stream at most one */
	ES_GRANULARITY_BATCH		/* all that there are */
} EsGranularity;

/* What a script is for, and so what it may do. */
typedef enum EsScriptKind
{
	ES_SCRIPT_PROJECTION,		/* must not append */
	ES_SCRIPT_HANDLER
} EsScriptKind;

/* The script as it was defined.  The strings are the caller's. */
typedef struct EsScriptSource
{
	EsScriptKind kind;
	const char *name;			/* of the projection or handler, for errors */
	const char *text;
	const char *search_path;	/* of its creation: es_owner_search_path() */
	EsGranularity granularity;
	int			expected;		/* events in a run, an estimate for plans */
} EsScriptSource;

typedef struct EsScript EsScript;

extern EsGranularity es_granularity_parse(const char *name);
extern EsScript *es_script_prepare(EsStore *store, const EsScriptSource *source);
extern bool es_script_is(const EsScript *script, const EsScriptSource *source);
extern const char *es_script_name(const EsScript *script);
extern List *es_script_targets(const EsScript *script, bool *only_inserts);
extern bool es_script_updates(const EsScript *script);
extern void es_script_run(EsScript *script, int nevents, const EsEvent *events);
extern int	es_script_failed_at(void);
extern void es_script_free(EsScript *script);
extern EsStore *es_script_projection(const char **name);
extern EsStore *es_script_planning(const char *query_string, const char **name);
extern void es_script_check_append(void);

/* Events that are kept until they are run, in one memory context. */
typedef struct EsEventBatch
{
	MemoryContext context;
	int			nevents;
	int			size;
	EsEvent    *events;
} EsEventBatch;

extern EsEventBatch *es_event_batch_create(void);
extern void es_event_batch_add(EsEventBatch *batch, const EsEvent *event);
extern void es_event_batch_reset(EsEventBatch *batch);
extern void es_event_batch_destroy(EsEventBatch *batch);

#endif							/* ES_SCRIPT_H */
