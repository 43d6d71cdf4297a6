/*-------------------------------------------------------------------------
 *
 * aggregate.h
 *		How the events of a category fold into state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_AGGREGATE_H
#define ES_AGGREGATE_H

#include "store.h"
#include "utils/jsonb.h"

typedef struct EsAggregate
{
	char	   *category;
	char	   *apply;			/* the function's signature, or NULL for rules */
	Jsonb	   *initial;
	int			snapshot_every;
	int			code_version;
	char	   *search_path;	/* for the function, with pg_temp last */
} EsAggregate;

extern void es_aggregate_init(void);
extern EsAggregate *es_aggregate_find(EsStore *store, Datum stream);
extern EsAggregate *es_aggregate_get(EsStore *store, Datum stream);

#endif							/* ES_AGGREGATE_H */
