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

#include "fmgr.h"

extern Oid	es_guard_admit(Oid events);
extern void es_guard_close(Oid before);
extern Datum es_guard(PG_FUNCTION_ARGS);

#endif							/* ES_GUARD_H */
