/*-------------------------------------------------------------------------
 *
 * aggregate.h
 *		How the events of a category fold into state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_AGGREGATE_H
#define ES_AGGREGATE_H

#include "owner.h"
#include "rules.h"
#include "store.h"
#include "utils/jsonb.h"

typedef struct EsAggregate
{
	char	   *category;
	char	   *apply;			/* the function's signature, or NULL for rules */
	EsKnownFunction apply_function;
	Jsonb	   *rules;			/* or NULL */
	EsRules    *compiled;		/* see es_aggregate_rules() */
	Jsonb	   *initial;
	int			snapshot_every;
	int			snapshots_kept;
	int			code_version;
	char	   *search_path;	/* for the function, with pg_temp last */
	char	   *decide;			/* the decider's signature, or NULL */
	EsKnownFunction decide_function;
	char	   *decide_search_path;
	bytea	   *fingerprint;	/* see es_aggregate_fingerprint() */
	MemoryContext context;		/* of all this */
	uint64		epoch;			/* of the store, when it was looked up */
	uint64		functions;		/* es_owner_functions() then */
	bool		warned;			/* that a snapshot failed */
} EsAggregate;

extern void es_aggregate_init(void);
extern EsAggregate *es_aggregate_find(EsStore *store, Datum stream);
extern EsAggregate *es_aggregate_get(EsStore *store, Datum stream);
extern EsRules *es_aggregate_rules(EsAggregate *aggregate);
extern bool es_aggregate_is_untouched(EsStore *store, const EsAggregate *aggregate);
extern bool es_aggregate_is_current(EsStore *store, EsAggregate *aggregate,
									Datum stream);
extern bytea *es_aggregate_fingerprint(EsStore *store, EsAggregate *aggregate);

#endif							/* ES_AGGREGATE_H */
