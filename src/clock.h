/*-------------------------------------------------------------------------
 *
 * clock.h
 *		What time it is for leases, retries and timers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_CLOCK_H
#define ES_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

extern TimestampTz es_clock_now(void);
extern int64 es_clock_interval_usec(const Interval *interval);
extern int64 es_clock_get_duration(FunctionCallInfo fcinfo, int n, const char *what,
								   bool zero_allowed);

#endif							/* ES_CLOCK_H */
