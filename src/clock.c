/*-------------------------------------------------------------------------
 *
 * clock.c
 *		What time it is for leases, retries and timers.
 *
 * Whatever waits for a time asks here, so that a test can move the clock on
 * (eventsourcing.clock_offset) and never has to sleep.  recorded_at of events
 * is not meant: that is always the real time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "clock.h"
#include "guc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * Returns the time, of now and not of the transaction's start.
 */
TimestampTz
es_clock_now(void)
{
	return GetCurrentTimestamp() + (int64) es_guc_clock_offset * 1000;
}

/*
 * Returns an interval's length in microseconds; a month is 30 days.  What does
 * not fit becomes some 290 thousand years.
 */
int64
es_clock_interval_usec(const Interval *interval)
{
	double		usec = (double) interval->time +
	((double) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;

	return (int64) Max(Min(usec, 9.0e18), -9.0e18);
}

/*
 * Returns argument n of a function, a length of time, in microseconds.  Raises
 * 22004 for NULL, 22023 for one that is negative, or zero where that means
 * nothing.
 */
int64
es_clock_get_duration(FunctionCallInfo fcinfo, int n, const char *what, bool zero_allowed)
{
	int64		usec;

	es_check_argument(fcinfo, n, what);
	usec = es_clock_interval_usec(PG_GETARG_INTERVAL_P(n));
	if (usec < 0 || (usec == 0 && !zero_allowed))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be %s, but is %s", what,
						zero_allowed ? "zero or longer" : "longer than zero",
						DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(n))))));
	return usec;
}
