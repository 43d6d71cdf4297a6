/*-------------------------------------------------------------------------
 *
 * context.h
 *		What an appending transaction says of itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_CONTEXT_H
#define ES_CONTEXT_H

#include "postgres.h"

#include "utils/jsonb.h"

extern bool es_context_is_set(void);
extern Jsonb *es_context_merge(Jsonb *metadata);

#endif							/* ES_CONTEXT_H */
