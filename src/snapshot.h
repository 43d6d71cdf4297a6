/*-------------------------------------------------------------------------
 *
 * snapshot.h
 *		States of streams, kept to start folds from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_SNAPSHOT_H
#define ES_SNAPSHOT_H

#include "fold.h"

/* snapshot_find.c */
extern bool es_snapshot_find(EsStore *store, Datum stream, const EsFoldLimit *limit,
							 bytea *fingerprint, EsFolded *folded);

extern EsAggregate *es_snapshot_load(EsStore *store, Datum stream,
									 const EsFoldLimit *limit, EsFolded *folded);
extern void es_snapshot_after_append(EsStore *store, Datum stream,
									 int64 before, int64 after);

#endif							/* ES_SNAPSHOT_H */
