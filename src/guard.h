/*-------------------------------------------------------------------------
 *
 * guard.h
 *		The append-only triggers of the events table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_GUARD_H
#define ES_GUARD_H

#include "postgres.h"

extern void es_guard_admit(Oid events);
extern void es_guard_close(void);

#endif							/* ES_GUARD_H */
