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
#include "store.h"

extern int	es_schedule_fire(EsStore *store, int max_count);
extern TimestampTz es_schedule_next(EsStore *store);

#endif							/* ES_SCHEDULE_H */
