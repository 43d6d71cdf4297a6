/*-------------------------------------------------------------------------
 *
 * subscription.h
 *		Durable cursors over the store, and what they took and is not done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_SUBSCRIPTION_H
#define ES_SUBSCRIPTION_H

#include "event.h"
#include "store.h"
#include "utils/acl.h"
#include "utils/array.h"

/* as the position up to which events are to be taken: what is settled now */
#define ES_UPTO_SETTLED		PG_INT64_MAX

/* A subscription, its row locked by the current transaction. */
typedef struct EsSubscription
{
	EsStore    *store;
	text	   *name;
	TimestampTz now;			/* of its clock, when it was locked */

	int64		taken;
	text	   *category;		/* these three or NULL */
	ArrayType  *types;
	ArrayType  *tags;
	int			max_attempts;
	int64		backoff;		/* microseconds */
	int64		max_backoff;
	char	   *role;			/* who created it */
	bool		is_handler;
} EsSubscription;

/* With what an event is handed out that was given back. */
typedef enum EsCompany
{
	ES_COMPANY_ANY = 'a',		/* whatever there is */
	ES_COMPANY_OTHERS = 'o',	/* other streams, but none of its own */
	ES_COMPANY_NONE = 'n'		/* nothing else */
} EsCompany;

/*
 * An event that was taken for delivery.  Whoever took it leases it, has it
 * done, or gives it back with es_subscription_return(), within the
 * transaction.
 */
typedef struct EsDelivery
{
	int64		position;
	text	   *stream;
	int			attempts;		/* how often it was given back before */
	EsEvent    *event;			/* or NULL */

	/* for es_subscription_return() */
	EsCompany	company;
	TimestampTz retry_at;		/* 0: not before the one in front is done */
	TimestampTz parked_at;		/* or 0 */
	char	   *error;			/* or NULL */
} EsDelivery;

typedef struct EsDeliveries
{
	int			n;
	int			allocated;
	EsDelivery *items;
	MemoryContext context;		/* of items; NULL: the current one */
} EsDeliveries;

extern void es_subscription_check_right(EsStore *store, AclMode right,
										const char *action);
extern void es_subscription_raise_unknown(EsStore *store, text *name);
extern EsSubscription *es_subscription_lock(EsStore *store, text *name);
extern EsSubscription *es_subscription_try_lock(EsStore *store, text *name);
extern int64 es_subscription_position(EsStore *store, text *name);
extern int64 es_subscription_limit(EsStore *store, int64 taken, int64 upto);
extern bool es_subscription_is_idle(EsStore *store, text *name, int64 upto);
extern void es_subscription_fail(EsSubscription *sub, EsDelivery *delivery,
								 int64 retry_in, bool park, char *error);
extern void es_subscription_give_back(EsSubscription *sub,
									  EsDeliveries *deliveries, int failed,
									  EsCompany company, int64 retry_in, bool park,
									  bool delivered, char *error);
extern void es_subscription_return(EsSubscription *sub, EsDeliveries *deliveries);
extern void es_subscription_insert(EsSubscription *sub, const EsDeliveries *d);
extern void es_subscription_promote(EsSubscription *sub, Datum streams);
extern int64 es_subscription_unpark(EsSubscription *sub, text *stream);
extern void es_subscription_forget(EsSubscription *sub);
extern void es_subscription_set_taken(EsSubscription *sub, int64 taken);

extern EsDelivery *es_deliveries_add(EsDeliveries *deliveries, int64 position,
									 text *stream, int attempts);
extern bool es_same_stream(const text *a, const text *b);
extern Datum es_deliveries_streams(const EsDeliveries *d);
extern Datum es_deliveries_positions(const EsDeliveries *d);
extern Datum es_deliveries_attempts(const EsDeliveries *d);
extern Datum es_deliveries_company(const EsDeliveries *d);

/* retry_in of es_subscription_fail() */
#define ES_RETRY_BACKOFF	(-1)

#endif							/* ES_SUBSCRIPTION_H */
