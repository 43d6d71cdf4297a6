/*-------------------------------------------------------------------------
 *
 * state_jsonb.c
 *		Between jsonb and the tree of a state.
 *
 * Reading goes over the entries of a container in place: no iterator is
 * allocated and nothing is copied, so what is read lives as long as the
 * jsonb.  Writing makes the bytes that JsonbValueToJsonb() would make, but
 * copies containers that did not change as they are; that works because all
 * offsets within a container are relative to it, and a container always
 * begins at a multiple of four.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "state.h"
#include "utils/memutils.h"

/* Packed objects with more members than this are searched by halves. */
#define PACKED_LINEAR_MAX	24

/* The jsonb under construction. */
typedef struct Writer
{
	char	   *data;
	Size		length;
	Size		capacity;
} Writer;

/* A member's place in the order of jsonb: by length, then by bytes. */
typedef struct SortPair
{
	uint32		length;
	uint32		number;
	uint64		prefix;			/* the first eight bytes, big-endian */
} SortPair;

static uint32 write_node(Writer *writer, EsNode *node);
static int	compare_sort_pairs(const SortPair *a, const SortPair *b,
							   const EsPair *pairs);

#define ST_SORT sort_pairs
#define ST_ELEMENT_TYPE SortPair
#define ST_COMPARE(a, b, pairs) compare_sort_pairs(a, b, pairs)
#define ST_COMPARE_ARG_TYPE const EsPair
#define ST_SCOPE static
#define ST_DECLARE
#define ST_DEFINE
#include "lib/sort_template.h"


/*
 * Reading.
 */

/*
 * Fills node from an entry whose bytes are at base + offset.  Its length
 * includes the padding in front of what needs alignment.
 */
static inline void
read_entry(EsNode *node, JEntry entry, const char *base, uint32 offset,
		   uint32 length)
{
	switch (entry & JENTRY_TYPEMASK)
	{
		case JENTRY_ISSTRING:
			node->type = ES_STRING;
			node->length = length;
			node->u.string = base + offset;
			break;
		case JENTRY_ISNUMERIC:
			node->type = ES_NUMERIC;
			node->length = 0;
			node->u.numeric = (Numeric) (base + INTALIGN(offset));
			Assert(!VARATT_IS_EXTENDED(node->u.numeric));
			break;
		case JENTRY_ISBOOL_TRUE:
		case JENTRY_ISBOOL_FALSE:
			node->type = ES_BOOL;
			node->length = 0;
			node->u.boolean = JBE_ISBOOL_TRUE(entry);
			break;
		case JENTRY_ISCONTAINER:
			node->type = ES_PACKED;
			node->length = length - (INTALIGN(offset) - offset);
			node->u.packed = (JsonbContainer *) (base + INTALIGN(offset));
			break;
		default:
			node->type = ES_NULL;
			node->length = 0;
			node->u.integer = 0;
			break;
	}
}

/* Starts a walk; the first es_cursor_next() yields the first child. */
void
es_cursor_init(EsCursor *cursor, const JsonbContainer *container)
{
	int			count = JsonContainerSize(container);

	cursor->container = container;
	cursor->count = count;
	cursor->next = 0;
	cursor->is_object = JsonContainerIsObject(container);
	cursor->key_offset = 0;
	cursor->value_offset = 0;
	cursor->base = (const char *)
		&container->children[cursor->is_object ? count * 2 : count];

	/* the values' bytes follow those of all keys */
	if (cursor->is_object && count > 0)
		cursor->value_offset = getJsonbOffset(container, count);
}

/* Yields the next child, an object's in the order of jsonb; false at the end. */
bool
es_cursor_next(EsCursor *cursor, EsKey *key, EsNode *value)
{
	const JEntry *children = cursor->container->children;
	int			i = cursor->next;
	uint32		start;

	if (i >= cursor->count)
		return false;

	if (cursor->is_object)
	{
		start = cursor->key_offset;
		JBE_ADVANCE_OFFSET(cursor->key_offset, children[i]);
		key->data = cursor->base + start;
		key->length = cursor->key_offset - start;
		key->hash = 0;
		children += cursor->count;
	}

	start = cursor->value_offset;
	JBE_ADVANCE_OFFSET(cursor->value_offset, children[i]);
	read_entry(value, children[i], cursor->base, start,
			   cursor->value_offset - start);
	cursor->next++;
	return true;
}

/* Where the bytes of a child begin, and how many there are. */
static inline uint32
child_offset(const JsonbContainer *container, int child, uint32 *length)
{
	JEntry		entry = container->children[child];
	uint32		offset = 0;

	/* add up lengths back to where an offset is stored */
	for (int i = child - 1; i >= 0; i--)
	{
		offset += JBE_OFFLENFLD(container->children[i]);
		if (JBE_HAS_OFF(container->children[i]))
			break;
	}
	*length = JBE_OFFLENFLD(entry) - (JBE_HAS_OFF(entry) ? offset : 0);
	return offset;
}

/*
 * Finds a key in a packed object; -1 if it isn't there.  Keys are in order: by
 * length, then by bytes.
 */
static int
find_packed_key(const JsonbContainer *container, int count, const EsKey *key)
{
	const char *base = (const char *) &container->children[count * 2];
	int			low = 0;
	int			high = count;

	/* most objects are small, and going through them is faster */
	if (count <= PACKED_LINEAR_MAX)
	{
		uint32		start = 0;
		uint32		end = 0;

		for (int i = 0; i < count; i++, start = end)
		{
			JBE_ADVANCE_OFFSET(end, container->children[i]);
			if (end - start < key->length)
				continue;
			if (end - start > key->length)
				break;
			if (es_bytes_equal(base + start, key->data, key->length))
				return i;
		}
		return -1;
	}

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		uint32		length;
		uint32		offset = child_offset(container, middle, &length);
		int			order;

		if (length != key->length)
			order = length < key->length ? -1 : 1;
		else
			order = memcmp(base + offset, key->data, length);
		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

/* Finds a member of a packed object. */
bool
es_packed_member(const JsonbContainer *container, EsKey *key, EsNode *value)
{
	int			count = JsonContainerSize(container);
	int			i = find_packed_key(container, count, key);
	uint32		offset;
	uint32		length;

	if (i < 0)
		return false;
	offset = child_offset(container, i + count, &length);
	read_entry(value, container->children[i + count],
			   (const char *) &container->children[count * 2],
			   offset, length);
	return true;
}

/* Finds an element of a packed array. */
bool
es_packed_element(const JsonbContainer *container, int i, EsNode *value)
{
	int			count = JsonContainerSize(container);
	uint32		offset;
	uint32		length;

	if (i < 0 || i >= count)
		return false;
	offset = child_offset(container, i, &length);
	read_entry(value, container->children[i],
			   (const char *) &container->children[count], offset, length);
	return true;
}

/* Makes node the value of a jsonb, without copying it. */
void
es_node_from_jsonb(EsNode *node, Jsonb *jsonb)
{
	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		es_packed_element(&jsonb->root, 0, node);
		return;
	}
	node->type = ES_PACKED;
	node->length = VARSIZE(jsonb) - VARHDRSZ;
	node->u.packed = &jsonb->root;
}


/*
 * Writing.
 */

static void
enlarge(Writer *writer, Size size)
{
	Size		capacity = Max(writer->capacity * 2, writer->length + size);

	writer->data = repalloc_huge(writer->data, capacity);
	writer->capacity = capacity;
}

/* Makes room for size bytes at the end and returns their offset. */
static inline Size
reserve(Writer *writer, Size size)
{
	Size		offset = writer->length;

	if (unlikely(writer->capacity - offset < size))
		enlarge(writer, size);
	writer->length += size;
	return offset;
}

static inline void
append(Writer *writer, const void *data, Size size)
{
	Size		offset = reserve(writer, size);

	memcpy(writer->data + offset, data, size);
}

/* Zero bytes up to the next multiple of four; returns how many. */
static inline uint32
align(Writer *writer)
{
	uint32		padding = INTALIGN(writer->length) - writer->length;

	if (padding > 0)
	{
		Size		offset = reserve(writer, padding);

		memset(writer->data + offset, 0, padding);
	}
	return padding;
}

static inline void
check_size(Size size, const char *what)
{
	if (unlikely(size > JENTRY_OFFLENMASK))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb %s exceeds the maximum of %u bytes",
						what, JENTRY_OFFLENMASK)));
}

static inline void
check_count(int count, Size limit, const char *what)
{
	if (unlikely(count > limit))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("number of jsonb %s exceeds the maximum allowed (%zu)",
						what, limit)));
}

/*
 * Puts a child's entry into its container's table.  Most hold the length,
 * every JB_OFFSET_STRIDE'th the offset of the end, total.
 */
static inline void
set_entry(Writer *writer, Size table, int child, uint32 entry, Size total)
{
	if (child % JB_OFFSET_STRIDE == 0)
		entry = (entry & JENTRY_TYPEMASK) | total | JENTRY_HAS_OFF;
	memcpy(writer->data + table + child * sizeof(JEntry), &entry,
		   sizeof(JEntry));
}

static int
compare_sort_pairs(const SortPair *a, const SortPair *b, const EsPair *pairs)
{
	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	if (a->length <= sizeof(uint64))
		return 0;
	return memcmp(pairs[a->number].key.data, pairs[b->number].key.data,
				  a->length);
}

static void
set_sort_pair(SortPair *sort, const EsKey *key, uint32 number)
{
	unsigned char bytes[sizeof(uint64)] = {0};

	memcpy(bytes, key->data, Min(key->length, sizeof(bytes)));
	sort->length = key->length;
	sort->number = number;
	sort->prefix = 0;
	for (int i = 0; i < sizeof(bytes); i++)
		sort->prefix = (sort->prefix << 8) | bytes[i];
}

/* Returns the pairs in the order of jsonb, palloc'd. */
static SortPair *
order_pairs(const EsObject *object)
{
	int			count = object->head.count;
	SortPair   *order;
	bool		ordered = true;

	order = palloc_extended(Max(count, 1) * sizeof(SortPair), MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
	{
		set_sort_pair(&order[i], &object->pairs[i].key, i);
		if (i > 0 && ordered &&
			compare_sort_pairs(&order[i - 1], &order[i], object->pairs) > 0)
			ordered = false;
	}
	if (!ordered)
		sort_pairs(order, count, object->pairs);
	return order;
}

static uint32
write_array(Writer *writer, EsArray *array)
{
	int			count = array->head.count;
	Size		start = writer->length;
	Size		total = 0;
	Size		table;
	uint32		header;

	check_count(count, Min(MaxAllocSize / sizeof(JsonbValue), JB_CMASK),
				"array elements");
	align(writer);
	header = count | JB_FARRAY;
	append(writer, &header, sizeof(header));
	table = reserve(writer, count * sizeof(JEntry));

	for (int i = 0; i < count; i++)
	{
		uint32		entry = write_node(writer, &array->elements[i]);

		total += JBE_OFFLENFLD(entry);
		check_size(total, "array elements");
		set_entry(writer, table, i, entry, total);
	}

	total = writer->length - start;
	check_size(total, "array elements");
	return JENTRY_ISCONTAINER | total;
}

static uint32
write_object(Writer *writer, EsObject *object)
{
	int			count = object->head.count;
	Size		start = writer->length;
	Size		total = 0;
	Size		table;
	uint32		header;
	SortPair   *order;

	check_count(count, Min(MaxAllocSize / sizeof(JsonbPair), JB_CMASK),
				"object pairs");
	align(writer);
	header = count | JB_FOBJECT;
	append(writer, &header, sizeof(header));
	table = reserve(writer, count * 2 * sizeof(JEntry));

	order = order_pairs(object);
	for (int i = 0; i < count; i++)
	{
		EsKey	   *key = &object->pairs[order[i].number].key;

		append(writer, key->data, key->length);
		total += key->length;
		check_size(total, "object elements");
		set_entry(writer, table, i, JENTRY_ISSTRING | key->length, total);
	}
	for (int i = 0; i < count; i++)
	{
		uint32		entry;

		entry = write_node(writer, &object->pairs[order[i].number].value);
		total += JBE_OFFLENFLD(entry);
		check_size(total, "object elements");
		set_entry(writer, table, i + count, entry, total);
	}
	pfree(order);

	total = writer->length - start;
	check_size(total, "object elements");
	return JENTRY_ISCONTAINER | total;
}

/* Appends a value and returns its entry. */
static uint32
write_node(Writer *writer, EsNode *node)
{
	uint32		padding;
	Size		size;

	switch (node->type)
	{
		case ES_NULL:
			return JENTRY_ISNULL;
		case ES_BOOL:
			return node->u.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case ES_INTEGER:
			{
				Numeric		numeric = int64_to_numeric(node->u.integer);

				padding = align(writer);
				size = VARSIZE(numeric);
				append(writer, numeric, size);
				pfree(numeric);
				return JENTRY_ISNUMERIC | (padding + size);
			}
		case ES_NUMERIC:
			padding = align(writer);
			size = VARSIZE(node->u.numeric);
			append(writer, node->u.numeric, size);
			return JENTRY_ISNUMERIC | (padding + size);
		case ES_STRING:
			append(writer, node->u.string, node->length);
			return JENTRY_ISSTRING | node->length;
		case ES_PACKED:
			padding = align(writer);
			append(writer, node->u.packed, node->length);
			check_size((Size) padding + node->length, "elements");
			return JENTRY_ISCONTAINER | (padding + node->length);
		case ES_ARRAY:
		case ES_OBJECT:
			check_stack_depth();
			CHECK_FOR_INTERRUPTS();
			if (node->u.container->packed != NULL)
			{
				padding = align(writer);
				size = node->u.container->packed_length;
				append(writer, node->u.container->packed, size);
				check_size(padding + size, "elements");
				return JENTRY_ISCONTAINER | (padding + size);
			}
			if (node->type == ES_ARRAY)
				return write_array(writer, node->u.array);
			return write_object(writer, node->u.object);
	}
	elog(ERROR, "unknown node type %d", (int) node->type);
	return 0;
}

/*
 * Returns an object or array as jsonb, allocated in mcxt.  guess is its likely
 * size; working memory comes from the current memory context.  A state that is
 * neither is never written: no operator of rules changes it, nor makes one.
 */
Jsonb *
es_node_write(EsNode *node, MemoryContext mcxt, Size guess)
{
	Writer		writer;

	writer.capacity = guess + guess / 4 + 64;
	writer.data = MemoryContextAllocHuge(mcxt, writer.capacity);
	writer.length = 0;

	Assert(es_node_is_array(node) || es_node_is_object(node));
	reserve(&writer, VARHDRSZ);
	write_node(&writer, node);
	SET_VARSIZE(writer.data, writer.length);
	return (Jsonb *) writer.data;
}
