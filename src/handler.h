/*-------------------------------------------------------------------------
 *
 * handler.h
 *		Scripts that react to events after their commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_HANDLER_H
#define ES_HANDLER_H

#include "run.h"

extern const EsRunKind es_handler_run_kind;

#endif							/* ES_HANDLER_H */
