/*-------------------------------------------------------------------------
 *
 * delivery.h
 *		Which events of a subscription may be delivered next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_DELIVERY_H
#define ES_DELIVERY_H

#include "subscription.h"

extern EsDeliveries *es_delivery_take(EsSubscription *sub, int max_count,
									  int64 upto);

#endif							/* ES_DELIVERY_H */
