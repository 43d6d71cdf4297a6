/*-------------------------------------------------------------------------
 *
 * wake.h
 *		What backends share: who is to be woken at commit, and counters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_WAKE_H
#define ES_WAKE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* more databases than this have no worker */
#define ES_WAKE_SLOTS	64

/* A database and its worker. */
typedef struct EsWakeSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	int			pid;			/* 0: not running */
	struct Latch *latch;		/* of the worker, NULL before it is ready */
	TimestampTz held_until;		/* not to be started before */
} EsWakeSlot;

typedef enum EsCounter
{
	ES_COUNT_APPENDED,
	ES_COUNT_CONFLICTS,
	ES_COUNT_FOLDED,
	ES_COUNT_SNAPSHOTS_USED,
	ES_COUNT_HANDLED,
	ES_COUNT_RETRIED,
	ES_COUNT_PARKED
} EsCounter;

#define ES_NCOUNTERS	(ES_COUNT_PARKED + 1)

extern void es_wake_init(void);
extern bool es_wake_is_shared(void);
extern void es_wake_at_end(void);
extern EsWakeSlot es_wake_get_slot(int slot);
extern void es_wake_set_slot(int slot, const EsWakeSlot *value);
extern void es_wake_set_worker(int slot, int pid, struct Latch *latch);
extern void es_wake_hold(Oid database, int msec);
extern void es_wake_set_launcher(struct Latch *latch);
extern void es_wake_count(EsCounter counter, int64 n);

#endif							/* ES_WAKE_H */
