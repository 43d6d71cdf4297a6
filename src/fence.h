/*-------------------------------------------------------------------------
 *
 * fence.h
 *		What a projection must not do while it runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_FENCE_H
#define ES_FENCE_H

extern void es_fence_init(void);

#endif							/* ES_FENCE_H */
