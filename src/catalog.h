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
#include "utils/rel.h"

extern Oid	es_extension_schema(void);
extern Oid	es_event_type(void);
extern bool es_index_is_on(Relation index, TupleDesc table, int nkeys,
						   const AttrNumber *attnums);
extern void es_check_list(ArrayType *array, int n, const char *table);
extern void es_check_argument(FunctionCallInfo fcinfo, int n, const char *name);
extern text *es_get_name(FunctionCallInfo fcinfo, int n, const char *what, int max);
extern ArrayType *es_get_list(FunctionCallInfo fcinfo, int n, const char *name,
							  const char *hint);
extern ArrayType *es_get_types(FunctionCallInfo fcinfo, int n);

#endif							/* ES_CATALOG_H */
