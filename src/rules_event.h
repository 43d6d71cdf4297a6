/*-------------------------------------------------------------------------
 *
 * rules_event.h
 *		An event while it is applied.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_RULES_EVENT_H
#define ES_RULES_EVENT_H

#include "rules.h"
#include "utils/datetime.h"

/* A column of the event as it is when detoasted. */
typedef struct EsDetoasted
{
	bool		done;
	void	   *copy;			/* to be freed, or NULL */
	union
	{
		char		bytes[VARATT_SHORT_MAX + VARHDRSZ];
		double		align;
	}			buffer;
} EsDetoasted;

/* What has been read of the event. */
typedef struct EsView
{
	EsState    *state;
	const EsEvent *event;
	bool		strict;			/* no value if any part of it is missing */
	EsNode		data;
	EsNode		metadata;
	EsDetoasted data_detoasted;
	EsDetoasted metadata_detoasted;
	char		recorded_at[MAXDATELEN + 1];
} EsView;

/* Reports that an operator cannot be applied; reason is a format. */
#define apply_error(view, op, sqlstate, hint, ...) \
	ereport(ERROR, \
			(errcode(sqlstate), \
			 errmsg("cannot apply %s: %s", es_op_text(op), \
					psprintf(__VA_ARGS__)), \
			 errdetail("%s", es_event_text((view)->event)), \
			 errhint("%s", hint)))

#define STATE_HINT \
	"Look at the state before it with es_replay, and at the rules."
#define MISSING_HINT \
	"Give a value to fall back on, as in {\"$ifNull\": [\"$.amount\", 0]}."
#define EVENT_HINT \
	"Events stay as they are: change the rules, or read such events through an upcaster."

extern char *es_event_text(const EsEvent *event);
extern char *es_op_text(const EsOp *op);
extern const char *es_expr_text(const EsExpr *expr);

extern void es_view_start(EsView *view, EsState *state, const EsEvent *event);
extern bool es_evaluate(EsView *view, EsExpr *expr, EsNode *node);
extern void es_evaluate_elements(EsView *view, EsExpr *expr, EsNode *node);
extern void es_view_end(EsView *view);

#endif							/* ES_RULES_EVENT_H */
