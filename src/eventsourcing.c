/*-------------------------------------------------------------------------
 *
 * eventsourcing.c
 *		Loading of the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "aggregate.h"
#include "fence.h"
#include "fmgr.h"
#include "guc.h"
#include "log_tips.h"
#include "owner.h"
#include "shadow.h"
#include "store.h"
#include "upcast.h"
#include "wake.h"
#include "worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	es_guc_init();
	es_wake_init();
	es_launcher_init();
	es_owner_init();
	es_store_init();
	es_shadow_init();
	es_fence_init();
	es_log_tips_init();
	es_aggregate_init();
	es_upcast_init();
}
