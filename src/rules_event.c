/*-------------------------------------------------------------------------
 *
 * rules_event.c
 *		What the values in rules are for an event.
 *
 * A reference to what the event does not have yields no value, which is not
 * null: who reads an event of a form that the rules didn't expect should
 * neither get values that nobody wrote, nor lose some.  So an operator
 * without a value does nothing, and an object is made without the members
 * that have none.  Arithmetic is an error instead: a sum that leaves out an
 * amount looks right and is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "rules_event.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/uuid.h"


/*
 * Messages.
 */

/* A sentence that says which event it is. */
char *
es_event_text(const EsEvent *event)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "The event");
	if (!event->nulls[ES_EVENT_VERSION])
		appendStringInfo(&buf, " is version " INT64_FORMAT, EsEventVersion(event));
	if (!event->nulls[ES_EVENT_STREAM])
		appendStringInfo(&buf, "%s stream \"%s\"",
						 event->nulls[ES_EVENT_VERSION] ? " is in" : " of",
						 TextDatumGetCString(event->values[ES_EVENT_STREAM]));
	appendStringInfo(&buf, "%s of type \"%s\".",
					 event->nulls[ES_EVENT_VERSION] &&
					 event->nulls[ES_EVENT_STREAM] ? " is" : ",",
					 TextDatumGetCString(event->values[ES_EVENT_TYPE]));
	return buf.data;
}

/* How messages call an operator and what it is applied to. */
char *
es_op_text(const EsOp *op)
{
	if (op->path.nsteps == 0)
		return psprintf("%s to the state", es_rules_operators[op->type]);
	return psprintf("%s to \"%s\"", es_rules_operators[op->type],
					op->path.text);
}

/* How messages call a value in the rules. */
const char *
es_expr_text(const EsExpr *expr)
{
	if (expr->type == ES_EXPR_IFNULL)
		return "$ifNull";
	if (expr->path.text !=NULL)
		return psprintf("\"%s\"", expr->path.text);
	return "the value";
}

/*
 * Values.
 */

/* Detoasts data or metadata.  What is short needs no memory. */
static void
read_jsonb(EsView *view, EsEventColumn column, EsNode *node,
		   EsDetoasted *detoasted)
{
	Datum		datum = view->event->values[column];
	struct varlena *stored = (struct varlena *) DatumGetPointer(datum);
	Jsonb	   *jsonb;

	/* the header of a value stored elsewhere passes for a short one */
	if (VARATT_IS_SHORT(stored) && !VARATT_IS_EXTERNAL(stored))
	{
		Size		size = VARSIZE_SHORT(stored) - VARHDRSZ_SHORT;

		jsonb = (Jsonb *) detoasted->buffer.bytes;
		SET_VARSIZE(jsonb, size + VARHDRSZ);
		memcpy(VARDATA(jsonb), VARDATA_SHORT(stored), size);
	}
	else
	{
		jsonb = DatumGetJsonbP(datum);
		if ((Pointer) jsonb != DatumGetPointer(datum))
			detoasted->copy = jsonb;
	}
	detoasted->done = true;
	es_node_from_jsonb(node, jsonb);
}

/* Follows a path into a packed value; false if it leads nowhere. */
static bool
follow(EsPath *path, EsNode *node)
{
	for (int i = 0; i < path->nsteps; i++)
	{
		EsStep	   *step = &path->steps[i];

		if (node->type != ES_PACKED)
			return false;
		if (JsonContainerIsObject(node->u.packed) ?
			!es_packed_member(node->u.packed, &step->key, node) :
			!es_packed_element(node->u.packed, step->index, node))
			return false;
	}
	return true;
}

static void
set_string(EsNode *node, const char *data, int length)
{
	node->type = ES_STRING;
	node->length = length;
	node->u.string = data;
}

/* Copies a string into the state's memory. */
static void
set_string_copy(EsView *view, EsNode *node, const char *data, int length)
{
	set_string(node, data, length);
	es_node_own(view->state, node);
}

static void
read_tags(EsView *view, EsNode *node)
{
	ArrayType  *tags = DatumGetArrayTypeP(view->event->values[ES_EVENT_TAGS]);
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(tags, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	es_node_set_array(view->state, node, count);
	for (int i = 0; i < count; i++)
	{
		EsNode	   *element = es_array_append(view->state, node->u.array);
		text	   *tag;

		if (nulls[i])
		{
			element->type = ES_NULL;
			continue;
		}
		tag = DatumGetTextPP(elements[i]);
		set_string_copy(view, element, VARDATA_ANY(tag),
						VARSIZE_ANY_EXHDR(tag));
	}
	pfree(elements);
	pfree(nulls);
	if ((Pointer) tags != DatumGetPointer(view->event->values[ES_EVENT_TAGS]))
		pfree(tags);
}

/* The value of a $$field; false if it is null */
static bool
read_field(EsView *view, EsEventColumn column, EsNode *node)
{
	Datum		datum = view->event->values[column];
	int			utc = 0;

	if (view->event->nulls[column])
		return false;

	switch (column)
	{
		case ES_EVENT_POSITION:
		case ES_EVENT_VERSION:
			node->type = ES_INTEGER;
			node->length = 0;
			node->u.integer = DatumGetInt64(datum);
			return true;
		case ES_EVENT_STREAM:
		case ES_EVENT_TYPE:
			{
				text	   *value = DatumGetTextPP(datum);

				set_string_copy(view, node, VARDATA_ANY(value),
								VARSIZE_ANY_EXHDR(value));
				if ((Pointer) value != DatumGetPointer(datum))
					pfree(value);
				return true;
			}
		case ES_EVENT_EVENT_ID:
			{
				char	   *value = DatumGetCString(DirectFunctionCall1(uuid_out,
																		datum));

				set_string_copy(view, node, value, strlen(value));
				pfree(value);
				return true;
			}
		case ES_EVENT_TAGS:
			read_tags(view, node);
			return true;
		case ES_EVENT_RECORDED_AT:

			/*
			 * What to_jsonb() makes of a timestamptz where the time zone is
			 * UTC, but whatever it is.
			 */
			if (view->recorded_at[0] == '\0')
				JsonEncodeDateTime(view->recorded_at, datum, TIMESTAMPTZOID,
								   &utc);
			set_string(node, view->recorded_at, strlen(view->recorded_at));
			return true;
		case ES_EVENT_DATA:
		case ES_EVENT_METADATA:
			break;
	}
	elog(ERROR, "unexpected column %d", (int) column);
	return false;
}

static bool
evaluate_object(EsView *view, EsExpr *expr, EsNode *node)
{
	es_node_set_object(view->state, node, expr->nargs);
	for (int i = 0; i < expr->nargs; i++)
	{
		EsNode		value;

		if (es_evaluate(view, &expr->args[i], &value))
		{
			es_node_own(view->state, &value);
			*es_object_put(view->state, node->u.object, &expr->keys[i]) = value;
		}
		else if (view->strict)
			return false;
	}
	return true;
}

static bool
evaluate_array(EsView *view, EsExpr *expr, EsNode *node)
{
	es_node_set_array(view->state, node, expr->nargs);
	for (int i = 0; i < expr->nargs; i++)
	{
		EsNode		value;

		if (!es_evaluate(view, &expr->args[i], &value))
		{
			if (view->strict)
				return false;
			/* an element that is left out would move the others */
			value.type = ES_NULL;
			value.length = 0;
		}
		es_node_own(view->state, &value);
		*es_array_append(view->state, node->u.array) = value;
	}
	return true;
}

/* An array of those values that there are: a list of things to add */
void
es_evaluate_elements(EsView *view, EsExpr *expr, EsNode *node)
{
	es_node_set_array(view->state, node, expr->nargs);
	for (int i = 0; i < expr->nargs; i++)
	{
		EsNode		value;

		if (es_evaluate(view, &expr->args[i], &value))
		{
			es_node_own(view->state, &value);
			*es_array_append(view->state, node->u.array) = value;
		}
	}
}

/*
 * The first alternative that is neither missing nor null; the last one as it
 * is
 */
static bool
evaluate_ifnull(EsView *view, EsExpr *expr, EsNode *node)
{
	for (int i = 0; i < expr->nargs - 1; i++)
		if (es_evaluate(view, &expr->args[i], node) && node->type != ES_NULL)
			return true;
	return es_evaluate(view, &expr->args[expr->nargs - 1], node);
}

/*
 * Returns false if there is no value.  Otherwise, the node is borrowed from
 * the rules or the event, or owned by the state.
 */
bool
es_evaluate(EsView *view, EsExpr *expr, EsNode *node)
{
	switch (expr->type)
	{
		case ES_EXPR_LITERAL:
			*node = expr->literal;
			return true;
		case ES_EXPR_DATA:
			if (view->event->nulls[ES_EVENT_DATA])
				return false;
			if (!view->data_detoasted.done)
				read_jsonb(view, ES_EVENT_DATA, &view->data,
						   &view->data_detoasted);
			*node = view->data;
			return follow(&expr->path, node);
		case ES_EXPR_METADATA:
			if (view->event->nulls[ES_EVENT_METADATA])
				return false;
			if (!view->metadata_detoasted.done)
				read_jsonb(view, ES_EVENT_METADATA, &view->metadata,
						   &view->metadata_detoasted);
			*node = view->metadata;
			return follow(&expr->path, node);
		case ES_EXPR_FIELD:
			return read_field(view, expr->column, node);
		case ES_EXPR_OBJECT:
			return evaluate_object(view, expr, node);
		case ES_EXPR_ARRAY:
			return evaluate_array(view, expr, node);
		case ES_EXPR_IFNULL:
			return evaluate_ifnull(view, expr, node);
	}
	elog(ERROR, "unknown expression type %d", (int) expr->type);
	return false;
}

/* Starts on an event; it and the state are the caller's. */
void
es_view_start(EsView *view, EsState *state, const EsEvent *event)
{
	view->state = state;
	view->event = event;
	view->strict = false;
	view->data_detoasted.done = false;
	view->data_detoasted.copy = NULL;
	view->metadata_detoasted.done = false;
	view->metadata_detoasted.copy = NULL;
	view->recorded_at[0] = '\0';
}

/* Frees what was detoasted. */
void
es_view_end(EsView *view)
{
	if (view->data_detoasted.copy != NULL)
		pfree(view->data_detoasted.copy);
	if (view->metadata_detoasted.copy != NULL)
		pfree(view->metadata_detoasted.copy);
}
