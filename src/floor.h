/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Positions, and the position below which everything is settled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_FLOOR_H
#define ES_FLOOR_H

#include "store.h"

extern void es_floor_enter(EsStore *store);
extern void es_floor_check(EsStore *store);
extern int64 es_floor_settle(EsStore *store);
extern int64 es_floor_next(EsStore *store);
extern int64 es_floor_safe(EsStore *store);

#endif							/* ES_FLOOR_H */
