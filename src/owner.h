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

/* What es_owner_leave() goes back to. */
typedef struct EsOwnerState
{
	Oid			userid;
	int			sec_context;
	int			guc_nestlevel;
} EsOwnerState;

extern void es_owner_init(void);
extern uint64 es_owner_functions(void);
extern void es_owner_enter(EsOwnerState *state, EsStore *store, const char *search_path);
extern void es_owner_leave(const EsOwnerState *state);
extern char *es_owner_search_path(void);
extern char *es_owner_signature(Oid function, int nargs, const Oid *argtypes,
								bool immutable, const char *hint);
extern Oid	es_owner_function(EsStore *store, const char *signature);
extern void es_owner_describe(EsStore *store, const char *signature,
							  const char *search_path, StringInfo description);

#endif							/* ES_OWNER_H */
