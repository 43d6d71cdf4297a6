/*-------------------------------------------------------------------------
 *
 * log_tips.h
 *		What a session knows of the tips of streams.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_LOG_TIPS_H
#define ES_LOG_TIPS_H

#include "log.h"

extern void es_log_tips_init(void);
extern bool es_log_tips_recall(EsStore *store, Datum stream, EsTip *tip);
extern void es_log_tips_remember(EsStore *store, Datum stream, int64 version,
								 TimestampTz recorded_at, bool committed);

#endif							/* ES_LOG_TIPS_H */
