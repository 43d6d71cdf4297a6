/*-------------------------------------------------------------------------
 *
 * queue.h
 *		Waiting in line for a stream that many want to append to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_QUEUE_H
#define ES_QUEUE_H

#include "store.h"

extern bool es_queue_is_hot(EsStore *store, text *stream);
extern void es_queue_join(EsStore *store, text *stream);
extern void es_queue_stay_out(void);

#endif							/* ES_QUEUE_H */
