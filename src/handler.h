/*-------------------------------------------------------------------------
 *
 * handler.h
 *		Scripts that react to events after their commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_HANDLER_H
#define ES_HANDLER_H

#include "nodes/pg_list.h"
#include "store.h"

extern List *es_handler_names(EsStore *store);
extern bool es_handler_exists(EsStore *store, const char *name);
extern bool es_handler_step(EsStore *store, const char *name, int64 upto);

#endif							/* ES_HANDLER_H */
