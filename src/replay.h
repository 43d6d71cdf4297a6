/*-------------------------------------------------------------------------
 *
 * replay.h
 *		The state of a stream.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_REPLAY_H
#define ES_REPLAY_H

#include "datatype/timestamp.h"
#include "reducer.h"

/* Up to where a stream is folded. */
typedef struct EsFoldLimit
{
	int64		version;		/* PG_INT64_MAX for all */
	TimestampTz as_of;			/* DT_NOEND for now */
	bool		latest;			/* what is committed by now, not what the
								 * calling statement sees */
} EsFoldLimit;

extern Jsonb *es_fold(EsStore *store, Datum stream, const EsFoldLimit *limit,
					  int64 *version);

#endif							/* ES_REPLAY_H */
