/*-------------------------------------------------------------------------
 *
 * upcast.h
 *		Old events in today's shape.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_UPCAST_H
#define ES_UPCAST_H

#include "event.h"
#include "store.h"
#include "utils/array.h"

typedef struct EsUpcast EsUpcast;

extern void es_upcast_init(void);
extern EsUpcast *es_upcast_begin(EsStore *store);
extern bool es_upcast_event(EsUpcast *upcast, EsEvent *event);
extern void es_upcast_end(EsUpcast *upcast);
extern int	es_upcast_schema(EsStore *store, text *type);
extern ArrayType *es_upcast_types(EsStore *store, ArrayType *types);
extern void es_upcast_describe(EsStore *store, StringInfo description);

#endif							/* ES_UPCAST_H */
