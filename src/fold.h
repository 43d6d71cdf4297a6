/*-------------------------------------------------------------------------
 *
 * fold.h
 *		From the events of a stream to its state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_FOLD_H
#define ES_FOLD_H

#include "datatype/timestamp.h"
#include "log.h"
#include "reducer.h"

/* A state of a stream. */
typedef struct EsFolded
{
	Jsonb	   *state;			/* NULL: the aggregate's initial one */
	int64		version;		/* of the last event in it */
	TimestampTz recorded_at;	/* the newest of its events' */
} EsFolded;

/* How far a fold goes, and what it sees. */
typedef struct EsFoldLimit
{
	int64		version;		/* PG_INT64_MAX for all */
	TimestampTz as_of;			/* DT_NOEND for now */
	EsVisibility visibility;
} EsFoldLimit;

extern bool es_fold_is_filtered(EsStore *store, const EsFoldLimit *limit);
extern void es_fold(EsStore *store, EsAggregate *aggregate, Datum stream,
					const EsFoldLimit *limit, EsFolded *folded,
					EsStateSink sink, void *arg);

#endif							/* ES_FOLD_H */
