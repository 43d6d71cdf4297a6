/*-------------------------------------------------------------------------
 *
 * schedule.h
 *		Events that are to be appended at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_SCHEDULE_H
#define ES_SCHEDULE_H

#include "datatype/timestamp.h"
#include "run.h"

extern const EsRunKind es_timer_run_kind;

extern TimestampTz es_schedule_next(EsStore *store);

#endif							/* ES_SCHEDULE_H */
