/*-------------------------------------------------------------------------
 *
 * eventsourcing.c
 *		Loading of the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "aggregate.h"
#include "fmgr.h"
#include "guc.h"
#include "store.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	es_guc_init();
	es_store_init();
	es_aggregate_init();
}
