/*-------------------------------------------------------------------------
 *
 * state_compare.c
 *		Order and equality of JSON values.
 *
 * The order is MongoDB's: null < numbers < strings < objects < arrays <
 * booleans; strings by their bytes; arrays element by element; objects
 * member by member, each by the value's type, then the name, then the value.
 * The one difference is that the members of an object are taken in jsonb's
 * order, because jsonb does not keep the order in which they were written.
 *
 * Values are equal where the order says so: 1 equals 1.0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "state.h"
#include "utils/builtins.h"

/* Walks the children of any container in jsonb's order. */
typedef struct Children
{
	EsNode	   *node;
	int			next;
	EsCursor	cursor;			/* of a packed one */
	int		   *order;			/* of an object: numbers of its pairs, or NULL */
} Children;

static int
compare_keys(const EsKey *a, const EsKey *b)
{
	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	return memcmp(a->data, b->data, a->length);
}

static int
compare_pair_numbers(const void *a, const void *b, void *arg)
{
	const EsPair *pairs = (const EsPair *) arg;

	return compare_keys(&pairs[*(const int *) a].key,
						&pairs[*(const int *) b].key);
}

static void
children_start(Children *children, EsNode *node)
{
	children->node = node;
	children->next = 0;
	children->order = NULL;
	if (node->type == ES_PACKED)
		es_cursor_init(&children->cursor, node->u.packed);
	else if (node->u.container->packed != NULL)
		es_cursor_init(&children->cursor, node->u.container->packed);
	else if (node->type == ES_OBJECT)
	{
		int			count = node->u.object->head.count;

		children->order = palloc(Max(count, 1) * sizeof(int));
		for (int i = 0; i < count; i++)
			children->order[i] = i;
		qsort_arg(children->order, count, sizeof(int), compare_pair_numbers,
				  node->u.object->pairs);
	}
}

/* Yields the next child; false at the end. */
static bool
children_next(Children *children, EsKey *key, EsNode *value)
{
	EsNode	   *node = children->node;

	if (node->type == ES_PACKED || node->u.container->packed != NULL)
		return es_cursor_next(&children->cursor, key, value);
	if (children->next >= node->u.container->count)
		return false;
	if (node->type == ES_ARRAY)
		*value = node->u.array->elements[children->next];
	else
	{
		EsPair	   *pair = &node->u.object->pairs[children->order[children->next]];

		*key = pair->key;
		*value = pair->value;
	}
	children->next++;
	return true;
}

static void
children_end(Children *children)
{
	if (children->order != NULL)
		pfree(children->order);
}

/* The place of a value's type in the order of types. */
int
es_node_rank(const EsNode *node)
{
	switch (node->type)
	{
		case ES_NULL:
			return 0;
		case ES_INTEGER:
		case ES_NUMERIC:
			return 1;
		case ES_STRING:
			return 2;
		case ES_OBJECT:
			return 3;
		case ES_ARRAY:
			return 4;
		case ES_BOOL:
			return 5;
		case ES_PACKED:
			return JsonContainerIsObject(node->u.packed) ? 3 : 4;
	}
	return 0;
}

/* How messages call a value. */
const char *
es_node_type_name(const EsNode *node)
{
	static const char *const names[] = {
		"null", "a number", "a string", "an object", "an array", "a boolean"
	};

	return names[es_node_rank(node)];
}

static int
compare_numbers(EsNode *a, EsNode *b)
{
	int64		x,
				y;
	Numeric		p,
				q;
	int			result;

	if (es_number_to_int64(a, &x) && es_number_to_int64(b, &y))
		return x < y ? -1 : x > y ? 1 : 0;

	p = es_number_to_numeric(a);
	q = es_number_to_numeric(b);
	result = DatumGetInt32(DirectFunctionCall2(numeric_cmp,
											   NumericGetDatum(p),
											   NumericGetDatum(q)));
	if (a->type == ES_INTEGER)
		pfree(p);
	if (b->type == ES_INTEGER)
		pfree(q);
	return result;
}

static int
compare_strings(const EsNode *a, const EsNode *b)
{
	int			result = memcmp(a->u.string, b->u.string,
								Min(a->length, b->length));

	if (result != 0 || a->length == b->length)
		return result;
	return a->length < b->length ? -1 : 1;
}

static int
compare_containers(EsNode *a, EsNode *b)
{
	bool		is_object = es_node_is_object(a);
	Children	left,
				right;
	int			result = 0;

	check_stack_depth();
	children_start(&left, a);
	children_start(&right, b);
	while (result == 0)
	{
		EsKey		key_a,
					key_b;
		EsNode		value_a,
					value_b;
		bool		more_a = children_next(&left, &key_a, &value_a);
		bool		more_b = children_next(&right, &key_b, &value_b);

		if (!more_a || !more_b)
		{
			result = (int) more_a - (int) more_b;
			break;
		}
		if (is_object)
		{
			result = es_node_rank(&value_a) - es_node_rank(&value_b);
			if (result == 0)
				result = compare_keys(&key_a, &key_b);
		}
		if (result == 0)
			result = es_node_compare(&value_a, &value_b);
	}
	children_end(&left);
	children_end(&right);
	return result;
}

/* Returns a number below, at or above zero, as a is below, at or above b. */
int
es_node_compare(EsNode *a, EsNode *b)
{
	int			rank = es_node_rank(a);
	int			result = rank - es_node_rank(b);

	if (result != 0)
		return result;
	switch (rank)
	{
		case 0:
			return 0;
		case 1:
			return compare_numbers(a, b);
		case 2:
			return compare_strings(a, b);
		case 5:
			return (int) a->u.boolean - (int) b->u.boolean;
		default:
			return compare_containers(a, b);
	}
}

static bool
packed_bytes(const EsNode *node, const void **data, uint32 *length)
{
	if (node->type == ES_PACKED)
	{
		*data = node->u.packed;
		*length = node->length;
		return true;
	}
	if ((node->type == ES_ARRAY || node->type == ES_OBJECT) &&
		node->u.container->packed != NULL)
	{
		*data = node->u.container->packed;
		*length = node->u.container->packed_length;
		return true;
	}
	return false;
}

bool
es_node_equal(EsNode *a, EsNode *b)
{
	const void *data_a,
			   *data_b;
	uint32		length_a,
				length_b;

	if (packed_bytes(a, &data_a, &length_a) &&
		packed_bytes(b, &data_b, &length_b) &&
		length_a == length_b && memcmp(data_a, data_b, length_a) == 0)
		return true;
	/* no need to know which string comes first */
	if (a->type == ES_STRING && b->type == ES_STRING &&
		a->length != b->length)
		return false;
	return es_node_compare(a, b) == 0;
}

/* The same for equal values, whether packed or open, 1 or 1.0. */
uint32
es_node_hash(EsNode *node)
{
	bool		is_object = es_node_is_object(node);
	Numeric		numeric;
	Children	children;
	EsKey		key;
	EsNode		value;
	uint32		hash;

	switch (es_node_rank(node))
	{
		case 0:
			return 1;
		case 1:
			numeric = es_number_to_numeric(node);
			hash = DatumGetUInt32(DirectFunctionCall1(hash_numeric,
													  NumericGetDatum(numeric)));
			if (node->type == ES_INTEGER)
				pfree(numeric);
			return hash;
		case 2:
			return hash_bytes((const unsigned char *) node->u.string,
							  node->length);
		case 5:
			return node->u.boolean ? 2 : 3;
		default:
			check_stack_depth();
			hash = is_object ? 4 : 5;
			children_start(&children, node);
			while (children_next(&children, &key, &value))
			{
				if (is_object)
					hash = hash_combine(hash,
										hash_bytes((const unsigned char *) key.data,
												   key.length));
				hash = hash_combine(hash, es_node_hash(&value));
			}
			children_end(&children);
			return hash;
	}
}
