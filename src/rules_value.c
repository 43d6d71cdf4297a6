/*-------------------------------------------------------------------------
 *
 * rules_value.c
 *		Compiling the paths and values in rules.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "rules_compile.h"
#include "utils/builtins.h"
#include "utils/json.h"

static const struct
{
	const char *name;
	EsEventColumn column;
}			fields[] =

{
	{"position", ES_EVENT_POSITION},
	{"stream", ES_EVENT_STREAM},
	{"version", ES_EVENT_VERSION},
	{"type", ES_EVENT_TYPE},
	{"event_id", ES_EVENT_EVENT_ID},
	{"tags", ES_EVENT_TAGS},
	{"recorded_at", ES_EVENT_RECORDED_AT},
};


/*
 * Messages.
 */

static void
append_place(StringInfo buf, const EsPlace *place)
{
	if (place->up == NULL)
	{
		appendStringInfoString(buf, "rules");
		return;
	}
	append_place(buf, place->up);
	if (place->key == NULL)
		appendStringInfo(buf, "[%d]", place->index);
	else
	{
		appendStringInfoChar(buf, '.');
		escape_json(buf, pnstrdup(place->key->data, place->key->length));
	}
}

/* The place as a path, for messages. */
char *
es_place_text(const EsPlace *place)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_place(&buf, place);
	return buf.data;
}

static bool
is_dollar(const EsKey *key)
{
	return key->length > 0 && key->data[0] == '$';
}

/*
 * If this is an object that stands for a value, {"$literal": ...} or
 * {"$ifNull": ...}, returns true and its one member.
 */
static bool
get_value_operator(EsNode *node, EsKey *key, EsNode *value)
{
	EsCursor	cursor;

	if (!es_node_is_object(node))
		return false;
	es_cursor_init(&cursor, node->u.packed);
	return cursor.count == 1 && es_cursor_next(&cursor, key, value) &&
		(key_is(key, "$literal") || key_is(key, "$ifNull"));
}

/* Is this an object that stands for a value? */
bool
es_is_value_operator(EsNode *node)
{
	EsKey		key;
	EsNode		value;

	return get_value_operator(node, &key, &value);
}

/*
 * Is this an object with members that begin with $, and not one that stands
 * for a value?
 */
bool
es_has_operators(EsNode *node)
{
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	if (!es_node_is_object(node) || get_value_operator(node, &key, &value))
		return false;
	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
		if (is_dollar(&key))
			return true;
	return false;
}


/*
 * Paths.
 */

/* The number that addresses an element of an array, or -1: no leading zeros. */
static int
step_index(const char *data, int length)
{
	int			result = 0;

	if (length == 0 || length > 9 || (length > 1 && data[0] == '0'))
		return -1;
	for (int i = 0; i < length; i++)
	{
		if (data[i] < '0' || data[i] > '9')
			return -1;
		result = result * 10 + (data[i] - '0');
	}
	return result;
}

/* Does it look like items[0] or items[*], which is how jsonpath has it? */
static bool
has_subscript(const char *data, int length)
{
	const char *open = memchr(data, '[', length);
	const char *end = data + length - 1;

	if (open == NULL || *end != ']' || end - open < 2)
		return false;
	for (const char *c = open + 1; c < end; c++)
		if ((*c < '0' || *c > '9') && *c != '*')
			return false;
	return true;
}

/* Splits a path at its dots; an empty one has no steps. */
static void
compile_path(EsPath *path, const char *data, int length, const char *text,
			 const EsPlace *place)
{
	int			capacity = 1;
	const char *end = data + length;

	path->nsteps = 0;
	path->steps = NULL;
	path->text = text;

	if (length == 0)
		return;

	for (const char *c = data; c < end; c++)
		if (*c == '.')
			capacity++;
	if (capacity > ES_RULES_MAX_DEPTH)
		rules_error(place,
					errmsg("path in rules is too deep"),
					"A path can have up to %d components.",
					ES_RULES_MAX_DEPTH);
	path->steps = palloc0(capacity * sizeof(EsStep));

	for (;;)
	{
		EsStep	   *step = &path->steps[path->nsteps++];
		const char *dot = memchr(data, '.', end - data);
		int			size = (dot ? dot : end) - data;

		if (size == 0)
			rules_error(place,
						errmsg("path \"%s\" in rules has an empty component", text),
						"Separate the names in a path by single dots, as in \"address.city\".");
		if (data[0] == '$')
			rules_error(place,
						errmsg("path \"%s\" in rules has a component that begins with \"$\"", text),
						"The names in a path are fixed: address a member by its name, and an array's element by its number.");
		if (has_subscript(data, size))
			rules_error(place,
						errmsg("path \"%s\" in rules has a subscript", text),
						"Address an array's element by a component of its own, as in \"items.0.sku\".");
		step->key.data = data;
		step->key.length = size;
		step->index = step_index(data, size);
		if (dot == NULL)
			break;
		data = dot + 1;
	}
}

/* The path that a key names: the target of an operator. */
void
es_compile_target(EsPath *path, const EsKey *key, const EsPlace *place)
{
	if (key->length == 0)
		rules_error(place,
					errmsg("path in rules is empty"),
					"Name what is to be changed, as in {\"$set\": {\"status\": \"paid\"}}.");
	compile_path(path, key->data, key->length, key_text(key), place);
}


/*
 * Values.
 */

static void
set_literal(EsExpr *expr, EsNode *node)
{
	expr->type = ES_EXPR_LITERAL;
	expr->literal = *node;
}

/* A string that begins with $ */
static void
compile_reference(EsExpr *expr, EsNode *node, const EsPlace *place)
{
	char	   *text = pnstrdup(node->u.string, node->length);
	int			length = node->length;

	if (length == 1)
	{
		expr->type = ES_EXPR_DATA;
		compile_path(&expr->path, text, 0, text, place);
		return;
	}
	if (text[1] == '.')
	{
		expr->type = ES_EXPR_DATA;
		compile_path(&expr->path, text +2, length - 2, text, place);
		if (expr->path.nsteps == 0)
			rules_error(place,
						errmsg("path \"%s\" in rules has an empty component", text),
						"Write \"$\" for the whole data of the event.");
		return;
	}
	if (text[1] != '$')
		rules_error(place,
					errmsg("unknown reference \"%s\" in rules", text),
					"Write \"$.%s\" for what the event's data has by that name, or {\"$literal\": \"%s\"} for the string itself.",
					text +1, text);

	if (strcmp(text, "$$metadata") == 0 ||
		strncmp(text, "$$metadata.", 11) == 0)
	{
		int			start = Min(length, 11);

		expr->type = ES_EXPR_METADATA;
		compile_path(&expr->path, text +start, length - start, text, place);
		if (length == 11)
			rules_error(place,
						errmsg("path \"%s\" in rules has an empty component", text),
						"Write \"$$metadata\" for the whole metadata of the event.");
		return;
	}
	for (int i = 0; i < lengthof(fields); i++)
	{
		if (strcmp(text +2, fields[i].name) == 0)
		{
			expr->type = ES_EXPR_FIELD;
			expr->column = fields[i].column;
			expr->path.text = text;

			return;
		}
	}
	rules_error(place,
				errmsg("unknown reference \"%s\" in rules", text),
				"An event's fields are $$position, $$stream, $$version, $$type, $$metadata, $$metadata.path, $$event_id, $$tags, $$recorded_at; its data is $ or $.path. Write {\"$literal\": \"%s\"} for the string itself.",
				text);
}

static void
check_depth(const EsPlace *place)
{
	if (place->depth > ES_RULES_MAX_DEPTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value in rules is nested too deeply"),
				 errhint("A value can be nested up to %d levels deep; what {\"$literal\": ...} holds can be deeper.",
						 ES_RULES_MAX_DEPTH)));
}

/* An array whose elements are values */
static void
compile_args(EsExpr *expr, EsExprType type, EsNode *node, const EsPlace *place)
{
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	es_cursor_init(&cursor, node->u.packed);
	expr->type = type;
	expr->nargs = cursor.count;
	expr->args = palloc0(Max(cursor.count, 1) * sizeof(EsExpr));
	while (es_cursor_next(&cursor, &key, &value))
	{
		int			i = cursor.next - 1;
		EsPlace		here = element_place(place, i);

		es_compile_value(&expr->args[i], &value, &here);
	}
}

/* An object whose members are values */
static void
compile_members(EsExpr *expr, EsNode *node, const EsPlace *place)
{
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	es_cursor_init(&cursor, node->u.packed);
	expr->type = ES_EXPR_OBJECT;
	expr->nargs = cursor.count;
	expr->args = palloc0(Max(cursor.count, 1) * sizeof(EsExpr));
	expr->keys = palloc0(Max(cursor.count, 1) * sizeof(EsKey));
	while (es_cursor_next(&cursor, &key, &value))
	{
		int			i = cursor.next - 1;
		EsPlace		here = member_place(place, &key);

		if (is_dollar(&key))
			rules_error(&here,
						errmsg("unknown operator \"%s\" in a value in rules", key_text(&key)),
						"In a value, only {\"$literal\": value} and {\"$ifNull\": [value, ...]} are known, each as an object of its own.");
		expr->keys[i] = key;
		es_compile_value(&expr->args[i], &value, &here);
	}
}

/* {"$ifNull": [...]} */
static void
compile_ifnull(EsExpr *expr, EsNode *node, const EsPlace *place)
{
	if (es_node_is_array(node))
		compile_args(expr, ES_EXPR_IFNULL, node, place);
	if (!es_node_is_array(node) || expr->nargs < 2)
		rules_error(place,
					errmsg("$ifNull in rules needs an array of two or more values"),
					"Write {\"$ifNull\": [\"$.note\", \"none\"]}.");
}

/*
 * Is the value of this array or object what is written there?  It is not if
 * there is a reference in it, or {"$literal": ...}.
 */
static bool
is_literal(EsExpr *expr, EsNode *node)
{
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	es_cursor_init(&cursor, node->u.packed);
	while (es_cursor_next(&cursor, &key, &value))
	{
		EsExpr	   *arg = &expr->args[cursor.next - 1];

		if (arg->type != ES_EXPR_LITERAL || arg->literal.type != value.type ||
			(value.type == ES_PACKED &&
			 arg->literal.u.packed != value.u.packed))
			return false;
	}
	return true;
}

/* Compiles what stands for a value. */
void
es_compile_value(EsExpr *expr, EsNode *node, const EsPlace *place)
{
	EsKey		key;
	EsNode		value;

	check_stack_depth();
	check_depth(place);

	if (node->type == ES_STRING && node->length > 0 &&
		node->u.string[0] == '$')
	{
		compile_reference(expr, node, place);
		return;
	}
	if (node->type != ES_PACKED)
	{
		set_literal(expr, node);
		return;
	}
	if (get_value_operator(node, &key, &value))
	{
		EsPlace		here = member_place(place, &key);

		if (key_is(&key, "$literal"))
			set_literal(expr, &value);
		else
			compile_ifnull(expr, &value, &here);
		return;
	}

	if (es_node_is_array(node))
		compile_args(expr, ES_EXPR_ARRAY, node, place);
	else
		compile_members(expr, node, place);

	if (is_literal(expr, node))
		set_literal(expr, node);
}

/* Compiles what must be a number. */
void
es_compile_number(EsExpr *expr, EsNode *node, const char *what,
				  const EsPlace *place)
{
	es_compile_value(expr, node, place);
	if (expr->type == ES_EXPR_OBJECT || expr->type == ES_EXPR_ARRAY ||
		(expr->type == ES_EXPR_LITERAL && !es_node_is_number(&expr->literal)))
		rules_error(place,
					errmsg("%s in rules needs a number", what),
					"Write a number, or a reference to one, as in {\"%s\": {\"total\": \"$.amount\"}}.",
					what);
}

/* Compiles what must be an array of values. */
void
es_compile_array(EsExpr *expr, EsNode *node, const char *what,
				 const EsPlace *place)
{
	es_compile_value(expr, node, place);
	if (expr->type == ES_EXPR_OBJECT ||
		(expr->type == ES_EXPR_LITERAL && !es_node_is_array(&expr->literal)))
		rules_error(place,
					errmsg("%s in rules needs an array", what),
					"Write an array, or a reference to one, as in {\"%s\": \"$.items\"}.",
					what);
}

/* Compiles what must be an object. */
void
es_compile_object(EsExpr *expr, EsNode *node, const char *what,
				  const EsPlace *place)
{
	es_compile_value(expr, node, place);
	if (expr->type == ES_EXPR_ARRAY ||
		(expr->type == ES_EXPR_LITERAL && !es_node_is_object(&expr->literal)))
		rules_error(place,
					errmsg("%s in rules needs an object", what),
					"Write an object, or a reference to one, as in {\"%s\": {\"address\": \"$.address\"}}.",
					what);
}
