/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Positions, and the position below which everything is settled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_FLOOR_H
#define ES_FLOOR_H

#include "storage/lockdefs.h"
#include "store.h"

extern void es_floor_enter(EsStore *store);
extern void es_floor_check(EsStore *store);
extern int64 es_floor_settle(EsStore *store);
extern int64 es_floor_settle_patiently(EsStore *store, LOCKMODE mode,
									   void (*meanwhile) (void *arg), void *arg);
extern int	es_floor_patience(int attempt);
extern void es_floor_pause(int attempt);
extern int64 es_floor_next(EsStore *store);
extern int64 es_floor_safe(EsStore *store);

#endif							/* ES_FLOOR_H */
