/*-------------------------------------------------------------------------
 *
 * rules.c
 *		Checking rules and making a program of them.
 *
 * Whatever can be known to be wrong without an event is an error here, when
 * the rules are created, and not at the first event that they meet.  So all
 * that rules_apply.c has to report is what an event or the state is not.
 *
 * The program holds no pointer into the rules that it was made from, and is
 * not changed by running it, apart from hashes of keys that it remembers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "rules_compile.h"

/* More event types than this are searched by hash. */
#define LINEAR_SEARCH_MAX	8

const char *const es_rules_operators[] = {
	"$set", "$unset", "$inc", "$mul", "$min", "$max", "$push", "$addToSet",
	"$pull", "$merge"
};

static const char *const test_names[] = {
	"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"
};


/*
 * Operators.
 */

/* The value of $position or $slice */
static int
compile_int(EsNode *node, const char *what, const EsPlace *place)
{
	int64		result;

	if (!es_node_is_number(node) || !es_number_to_int64(node, &result) ||
		result < PG_INT32_MIN / 2 || result > PG_INT32_MAX / 2)
		rules_error(place,
					errmsg("%s in rules needs a whole number", what),
					"It cannot be a reference.");
	return (int) result;
}

/* What $push or $addToSet does to a path: a value, or $each and others */
static void
compile_push(EsOp *op, EsNode *node, const EsPlace *place)
{
	const char *operator = es_rules_operators[op->type];
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	if (!es_has_operators(node))
	{
		es_compile_value(&op->value, node, place);
		return;
	}

	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(place, &key);

		if (key_is(&key, "$each"))
		{
			op->each = true;
			es_compile_array(&op->value, &value, "$each", &here);
		}
		else if (op->type == ES_OP_PUSH && key_is(&key, "$position"))
		{
			op->has_position = true;
			op->position = compile_int(&value, "$position", &here);
		}
		else if (op->type == ES_OP_PUSH && key_is(&key, "$slice"))
		{
			op->has_slice = true;
			op->slice = compile_int(&value, "$slice", &here);
		}
		else
			rules_error(&here,
						errmsg("unknown modifier \"%s\" of %s in rules",
							   key_text(&key), operator),
						"%s", op->type == ES_OP_PUSH ?
						"The modifiers of $push are $each, $position and $slice." :
						"The modifier of $addToSet is $each.");
	}
	if (!op->each)
		rules_error(place,
					errmsg("%s with modifiers but without $each in rules", operator),
					"Write {\"$each\": [value, ...], ...}.");
}

static void
add_test(EsOp *op, EsTest *test)
{
	op->tests = op->tests == NULL ? palloc(sizeof(EsTest)) :
		repalloc(op->tests, (op->ntests + 1) * sizeof(EsTest));
	op->tests[op->ntests++] = *test;
}

/* Tests of one thing: {"$gte": 5, "$lt": 10}, or a value that it equals */
static void
compile_tests(EsOp *op, EsPath *path, EsNode *node, const EsPlace *place)
{
	EsTest		test = {0};
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	test.path = *path;
	if (!es_has_operators(node))
	{
		test.type = ES_TEST_EQ;
		es_compile_value(&test.value, node, place);
		add_test(op, &test);
		return;
	}

	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(place, &key);
		int			i;

		for (i = 0; i < lengthof(test_names); i++)
			if (key_is(&key, test_names[i]))
				break;
		if (i == lengthof(test_names))
			rules_error(&here,
						errmsg("unknown condition \"%s\" of $pull in rules", key_text(&key)),
						"The conditions are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin.");
		test.type = (EsTestType) i;
		memset(&test.value, 0, sizeof(EsExpr));
		if (test.type == ES_TEST_IN || test.type == ES_TEST_NIN)
			es_compile_array(&test.value, &value, test_names[i], &here);
		else
			es_compile_value(&test.value, &value, &here);
		add_test(op, &test);
	}
}

/* What $pull takes out of an array: a value, or what meets conditions */
static void
compile_pull(EsOp *op, EsNode *node, const EsPlace *place)
{
	EsPath		itself = {0};
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	if (!es_node_is_object(node) || es_is_value_operator(node))
	{
		/* a reference may turn out to be an object, so this is no test */
		es_compile_value(&op->value, node, place);
		return;
	}
	if (es_has_operators(node))
	{
		compile_tests(op, &itself, node, place);
		return;
	}

	es_cursor_init(&cursor, node->u.packed);
	if (cursor.count == 0)
		rules_error(place,
					errmsg("$pull in rules without a condition"),
					"Write what to take out; {\"$set\": {\"items\": []}} empties an array.");
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(place, &key);
		EsPath		path;

		es_compile_target(&path, &key, &here);
		compile_tests(op, &path, &value, &here);
	}
}

/* What an operator does to one path */
static void
compile_op(EsOp *op, EsNode *node, const EsPlace *place)
{
	switch (op->type)
	{
		case ES_OP_UNSET:
			break;
		case ES_OP_PUSH:
		case ES_OP_ADD_TO_SET:
			compile_push(op, node, place);
			break;
		case ES_OP_PULL:
			compile_pull(op, node, place);
			break;
		case ES_OP_INC:
		case ES_OP_MUL:
			es_compile_number(&op->value, node, es_rules_operators[op->type],
							  place);
			break;
		case ES_OP_MERGE:
			es_compile_object(&op->value, node, "$merge", place);
			break;
		default:
			es_compile_value(&op->value, node, place);
			break;
	}
}

static EsOp *
add_op(EsRule *rule, EsOpType type)
{
	EsOp	   *op;

	rule->ops = rule->ops == NULL ? palloc(sizeof(EsOp)) :
		repalloc(rule->ops, (rule->nops + 1) * sizeof(EsOp));
	op = &rule->ops[rule->nops++];
	memset(op, 0, sizeof(EsOp));
	op->type = type;
	return op;
}

/* {"$unset": "path"}, an element of an array of paths, or an object's key */
static void
compile_unset_path(EsRule *rule, EsNode *node, const EsPlace *place)
{
	EsKey		key;

	if (node->type != ES_STRING)
		rules_error(place,
					errmsg("$unset in rules needs paths"),
					"Write {\"$unset\": {\"note\": \"\"}}, {\"$unset\": \"note\"} or {\"$unset\": [\"note\", \"address.zip\"]}.");
	key.data = node->u.string;
	key.length = node->length;
	key.hash = 0;
	es_compile_target(&add_op(rule, ES_OP_UNSET)->path, &key, place);
}

/* {"$set": {path: value, ...}} and so on */
static void
compile_operator(EsRule *rule, EsOpType type, EsNode *node,
				 const EsPlace *place)
{
	const char *operator = es_rules_operators[type];
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	/* what $merge merges into the root: a reference, $literal or $ifNull */
	if (type == ES_OP_MERGE &&
		(node->type == ES_STRING || es_is_value_operator(node)))
	{
		compile_op(add_op(rule, type), node, place);
		return;
	}
	if (type == ES_OP_UNSET && node->type == ES_STRING)
	{
		compile_unset_path(rule, node, place);
		return;
	}
	if (type == ES_OP_UNSET && es_node_is_array(node))
	{
		es_cursor_init(&cursor, node->u.packed);
		while (es_cursor_next(&cursor, &key, &value))
		{
			EsPlace		here = element_place(place, cursor.next - 1);

			compile_unset_path(rule, &value, &here);
		}
		return;
	}
	if (!es_node_is_object(node))
		rules_error(place,
					errmsg("%s in rules needs an object of paths and values", operator),
					"Write {\"%s\": {\"path\": value, ...}}.", operator);

	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(place, &key);
		EsOp	   *op = add_op(rule, type);

		here.depth = 0;
		es_compile_target(&op->path, &key, &here);
		compile_op(op, &value, &here);
	}
}

static int
compare_paths(const void *a, const void *b)
{
	const EsPath *x = &(*(EsOp *const *) a)->path;
	const EsPath *y = &(*(EsOp *const *) b)->path;

	for (int i = 0; i < x->nsteps && i < y->nsteps; i++)
	{
		const EsKey *p = &x->steps[i].key;
		const EsKey *q = &y->steps[i].key;
		int			order = memcmp(p->data, q->data, Min(p->length, q->length));

		if (order == 0)
			order = (p->length > q->length) - (p->length < q->length);
		if (order != 0)
			return order;
	}
	return x->nsteps - y->nsteps;
}

static bool
is_prefix(const EsPath *a, const EsPath *b)
{
	if (a->nsteps > b->nsteps)
		return false;
	for (int i = 0; i < a->nsteps; i++)
		if (!es_key_equal(&a->steps[i].key, &b->steps[i].key))
			return false;
	return true;
}

/*
 * Operators of one object have no order, since the members of a jsonb object
 * have none.  So no two of them may concern the same place, or one a part of
 * the other's.  In the order of paths, a path stands directly before one that
 * it is a prefix of.
 */
static void
check_conflicts(EsOp *ops, int nops, const EsPlace *place)
{
	EsOp	  **sorted = palloc(Max(nops, 1) * sizeof(EsOp *));

	for (int i = 0; i < nops; i++)
		sorted[i] = &ops[i];
	qsort(sorted, nops, sizeof(EsOp *), compare_paths);
	for (int i = 1; i < nops; i++)
	{
		EsOp	   *a = sorted[i - 1];
		EsOp	   *b = sorted[i];

		if (!is_prefix(&a->path, &b->path))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 a->path.nsteps == 0 ?
				 errmsg("%s of the whole state conflicts with %s of \"%s\" in rules",
						es_rules_operators[a->type],
						es_rules_operators[b->type], b->path.text) :
				 errmsg("%s of \"%s\" conflicts with %s of \"%s\" in rules",
						es_rules_operators[a->type], a->path.text,
						es_rules_operators[b->type], b->path.text),
				 errdetail("At %s.", es_place_text(place)),
				 errhint("The operators of one object have no order. Write an array of objects, which are applied in order: [{\"%s\": ...}, {\"%s\": ...}].",
						 es_rules_operators[a->type],
						 es_rules_operators[b->type])));
	}
	pfree(sorted);
}

/* An object of operators */
static void
compile_operators(EsRule *rule, EsNode *node, const EsPlace *place)
{
	int			first = rule->nops;
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	if (!es_node_is_object(node))
		rules_error(place,
					errmsg("rules for an event type must be an object of operators, or an array of such objects"),
					"Write {\"OrderPaid\": {\"$set\": {\"status\": \"paid\"}}}.");
	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(place, &key);
		int			i;

		for (i = 0; i < lengthof(es_rules_operators); i++)
			if (key_is(&key, es_rules_operators[i]))
				break;
		if (i == lengthof(es_rules_operators))
			rules_error(&here,
						errmsg("unknown operator \"%s\" in rules", key_text(&key)),
						"The operators are $set, $unset, $inc, $mul, $min, $max, $push, $addToSet, $pull, $merge.");
		compile_operator(rule, (EsOpType) i, &value, &here);
	}
	check_conflicts(rule->ops + first, rule->nops - first, place);
}

static uint32
hash_type(const char *data, uint32 length)
{
	return hash_bytes((const unsigned char *) data, length);
}

static void
add_rule(EsRules *rules, EsRule *rule)
{
	uint32		slot = hash_type(rule->type.data, rule->type.length);

	rules->rules[rules->nrules++] = *rule;
	for (slot &= rules->mask; rules->slots[slot] != 0;)
		slot = (slot + 1) & rules->mask;
	rules->slots[slot] = rules->nrules;
}

/* See rules.h. */
EsRules *
es_rules_compile(Jsonb *rules, MemoryContext mcxt)
{
	MemoryContext caller = MemoryContextSwitchTo(mcxt);
	EsRules    *result = palloc0(sizeof(EsRules));
	Jsonb	   *copy = palloc(VARSIZE(rules));
	EsPlace		top = {NULL, NULL, 0, 0};
	uint32		nslots = 4;
	EsNode		root;
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	/* the program points into this */
	memcpy(copy, rules, VARSIZE(rules));
	es_node_from_jsonb(&root, copy);
	if (!es_node_is_object(&root))
		rules_error(&top,
					errmsg("rules must be an object"),
					"Write an object from event types to operators, as in {\"OrderPaid\": {\"$set\": {\"status\": \"paid\"}}}.");

	es_cursor_init(&cursor, root.u.packed);
	while (nslots < cursor.count * 2)
		nslots *= 2;
	result->mask = nslots - 1;
	result->slots = palloc0(nslots * sizeof(uint32));
	result->rules = palloc0(Max(cursor.count, 1) * sizeof(EsRule));

	while (es_cursor_next(&cursor, &key, &value))
	{
		EsPlace		here = member_place(&top, &key);
		EsRule		rule = {0};

		rule.type = key;
		if (es_node_is_array(&value))
		{
			EsCursor	list;
			EsNode		element;
			EsKey		none;

			es_cursor_init(&list, value.u.packed);
			while (es_cursor_next(&list, &none, &element))
			{
				EsPlace		there = element_place(&here, list.next - 1);

				compile_operators(&rule, &element, &there);
			}
		}
		else
			compile_operators(&rule, &value, &here);
		add_rule(result, &rule);
	}
	MemoryContextSwitchTo(caller);
	return result;
}

/* Finds the rule for this type, or NULL. */
static EsRule *
find_rule(EsRules *rules, const EsKey *type)
{
	uint32		slot;

	if (rules->nrules <= LINEAR_SEARCH_MAX)
	{
		for (int i = 0; i < rules->nrules; i++)
			if (es_key_equal(&rules->rules[i].type, type))
				return &rules->rules[i];
		return NULL;
	}

	slot = hash_type(type->data, type->length) & rules->mask;
	while (rules->slots[slot] != 0)
	{
		EsRule	   *rule = &rules->rules[rules->slots[slot] - 1];

		if (es_key_equal(&rule->type, type))
			return rule;
		slot = (slot + 1) & rules->mask;
	}
	return NULL;
}

/* Returns the rule for events of this type, a text, or NULL. */
EsRule *
es_rules_find(EsRules *rules, Datum type)
{
	text	   *detoasted = DatumGetTextPP(type);
	EsKey		key = {VARDATA_ANY(detoasted), VARSIZE_ANY_EXHDR(detoasted), 0};
	EsRule	   *result = find_rule(rules, &key);

	if ((Pointer) detoasted != DatumGetPointer(type))
		pfree(detoasted);
	return result;
}
