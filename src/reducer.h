/*-------------------------------------------------------------------------
 *
 * reducer.h
 *		Folding events into state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_REDUCER_H
#define ES_REDUCER_H

#include "aggregate.h"
#include "event.h"

typedef struct EsReducer EsReducer;

/*
 * Takes an event with the state before and after it, all of which are gone when
 * it returns.
 */
typedef void (*EsStateSink) (const EsEvent *event, Jsonb *before, Jsonb *after,
							 void *arg);

extern EsReducer *es_reducer_create(EsStore *store, EsAggregate *aggregate,
									Jsonb *state, EsStateSink sink, void *arg);
extern void es_reducer_apply(EsReducer *reducer, const EsEvent *event);
extern Jsonb *es_reducer_state(EsReducer *reducer);

#endif							/* ES_REDUCER_H */
