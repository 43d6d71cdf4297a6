/*-------------------------------------------------------------------------
 *
 * waitpoint.h
 *		Places where a test can have a session wait.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_WAITPOINT_H
#define ES_WAITPOINT_H

#include "guc.h"

/*
 * Waits here if the setting eventsourcing.wait_point names this point: until
 * nobody holds the advisory lock pg_advisory_lock(hashtext(name)).
 */
#define ES_WAIT_POINT(name) \
	do { \
		if (unlikely(es_guc_wait_point[0] != '\0')) \
			es_wait_point(name); \
	} while (0)

extern void es_wait_point(const char *name);

#endif							/* ES_WAITPOINT_H */
