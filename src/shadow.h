/*-------------------------------------------------------------------------
 *
 * shadow.h
 *		Filling copies of read models instead of the read models.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_SHADOW_H
#define ES_SHADOW_H

#include "projection.h"

/* The shadows of a projection's tables, see rebuild.sql. */
typedef struct EsShadows
{
	EsStore    *store;
	const char *projection;
	const char *prefix;			/* of their names */
	int			count;
	Oid		   *tables;
	Oid		   *shadows;
} EsShadows;

extern void es_shadow_init(void);
extern EsShadows *es_shadow_open(EsStore *store, const EsProjection *projection,
								 const char *prefix);
extern char *es_shadow_list(const EsProjection *projection);
extern Oid	es_shadow_of(const EsShadows *shadows, Oid relid);
extern bool es_shadow_is(Oid relid);
extern void es_shadow_run(EsShadows *shadows, EsSlice *slice);
extern void es_shadow_mark(EsShadows *shadows);
extern void es_shadow_swap(EsShadows *shadows);

#endif							/* ES_SHADOW_H */
