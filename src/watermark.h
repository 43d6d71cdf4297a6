/*-------------------------------------------------------------------------
 *
 * watermark.h
 *		Up to where copies of the store are complete.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_WATERMARK_H
#define ES_WATERMARK_H

#include "store.h"

extern int64 es_watermark_get(EsStore *store);
extern int64 es_watermark_advance(EsStore *store, int64 before, int64 safe);
extern int64 es_watermark_of_standby(EsStore *store);
extern int64 es_watermark_of_subscriber(EsStore *store);

#endif							/* ES_WATERMARK_H */
