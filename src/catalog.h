/*-------------------------------------------------------------------------
 *
 * catalog.h
 *		The extension's own objects, and what its functions have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_CATALOG_H
#define ES_CATALOG_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"

extern Oid	es_extension_schema(void);
extern Oid	es_event_type(void);
extern void es_check_list(ArrayType *array, int n, const char *table);
extern void es_check_argument(FunctionCallInfo fcinfo, int n, const char *name);

#endif							/* ES_CATALOG_H */
