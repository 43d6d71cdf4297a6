/*-------------------------------------------------------------------------
 *
 * context.h
 *		What goes into the metadata of an event by itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_CONTEXT_H
#define ES_CONTEXT_H

#include "postgres.h"

#include "utils/jsonb.h"

/* the key of the schema of an event's data; 1 where it is absent */
#define ES_SCHEMA_KEY	"$schema"

/* What a handler says of its events; any may be NULL. */
typedef struct EsContext
{
	char	   *causation_id;
	char	   *correlation_id;
	char	   *traceparent;
} EsContext;

extern const EsContext *es_context_override(const EsContext *context);
extern Jsonb *es_context_merge(Jsonb *metadata, int schema);
extern Jsonb *es_context_defaults(Jsonb *metadata, Jsonb *defaults);
extern Jsonb *es_context_with_schema(Jsonb *metadata, int schema);

#endif							/* ES_CONTEXT_H */
