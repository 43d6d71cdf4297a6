/*-------------------------------------------------------------------------
 *
 * owner.h
 *		Running a user's code as the store's owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_OWNER_H
#define ES_OWNER_H

#include "store.h"

/* What a definition calls. */
typedef enum EsFunctionKind
{
	ES_FUNCTION_APPLY,			/* (state jsonb, event es_event) */
	ES_FUNCTION_DECIDER,		/* (state jsonb, command text, payload jsonb) */
	ES_FUNCTION_UPCASTER		/* (data jsonb), IMMUTABLE */
}			EsFunctionKind;

/* A function that was looked up before; all zero: not yet. */
typedef struct EsKnownFunction
{
	Oid			function;
	uint64		epoch;			/* of the store then, */
	uint64		functions;		/* and es_owner_functions() */
} EsKnownFunction;

extern void es_owner_init(void);
extern uint64 es_owner_functions(void);
extern void es_owner_enter(EsOwnerState *state, EsStore *store, const char *search_path);
extern void es_owner_leave(const EsOwnerState *state);
extern char *es_owner_search_path(void);
extern char *es_owner_signature(EsStore *store, Oid function, EsFunctionKind kind);
extern Oid	es_owner_function(EsStore *store, const char *signature, EsFunctionKind kind,
							  EsKnownFunction *known);
extern void es_owner_describe(EsStore *store, const char *signature,
							  const char *search_path, StringInfo description);

#endif							/* ES_OWNER_H */
