/*-------------------------------------------------------------------------
 *
 * read.h
 *		Reading events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_READ_H
#define ES_READ_H

#include "store.h"

extern int64 es_read_limit(EsStore *store, int64 after);

#endif							/* ES_READ_H */
