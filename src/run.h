/*-------------------------------------------------------------------------
 *
 * run.h
 *		Running what works after commit: es_run(), es_wait().
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_RUN_H
#define ES_RUN_H

#include "nodes/pg_list.h"
#include "store.h"

/* Something that is being run, from one transaction to the next. */
typedef struct EsRunner EsRunner;

/*
 * A kind of things that run after commit.  Each call but reached() is made in a
 * transaction of its own; rights have been checked.
 */
typedef struct EsRunKind
{
	/* whether there is one of the name */
	bool		(*exists) (EsStore *store, const char *name);

	/* the names of those that have work which may be tried now */
	List	   *(*due) (EsStore *store);

	/* the position up to which its work is done, with the newest snapshot */
	int64		(*reached) (EsStore *store, const char *name);

	/* *state is NULL at first, in a memory context that lives as long as it */
	bool		(*step) (EsStore *store, const char *name, int64 upto, void **state);

	/* after the last step */
	void		(*end) (void *state);
} EsRunKind;

extern const EsRunKind es_projection_run_kind;

#define ES_RUN_KINDS	3
extern const EsRunKind *const es_run_kinds[ES_RUN_KINDS];

extern void es_run_watermark(EsStore *store);
extern void es_run_one(const EsRunKind *kind, const char *name, MemoryContext work,
					   void (*next_transaction) (MemoryContext work));

#endif							/* ES_RUN_H */
