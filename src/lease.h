/*-------------------------------------------------------------------------
 *
 * lease.h
 *		What consumers of subscriptions are working on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_LEASE_H
#define ES_LEASE_H

#include "subscription.h"
#include "utils/hsearch.h"

extern HTAB *es_lease_load_streams(EsSubscription *sub);
extern bool es_lease_has_stream(HTAB *streams, text *stream);
extern void es_lease_create(EsSubscription *sub, text *consumer,
							TimestampTz until, const EsDeliveries *deliveries);
extern int64 es_lease_remove(EsStore *store, text *subscription, text *consumer,
							 int npositions, int64 *positions);
extern EsDeliveries *es_lease_take_back(EsSubscription *sub, text *consumer,
										int64 position);

#endif							/* ES_LEASE_H */
