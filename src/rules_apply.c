/*-------------------------------------------------------------------------
 *
 * rules_apply.c
 *		Changing a state by an event, as the rules for its type say.
 *
 * The result depends on the rules, the state and the event alone: no setting
 * of the session has any say in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "rules_event.h"

/* Where a path leads, as far as it exists. */
typedef struct Target
{
	EsNode	   *node;			/* where the path ends, or NULL */
	EsNode	   *holder;			/* the container of that */
	EsNode	   *last;			/* the last node that exists */
	int			resolved;		/* steps that lead there */
	int			nparents;
	EsContainer *parents[ES_RULES_MAX_DEPTH];
} Target;


/*
 * Targets.
 */

/* Goes along the path as far as there is something. */
static void
find_target(EsView *view, EsOp *op, Target *target)
{
	EsState    *state = view->state;
	EsNode	   *node = &state->root;
	int			i;

	target->nparents = 0;
	target->node = NULL;
	target->holder = NULL;
	for (i = 0; i < op->path.nsteps; i++)
	{
		EsStep	   *step = &op->path.steps[i];
		EsNode	   *child = NULL;

		es_node_open(state, node);
		if (node->type == ES_OBJECT)
			child = es_object_find(state, node->u.object, &step->key);
		else if (node->type == ES_ARRAY)
		{
			if (step->index >= 0 && step->index < node->u.array->head.count)
				child = &node->u.array->elements[step->index];
		}
		else
			break;
		target->parents[target->nparents++] = node->u.container;
		target->holder = node;
		if (child == NULL)
			break;
		node = child;
	}
	target->last = node;
	target->resolved = i;
	if (i == op->path.nsteps)
		target->node = node;
}

/* What these containers hold changes. */
static void
touch(EsView *view, Target *target)
{
	view->state->jsonb = NULL;
	view->state->changed = true;
	for (int i = 0; i < target->nparents; i++)
	{
		target->parents[i]->packed = NULL;
		target->parents[i]->nhashed = 0;
	}
}

/* The part of a path that exists, for messages. */
static char *
resolved_text(const EsOp *op, const Target *target)
{
	StringInfoData buf;

	if (target->resolved == 0)
		return pstrdup("the state");
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '"');
	for (int i = 0; i < target->resolved; i++)
	{
		const EsKey *key = &op->path.steps[i].key;

		if (i > 0)
			appendStringInfoChar(&buf, '.');
		appendBinaryStringInfo(&buf, key->data, key->length);
	}
	appendStringInfoChar(&buf, '"');
	return buf.data;
}

/* Adds an element, and nulls between it and the end of the array. */
static EsNode *
pad_array(EsView *view, EsOp *op, Target *target, EsArray *array, EsStep *step)
{
	int			count = array->head.count;
	int			n = step->index - count + 1;
	EsNode	   *element;

	if (step->index < 0)
		apply_error(view, op, ERRCODE_INVALID_SQL_JSON_SUBSCRIPT, STATE_HINT,
					"%s is an array, and \"%.*s\" is not the number of an element",
					resolved_text(op, target),
					(int) step->key.length, step->key.data);
	if (n - 1 > ES_RULES_MAX_PADDING)
		apply_error(view, op, ERRCODE_INVALID_SQL_JSON_SUBSCRIPT, STATE_HINT,
					"%s has %d elements, and no more than %d nulls can be added",
					resolved_text(op, target), count, ES_RULES_MAX_PADDING);

	element = es_array_insert(view->state, array, count, n);
	for (int i = 0; i < n; i++)
	{
		element[i].type = ES_NULL;
		element[i].length = 0;
	}
	return &element[n - 1];
}

/*
 * Makes what is missing of the path and returns where it ends, a null.
 * Errors come before the first change.
 */
static EsNode *
make_target(EsView *view, EsOp *op, Target *target)
{
	EsNode	   *node = target->last;

	for (int i = target->resolved; i < op->path.nsteps; i++)
	{
		EsStep	   *step = &op->path.steps[i];

		if (i > target->resolved)
			es_node_set_object(view->state, node, 1);
		if (node->type == ES_OBJECT)
			node = es_object_put(view->state, node->u.object, &step->key);
		else if (node->type == ES_ARRAY)
			node = pad_array(view, op, target, node->u.array, step);
		else
			apply_error(view, op, ERRCODE_SQL_JSON_OBJECT_NOT_FOUND,
						STATE_HINT, "%s is %s, and cannot have a member \"%.*s\"",
						resolved_text(op, target), es_node_type_name(node),
						(int) step->key.length, step->key.data);
	}
	touch(view, target);
	return node;
}

/* Replaces what the path leads to, which is made if need be. */
static void
assign(EsView *view, EsOp *op, Target *target, EsNode *value)
{
	EsNode	   *node = target->node;

	es_node_own(view->state, value);
	if (node == NULL)
		node = make_target(view, op, target);
	else
		touch(view, target);
	*node = *value;
}


/*
 * Operators.
 */

static void
apply_set(EsView *view, EsOp *op)
{
	Target		target;
	EsNode		value;

	if (!es_evaluate(view, &op->value, &value))
		return;
	find_target(view, op, &target);
	assign(view, op, &target, &value);
}

static void
apply_unset(EsView *view, EsOp *op)
{
	EsStep	   *step = &op->path.steps[op->path.nsteps - 1];
	Target		target;

	find_target(view, op, &target);
	if (target.node == NULL)
		return;
	touch(view, &target);
	/* as in MongoDB, the elements of an array stay where they are */
	if (target.holder->type == ES_ARRAY)
		target.node->type = ES_NULL;
	else
		es_object_remove(view->state, target.holder->u.object, &step->key);
}

static void
apply_arithmetic(EsView *view, EsOp *op)
{
	EsState    *state = view->state;
	Target		target;
	EsNode		value;
	EsNode		result;
	bool		done;

	if (!es_evaluate(view, &op->value, &value))
		apply_error(view, op, ERRCODE_NON_NUMERIC_SQL_JSON_ITEM, MISSING_HINT,
					"the event has no %s", es_expr_text(&op->value));
	if (!es_node_is_number(&value))
		apply_error(view, op, ERRCODE_NON_NUMERIC_SQL_JSON_ITEM, EVENT_HINT,
					"%s is %s, not a number",
					es_expr_text(&op->value), es_node_type_name(&value));

	find_target(view, op, &target);
	if (target.node != NULL)
		result = *target.node;
	else
	{
		result.type = ES_INTEGER;
		result.length = 0;
		result.u.integer = 0;
	}
	if (!es_node_is_number(&result))
		apply_error(view, op, ERRCODE_NON_NUMERIC_SQL_JSON_ITEM, STATE_HINT,
					"it is %s, not a number", es_node_type_name(&result));

	done = op->type == ES_OP_INC ?
		es_number_add(state, &result, &value) :
		es_number_multiply(state, &result, &value);
	if (!done)
		apply_error(view, op, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, STATE_HINT,
					"the result is out of range");
	if (target.node == NULL)
		*make_target(view, op, &target) = result;
	else
	{
		touch(view, &target);
		*target.node = result;
	}
}

static void
apply_extreme(EsView *view, EsOp *op)
{
	Target		target;
	EsNode		value;

	if (!es_evaluate(view, &op->value, &value))
		return;
	find_target(view, op, &target);
	if (target.node != NULL)
	{
		int			order = es_node_compare(&value, target.node);

		if (op->type == ES_OP_MIN ? order >= 0 : order <= 0)
			return;
	}
	assign(view, op, &target, &value);
}

/*
 * Returns the array that the path leads to, opened; NULL if the path ends
 * before.  Nothing is made and nothing marked as changed.
 */
static EsArray *
find_array(EsView *view, EsOp *op, Target *target)
{
	find_target(view, op, target);
	if (target->node == NULL)
		return NULL;
	if (!es_node_is_array(target->node))
		apply_error(view, op, ERRCODE_SQL_JSON_ARRAY_NOT_FOUND, STATE_HINT,
					"it is %s, not an array",
					es_node_type_name(target->node));
	es_node_open(view->state, target->node);
	return target->node->u.array;
}

/* The array at the path, made if it is missing, and marked as changed. */
static EsArray *
make_array(EsView *view, EsOp *op, Target *target)
{
	if (target->node == NULL)
	{
		target->node = make_target(view, op, target);
		es_node_set_array(view->state, target->node, 0);
	}
	else
		touch(view, target);
	target->node->u.array->head.packed = NULL;
	return target->node->u.array;
}

/*
 * Evaluates the values of $push and $addToSet into a list; false if there is
 * no value.  The elements of $each are the state's own; without $each, the
 * list is the value itself, which may be borrowed.
 */
static bool
evaluate_list(EsView *view, EsOp *op, EsNode *single, EsNode **list, int *count)
{
	*list = single;
	*count = 1;
	if (op->each && op->value.type == ES_EXPR_ARRAY)
		es_evaluate_elements(view, &op->value, single);
	else if (!es_evaluate(view, &op->value, single))
		return false;
	if (op->each)
	{
		if (!es_node_is_array(single))
			apply_error(view, op, ERRCODE_SQL_JSON_ARRAY_NOT_FOUND, EVENT_HINT,
						"%s in $each is %s, not an array",
						es_expr_text(&op->value), es_node_type_name(single));
		es_node_own(view->state, single);
		es_node_open(view->state, single);
		*list = single->u.array->elements;
		*count = single->u.array->head.count;
	}
	return true;
}

/* Keeps the first n elements, or the last -n. */
static void
slice_array(EsArray *array, int n)
{
	int			count = array->head.count;
	int			keep = Min(count, abs(n));

	if (keep == count)
		return;
	if (n < 0)
		memmove(array->elements, array->elements + (count - keep),
				keep * sizeof(EsNode));
	array->head.nhashed = 0;
	array->head.count = keep;
}

static void
apply_push(EsView *view, EsOp *op)
{
	Target		target;
	EsArray    *array;
	EsNode		single;
	EsNode	   *list;
	EsNode	   *element;
	int			count;
	int			at;

	if (!evaluate_list(view, op, &single, &list, &count))
		return;
	if (!op->each)
		es_node_own(view->state, &single);
	find_array(view, op, &target);
	array = make_array(view, op, &target);

	at = array->head.count;
	if (op->has_position)
		at = op->position < 0 ? Max(at + op->position, 0) :
			Min(at, op->position);
	if (count > 0)
	{
		element = es_array_insert(view->state, array, at, count);
		memcpy(element, list, count * sizeof(EsNode));
	}
	if (op->has_slice)
		slice_array(array, op->slice);
}

static void
apply_add_to_set(EsView *view, EsOp *op)
{
	Target		target;
	EsArray    *array;
	EsNode		single;
	EsNode	   *list;
	int			count;

	if (!evaluate_list(view, op, &single, &list, &count))
		return;
	array = find_array(view, op, &target);
	if (array == NULL)
		array = make_array(view, op, &target);
	for (int i = 0; i < count; i++)
	{
		EsNode		value = list[i];

		if (es_array_contains(view->state, array, &value))
			continue;
		if (!op->each)
			es_node_own(view->state, &value);
		make_array(view, op, &target);
		*es_array_append(view->state, array) = value;
	}
}

/* Does an element have this, and is it as the test wants it? */
static bool
test_holds(EsTestType type, EsNode *element, EsNode *value)
{
	bool		same_type;
	int			order;

	if (type == ES_TEST_EQ)
		return element != NULL && es_node_equal(element, value);
	if (type == ES_TEST_NE)
		return element == NULL || !es_node_equal(element, value);
	if (type == ES_TEST_IN || type == ES_TEST_NIN)
	{
		bool		found = false;

		for (int i = 0; element && !found && i < value->u.array->head.count; i++)
			found = es_node_equal(element, &value->u.array->elements[i]);
		return found == (type == ES_TEST_IN);
	}

	/* only what is of one type is more or less */
	same_type = element != NULL &&
		es_node_rank(element) == es_node_rank(value);
	if (!same_type)
		return false;
	order = es_node_compare(element, value);
	switch (type)
	{
		case ES_TEST_GT:
			return order > 0;
		case ES_TEST_GTE:
			return order >= 0;
		case ES_TEST_LT:
			return order < 0;
		default:
			return order <= 0;
	}
}

/* Finds what a path leads to within an element, without opening anything. */
static EsNode *
find_within(EsView *view, EsPath *path, EsNode *element, EsNode *buffer)
{
	EsNode	   *node = element;

	for (int i = 0; i < path->nsteps; i++)
	{
		EsStep	   *step = &path->steps[i];

		if (node->type == ES_OBJECT)
			node = es_object_find(view->state, node->u.object, &step->key);
		else if (node->type == ES_ARRAY)
			node = step->index >= 0 &&
				step->index < node->u.array->head.count ?
				&node->u.array->elements[step->index] : NULL;
		else if (node->type == ES_PACKED)
		{
			JsonbContainer *packed = node->u.packed;

			node = (JsonContainerIsObject(packed) ?
					es_packed_member(packed, &step->key, buffer) :
					es_packed_element(packed, step->index, buffer)) ?
				buffer : NULL;
		}
		else
			node = NULL;
		if (node == NULL)
			return NULL;
	}
	return node;
}

/* Is this an object that has all members of the other, with equal values? */
static bool
has_members(EsView *view, EsNode *element, EsNode *members)
{
	EsObject   *object = members->u.object;

	if (!es_node_is_object(element))
		return false;
	for (int i = 0; i < object->head.count; i++)
	{
		EsStep		step = {object->pairs[i].key, -1};
		EsPath		path = {1, &step, NULL};
		EsNode		buffer;
		EsNode	   *member = find_within(view, &path, element, &buffer);

		if (member == NULL ||
			!es_node_equal(member, &object->pairs[i].value))
			return false;
	}
	return true;
}

/*
 * Evaluates what $pull compares elements to: a value, or one for each test.
 * Returns NULL if a part of it is missing in the event, since a condition
 * must not match more elements for that.
 */
static EsNode *
evaluate_tests(EsView *view, EsOp *op)
{
	EsState    *state = view->state;
	int			count = Max(op->ntests, 1);
	EsNode	   *values = es_state_alloc(state, count * sizeof(EsNode));
	bool		found = true;

	view->strict = true;
	if (op->ntests == 0)
		found = es_evaluate(view, &op->value, &values[0]);
	for (int i = 0; found && i < op->ntests; i++)
		found = es_evaluate(view, &op->tests[i].value, &values[i]);
	view->strict = false;
	if (!found)
		return NULL;

	for (int i = 0; i < op->ntests; i++)
	{
		EsTest	   *test = &op->tests[i];

		if (test->type != ES_TEST_IN && test->type != ES_TEST_NIN)
			continue;
		if (!es_node_is_array(&values[i]))
			apply_error(view, op, ERRCODE_SQL_JSON_ARRAY_NOT_FOUND, EVENT_HINT,
						"%s in $in or $nin is %s, not an array",
						es_expr_text(&test->value),
						es_node_type_name(&values[i]));
		es_node_own(state, &values[i]);
		es_node_open(state, &values[i]);
	}
	if (op->ntests == 0 && es_node_is_object(&values[0]))
	{
		es_node_own(state, &values[0]);
		es_node_open(state, &values[0]);
	}
	return values;
}

/* Does $pull take out this element? */
static bool
pull_matches(EsView *view, EsOp *op, EsNode *values, EsNode *element)
{
	if (op->ntests == 0)
	{
		/* the event's own object, unless it is empty, is a condition too */
		if (values[0].type == ES_OBJECT && values[0].u.object->head.count > 0)
			return has_members(view, element, &values[0]);
		return es_node_equal(element, &values[0]);
	}
	for (int i = 0; i < op->ntests; i++)
	{
		EsTest	   *test = &op->tests[i];
		EsNode		buffer;

		/* conditions on members concern objects only */
		if (test->path.nsteps > 0 && !es_node_is_object(element))
			return false;
		if (!test_holds(test->type,
						find_within(view, &test->path, element, &buffer),
						&values[i]))
			return false;
	}
	return true;
}

static void
apply_pull(EsView *view, EsOp *op)
{
	EsNode	   *values = evaluate_tests(view, op);
	Target		target;
	EsArray    *array;
	int			kept = 0;

	if (values == NULL)
		return;
	array = find_array(view, op, &target);
	if (array == NULL)
		return;
	for (int i = 0; i < array->head.count; i++)
		if (!pull_matches(view, op, values, &array->elements[i]))
			array->elements[kept++] = array->elements[i];
	if (kept == array->head.count)
		return;
	make_array(view, op, &target);
	array->head.nhashed = 0;
	array->head.count = kept;
}

static void
apply_merge(EsView *view, EsOp *op)
{
	EsState    *state = view->state;
	Target		target;
	EsNode		value;
	EsObject   *object;

	if (!es_evaluate(view, &op->value, &value))
		return;
	if (!es_node_is_object(&value))
		apply_error(view, op, ERRCODE_SQL_JSON_OBJECT_NOT_FOUND, EVENT_HINT,
					"%s is %s, not an object",
					es_expr_text(&op->value), es_node_type_name(&value));

	find_target(view, op, &target);
	if (target.node == NULL)
	{
		assign(view, op, &target, &value);
		return;
	}
	if (!es_node_is_object(target.node))
		apply_error(view, op, ERRCODE_SQL_JSON_OBJECT_NOT_FOUND, STATE_HINT,
					"it is %s, not an object",
					es_node_type_name(target.node));

	es_node_open(state, target.node);
	object = target.node->u.object;
	if (value.type == ES_PACKED)
	{
		EsCursor	cursor;
		EsKey		key;
		EsNode		member;

		es_cursor_init(&cursor, value.u.packed);
		if (cursor.count == 0)
			return;
		while (es_cursor_next(&cursor, &key, &member))
		{
			es_node_own(state, &member);
			*es_object_put(state, object, &key) = member;
		}
	}
	else
	{
		EsObject   *members = value.u.object;

		if (members->head.count == 0)
			return;
		for (int i = 0; i < members->head.count; i++)
			*es_object_put(state, object, &members->pairs[i].key) =
				members->pairs[i].value;
	}
	touch(view, &target);
	object->head.packed = NULL;
}

/* See rules.h. */
void
es_rules_apply(EsRules *rules, EsState *state, const EsEvent *event)
{
	EsRule	   *rule;
	EsView		view;

	CHECK_FOR_INTERRUPTS();
	if (event->nulls[ES_EVENT_TYPE])
		return;
	rule = es_rules_find(rules, event->values[ES_EVENT_TYPE]);
	if (rule == NULL)
		return;

	es_view_start(&view, state, event);
	for (int i = 0; i < rule->nops; i++)
	{
		EsOp	   *op = &rule->ops[i];

		switch (op->type)
		{
			case ES_OP_SET:
				apply_set(&view, op);
				break;
			case ES_OP_UNSET:
				apply_unset(&view, op);
				break;
			case ES_OP_INC:
			case ES_OP_MUL:
				apply_arithmetic(&view, op);
				break;
			case ES_OP_MIN:
			case ES_OP_MAX:
				apply_extreme(&view, op);
				break;
			case ES_OP_PUSH:
				apply_push(&view, op);
				break;
			case ES_OP_ADD_TO_SET:
				apply_add_to_set(&view, op);
				break;
			case ES_OP_PULL:
				apply_pull(&view, op);
				break;
			case ES_OP_MERGE:
				apply_merge(&view, op);
				break;
		}
	}

	es_view_end(&view);
	if (state->used > state->limit)
		es_state_compact(state);
}
