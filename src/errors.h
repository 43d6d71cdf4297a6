/*-------------------------------------------------------------------------
 *
 * errors.h
 *		The SQLSTATEs of class ZE.  docs/reference.md takes its list from here.
 *
 * Classes that begin with 0-4 or A-H belong to the SQL standard; ZE is
 * ours.  Everything else that can go wrong uses PostgreSQL's own codes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_ERRORS_H
#define ES_ERRORS_H

#include "utils/elog.h"

/* the expected version does not hold; DETAIL: stream, expected, actual */
#define ERRCODE_ES_VERSION_CONFLICT			MAKE_SQLSTATE('Z','E','0','0','1')

/* an append condition over tags does not hold (reserved) */
#define ERRCODE_ES_APPEND_CONDITION_FAILED	MAKE_SQLSTATE('Z','E','0','0','2')

/* an event id was used before, for something else */
#define ERRCODE_ES_IDEMPOTENCY_VIOLATION	MAKE_SQLSTATE('Z','E','0','0','3')

/* the stream takes no more events (reserved) */
#define ERRCODE_ES_STREAM_CLOSED			MAKE_SQLSTATE('Z','E','0','0','4')

/* UPDATE, DELETE or TRUNCATE of events, or an INSERT past es_append() */
#define ERRCODE_ES_APPEND_ONLY				MAKE_SQLSTATE('Z','E','0','0','5')

/* what is to be appended is no event: its stream, type, data, metadata or tags */
#define ERRCODE_ES_INVALID_EVENT			MAKE_SQLSTATE('Z','E','0','0','6')

/* an inline projection failed, and the append with it; DETAIL: why */
#define ERRCODE_ES_PROJECTION_FAILED		MAKE_SQLSTATE('Z','E','0','0','9')

/* es_wait(): the projection or handler did not get there in time */
#define ERRCODE_ES_WAIT_TIMEOUT				MAKE_SQLSTATE('Z','E','0','1','0')

/* acknowledged after the lease ran out and another consumer took over */
#define ERRCODE_ES_LEASE_LOST				MAKE_SQLSTATE('Z','E','0','1','3')

#endif							/* ES_ERRORS_H */
