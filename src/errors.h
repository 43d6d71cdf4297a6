/*-------------------------------------------------------------------------
 *
 * errors.h
 *		The SQLSTATEs of class ZE.
 *
 * Classes that begin with 0-4 or A-H belong to the SQL standard; ZE is
 * ours.  Everything else that can go wrong uses PostgreSQL's own codes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_ERRORS_H
#define ES_ERRORS_H

#include "utils/elog.h"

#define ERRCODE_ES_VERSION_CONFLICT			MAKE_SQLSTATE('Z','E','0','0','1')
#define ERRCODE_ES_APPEND_CONDITION_FAILED	MAKE_SQLSTATE('Z','E','0','0','2')
#define ERRCODE_ES_IDEMPOTENCY_VIOLATION	MAKE_SQLSTATE('Z','E','0','0','3')
#define ERRCODE_ES_STREAM_CLOSED			MAKE_SQLSTATE('Z','E','0','0','4')
#define ERRCODE_ES_APPEND_ONLY				MAKE_SQLSTATE('Z','E','0','0','5')
#define ERRCODE_ES_INVALID_EVENT			MAKE_SQLSTATE('Z','E','0','0','6')
#define ERRCODE_ES_PROJECTION_FAILED		MAKE_SQLSTATE('Z','E','0','0','9')
#define ERRCODE_ES_WAIT_TIMEOUT				MAKE_SQLSTATE('Z','E','0','1','0')
#define ERRCODE_ES_LEASE_LOST				MAKE_SQLSTATE('Z','E','0','1','3')

#endif							/* ES_ERRORS_H */
