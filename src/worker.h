/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The background worker that runs what runs by itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_WORKER_H
#define ES_WORKER_H

#include "postgres.h"

extern void es_launcher_init(void);
extern PGDLLEXPORT void es_launcher_main(Datum arg);
extern PGDLLEXPORT void es_worker_main(Datum arg);

#endif							/* ES_WORKER_H */
