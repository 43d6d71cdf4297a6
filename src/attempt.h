/*-------------------------------------------------------------------------
 *
 * attempt.h
 *		Doing something in a subtransaction, and what came of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_ATTEMPT_H
#define ES_ATTEMPT_H

#include "postgres.h"

#include "context.h"

extern ErrorData *es_attempt(void (*part) (void *arg), void *arg, MemoryContext context);
extern char *es_attempt_message(void (*part) (void *arg), void *arg, MemoryContext context);
extern char *es_attempt_as(const EsContext *said, void (*part) (void *arg), void *arg);

#endif							/* ES_ATTEMPT_H */
