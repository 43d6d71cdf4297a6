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

extern Oid	es_guard_admit(Oid events);
extern void es_guard_close(Oid before);

#endif							/* ES_GUARD_H */
