/*-------------------------------------------------------------------------
 *
 * consume.h
 *		What consumers and administrators of subscriptions call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_CONSUME_H
#define ES_CONSUME_H

#include "fmgr.h"
#include "store.h"

extern text *es_consume_create(FunctionCallInfo fcinfo, EsStore *store, int first,
							   const char *role);

#endif							/* ES_CONSUME_H */
