/*-------------------------------------------------------------------------
 *
 * work.h
 *		Work that spans several transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_WORK_H
#define ES_WORK_H

#include "postgres.h"

#include "fmgr.h"

extern MemoryContext es_work_begin(FunctionCallInfo fcinfo, const char *procedure);
extern void es_work_next(MemoryContext work);
extern void es_work_end(MemoryContext work);

#endif							/* ES_WORK_H */
