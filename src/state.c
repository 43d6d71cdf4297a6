/*-------------------------------------------------------------------------
 *
 * state.c
 *		The state of an aggregate as a tree that can be changed in place.
 *
 * The rules that this file keeps:
 *
 * - An opened array or object belongs to exactly one place in the tree, and
 *	 everything that it points to lives in the state's memory.  Packed
 *	 containers, strings and numbers may also be borrowed, from an event or
 *	 from the rules; es_node_own() copies them before they enter the tree.
 *
 * - Whoever changes a container sets `packed` to NULL in it and in all that
 *	 it is in, and the state's `jsonb` too.
 *
 * - Memory is handed out and never given back, so that a change costs no
 *	 bookkeeping.  `used` is what events brought in, whether or not it has
 *	 been replaced since.  After an event that takes it beyond `limit`,
 *	 es_state_compact() copies the value to a new context.  As limit is
 *	 several times the size of the value, that costs a constant for each byte
 *	 brought in.  Opening a container and growing one don't count: what they
 *	 take is within a constant factor of what was there and what was brought
 *	 in, and if they counted, a large state could be over its limit again
 *	 with the first event after a compaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "state.h"
#include "utils/memutils.h"

/* Objects with more members than this are searched by hash. */
#define LINEAR_SEARCH_MAX	8

/* Arrays with more elements than this are searched by hash, by $addToSet. */
#define LINEAR_CONTAINS_MAX	8

/* Memory is taken in pieces of this size, each four times the one before. */
#define CHUNK_MIN			((Size) 2 * 1024)
#define CHUNK_MAX			((Size) 512 * 1024)

/* Arrays of this size are pieces of memory by themselves. */
#define LARGE_MIN			((Size) 8 * 1024)

/* Garbage below this size is not worth a compaction. */
#define COMPACT_MIN			((Size) 2 * 1024 * 1024)


/*
 * The life of a state.
 */

/* Starts over with a new memory context, and with nothing in it. */
static void
reset_memory(EsState *state)
{
	state->mcxt = AllocSetContextCreate(state->parent, "eventsourcing state",
										ALLOCSET_DEFAULT_SIZES);
	state->free = NULL;
	state->end = NULL;
	state->chunk = CHUNK_MIN;
	state->used = 0;
	state->limit = COMPACT_MIN;
}

/* The tree is now this jsonb, which lives in mcxt; nothing of it is open. */
static void
set_root(EsState *state, Jsonb *jsonb)
{
	state->jsonb = jsonb;
	es_node_from_jsonb(&state->root, jsonb);
	state->size = VARSIZE(jsonb);
	state->limit = Max(COMPACT_MIN, state->size * 4);
}

static Jsonb *
copy_jsonb(const Jsonb *jsonb, MemoryContext mcxt)
{
	Size		size = VARSIZE(jsonb);
	Jsonb	   *result = MemoryContextAlloc(mcxt, size);

	memcpy(result, jsonb, size);
	return result;
}

/*
 * Returns a state with a copy of this value.  It lives in a context of its
 * own below parent, until es_state_destroy() or until parent goes.
 */
EsState *
es_state_create(Jsonb *initial, MemoryContext parent)
{
	EsState    *state = MemoryContextAlloc(parent, sizeof(EsState));

	state->parent = parent;
	reset_memory(state);
	set_root(state, copy_jsonb(initial, state->mcxt));
	state->changed = false;
	return state;
}

void
es_state_destroy(EsState *state)
{
	MemoryContextDelete(state->mcxt);
	pfree(state);
}

/* Returns the value as jsonb in the current memory context. */
Jsonb *
es_state_get(EsState *state)
{
	Jsonb	   *result;

	state->changed = false;
	if (state->jsonb != NULL)
		return copy_jsonb(state->jsonb, CurrentMemoryContext);
	result = es_node_write(&state->root, CurrentMemoryContext, state->size);
	state->size = VARSIZE(result);
	return result;
}

/*
 * Has the value changed since it was set or es_state_get() returned it?  It
 * may have been changed to what it was.
 */
bool
es_state_changed(EsState *state)
{
	return state->changed;
}

/*
 * Moves the value to a fresh context and drops the old one with everything
 * that is no longer in use.  Pointers into the tree are void afterwards.
 */
void
es_state_compact(EsState *state)
{
	MemoryContext old = state->mcxt;
	Jsonb	   *jsonb;

	reset_memory(state);
	if (state->jsonb != NULL)
		jsonb = copy_jsonb(state->jsonb, state->mcxt);
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(old);

		jsonb = es_node_write(&state->root, state->mcxt, state->size);
		MemoryContextSwitchTo(caller);
	}
	set_root(state, jsonb);
	MemoryContextDelete(old);
}

/* es_state_alloc() when the current piece of memory is used up. */
void *
es_state_alloc_slow(EsState *state, Size size)
{
	char	   *result;

	state->used += size;

	/* what is large gets a piece of its own */
	if (size > state->chunk / 4)
		return MemoryContextAllocHuge(state->mcxt, size);

	result = MemoryContextAlloc(state->mcxt, state->chunk);
	state->free = result + size;
	state->end = result + state->chunk;
	state->chunk = Min(state->chunk * 4, CHUNK_MAX);
	return result;
}


/*
 * Nodes.
 */

static void *
copy_bytes(EsState *state, const void *data, Size size)
{
	void	   *result = es_state_alloc(state, size);

	memcpy(result, data, size);
	return result;
}

/* Copies what a borrowed node points to into the state's memory. */
void
es_node_own(EsState *state, EsNode *node)
{
	switch (node->type)
	{
		case ES_NUMERIC:
			node->u.numeric = copy_bytes(state, node->u.numeric,
										 VARSIZE(node->u.numeric));
			break;
		case ES_STRING:
			node->u.string = copy_bytes(state, node->u.string, node->length);
			break;
		case ES_PACKED:
			node->u.packed = copy_bytes(state, node->u.packed, node->length);
			break;
		default:
			break;
	}
}

/*
 * Memory for an array: large ones by themselves, others like everything else.
 * Doesn't count as brought in by an event.
 */
static void *
alloc_array(EsState *state, Size size)
{
	Size		used = state->used;
	void	   *result;

	if (size >= LARGE_MIN)
		return MemoryContextAllocHuge(state->mcxt, size);
	result = es_state_alloc(state, size);
	state->used = used;
	return result;
}

/* Returns a hash table of so many slots, all free, in place of an old one. */
static uint32 *
reset_slots(EsState *state, uint32 *old, uint32 old_nslots, uint32 nslots)
{
	uint32	   *result = old;

	if (nslots != old_nslots)
	{
		if (old_nslots * sizeof(uint32) >= LARGE_MIN)
			pfree(old);
		result = alloc_array(state, nslots * sizeof(uint32));
	}
	memset(result, 0, nslots * sizeof(uint32));
	return result;
}

/*
 * Moves an array to a larger piece of memory.  A large one is a piece by
 * itself, which the allocator can often enlarge without copying.
 */
static void *
grow(EsState *state, void *old, Size old_size, Size new_size)
{
	void	   *result;

	if (old_size >= LARGE_MIN)
		return repalloc_huge(old, new_size);
	result = alloc_array(state, new_size);
	if (old_size > 0)
		memcpy(result, old, old_size);
	return result;
}

static int
next_capacity(int capacity, int wanted)
{
	if (wanted > PG_INT32_MAX / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many elements in a jsonb value")));
	return Max(Max(capacity * 2, wanted), 4);
}

/* Makes node an empty object with room for so many members. */
void
es_node_set_object(EsState *state, EsNode *node, int capacity)
{
	EsObject   *object = es_state_alloc(state, sizeof(EsObject));

	memset(object, 0, sizeof(EsObject));
	if (capacity > 0)
		object->pairs = alloc_array(state, capacity * sizeof(EsPair));
	state->used += capacity * sizeof(EsPair);
	object->head.capacity = capacity;
	node->type = ES_OBJECT;
	node->length = 0;
	node->u.object = object;
}

/* Makes node an empty array with room for so many elements. */
void
es_node_set_array(EsState *state, EsNode *node, int capacity)
{
	EsArray    *array = es_state_alloc(state, sizeof(EsArray));

	memset(array, 0, sizeof(EsArray));
	if (capacity > 0)
		array->elements = alloc_array(state, capacity * sizeof(EsNode));
	state->used += capacity * sizeof(EsNode);
	array->head.capacity = capacity;
	node->type = ES_ARRAY;
	node->length = 0;
	node->u.array = array;
}

/* Opens a packed container, so that its children can be changed. */
void
es_node_open(EsState *state, EsNode *node)
{
	JsonbContainer *packed = node->u.packed;
	uint32		length = node->length;
	Size		used = state->used;
	EsCursor	cursor;
	EsKey		key;
	EsNode		value;

	if (node->type != ES_PACKED)
		return;

	es_cursor_init(&cursor, packed);
	if (cursor.is_object)
	{
		EsObject   *object;

		es_node_set_object(state, node, cursor.count + 4);
		object = node->u.object;
		while (es_cursor_next(&cursor, &key, &value))
		{
			EsPair	   *pair = &object->pairs[object->head.count++];

			pair->key = key;
			pair->value = value;
		}
	}
	else
	{
		EsArray    *array;

		es_node_set_array(state, node, cursor.count + 4);
		array = node->u.array;
		while (es_cursor_next(&cursor, &key, &value))
			array->elements[array->head.count++] = value;
	}
	node->u.container->packed = packed;
	node->u.container->packed_length = length;
	state->used = used;
}


/*
 * Objects.
 */

static inline uint32
key_hash(EsKey *key)
{
	if (key->hash == 0)
	{
		key->hash = hash_bytes((const unsigned char *) key->data,
							   key->length);
		if (key->hash == 0)
			key->hash = 1;
	}
	return key->hash;
}

/* Builds the hash table anew, at most half full. */
static void
build_slots(EsState *state, EsObject *object)
{
	uint32		nslots = 32;
	uint32		mask;

	while (nslots < (uint32) object->head.capacity * 2)
		nslots *= 2;
	object->slots = reset_slots(state, object->slots, object->nslots, nslots);
	object->nslots = nslots;

	mask = nslots - 1;
	for (int i = 0; i < object->head.count; i++)
	{
		uint32		slot = key_hash(&object->pairs[i].key) & mask;

		while (object->slots[slot] != 0)
			slot = (slot + 1) & mask;
		object->slots[slot] = i + 1;
	}
}

/* The slot where this key is, or where it belongs. */
static uint32
find_slot(EsObject *object, EsKey *key)
{
	uint32		mask = object->nslots - 1;
	uint32		hash = key_hash(key);
	uint32		slot = hash & mask;

	while (object->slots[slot] != 0)
	{
		EsPair	   *pair = &object->pairs[object->slots[slot] - 1];

		if (pair->key.hash == hash && es_key_equal(&pair->key, key))
			break;
		slot = (slot + 1) & mask;
	}
	return slot;
}

/* Returns a member's number, or -1. */
static int
find_pair(EsState *state, EsObject *object, EsKey *key)
{
	if (object->head.count > LINEAR_SEARCH_MAX)
	{
		if (object->nslots == 0)
			build_slots(state, object);
		return (int) object->slots[find_slot(object, key)] - 1;
	}
	for (int i = 0; i < object->head.count; i++)
		if (es_key_equal(&object->pairs[i].key, key))
			return i;
	return -1;
}

/* Returns a member's value, or NULL if there is none. */
EsNode *
es_object_find(EsState *state, EsObject *object, EsKey *key)
{
	int			i = find_pair(state, object, key);

	return i < 0 ? NULL : &object->pairs[i].value;
}

/*
 * Returns the value of a member that is made if it isn't there, with the
 * value null.  Pointers to the values of other members become void.
 */
EsNode *
es_object_put(EsState *state, EsObject *object, EsKey *key)
{
	int			i = find_pair(state, object, key);
	EsPair	   *pair;

	if (i >= 0)
		return &object->pairs[i].value;

	i = object->head.count;
	if (i == object->head.capacity)
	{
		int			capacity = next_capacity(i, i + 1);

		object->pairs = grow(state, object->pairs, i * sizeof(EsPair),
							 capacity * sizeof(EsPair));
		object->head.capacity = capacity;
		if (object->nslots > 0)
			build_slots(state, object);
	}

	pair = &object->pairs[i];
	pair->key = *key;
	pair->key.data = copy_bytes(state, key->data, key->length);
	pair->value.type = ES_NULL;
	pair->value.length = 0;
	if (object->nslots > 0)
	{
		pair->key.hash = key_hash(key);
		object->slots[find_slot(object, key)] = i + 1;
	}
	object->head.count++;
	state->used += sizeof(EsPair);
	return &pair->value;
}

/* Frees a slot, moving back those that were pushed on by it. */
static void
free_slot(EsObject *object, uint32 free)
{
	uint32		mask = object->nslots - 1;
	uint32		slot = free;

	for (;;)
	{
		uint32		home;

		slot = (slot + 1) & mask;
		if (object->slots[slot] == 0)
			break;
		home = object->pairs[object->slots[slot] - 1].key.hash & mask;
		/* may it move: is its home not between the free slot and its own? */
		if (((slot - home) & mask) >= ((slot - free) & mask))
		{
			object->slots[free] = object->slots[slot];
			free = slot;
		}
	}
	object->slots[free] = 0;
}

/* Removes a member; false if it wasn't there. */
bool
es_object_remove(EsState *state, EsObject *object, EsKey *key)
{
	int			i = find_pair(state, object, key);
	int			last = object->head.count - 1;

	if (i < 0)
		return false;

	if (object->nslots > 0)
	{
		free_slot(object, find_slot(object, key));
		if (i < last)
			object->slots[find_slot(object, &object->pairs[last].key)] = i + 1;
	}
	if (i < last)
		object->pairs[i] = object->pairs[last];
	object->head.count = last;
	return true;
}


/*
 * Arrays.
 */

/*
 * Makes room for n elements before the one at this place and returns the
 * first, for the caller to fill.
 */
EsNode *
es_array_insert(EsState *state, EsArray *array, int at, int n)
{
	int			count = array->head.count;

	if (n > array->head.capacity - count)
	{
		int			capacity = next_capacity(count, count + n);

		array->elements = grow(state, array->elements, count * sizeof(EsNode),
							   capacity * sizeof(EsNode));
		array->head.capacity = capacity;
	}
	if (at < count)
	{
		memmove(&array->elements[at + n], &array->elements[at],
				(count - at) * sizeof(EsNode));
		if (at < array->head.nhashed)
			array->head.nhashed = 0;
	}
	array->head.count += n;
	state->used += n * sizeof(EsNode);
	return &array->elements[at];
}

EsNode *
es_array_append(EsState *state, EsArray *array)
{
	return es_array_insert(state, array, array->head.count, 1);
}

/*
 * Returns the slot of an element equal to this value, or where it belongs.
 */
static uint32
find_element_slot(EsArray *array, EsNode *value)
{
	uint32		mask = array->nslots - 1;
	uint32		slot = es_node_hash(value) & mask;

	while (array->slots[slot] != 0 &&
		   !es_node_equal(&array->elements[array->slots[slot] - 1], value))
		slot = (slot + 1) & mask;
	return slot;
}

/* Enters the elements that are not in the hash table yet. */
static void
hash_elements(EsState *state, EsArray *array)
{
	uint32		nslots = 32;

	while (nslots < (uint32) array->head.capacity * 2)
		nslots *= 2;
	if (nslots != array->nslots || array->head.nhashed == 0)
	{
		array->slots = reset_slots(state, array->slots, array->nslots, nslots);
		array->nslots = nslots;
		array->head.nhashed = 0;
	}

	for (int i = array->head.nhashed; i < array->head.count; i++)
	{
		uint32		slot = find_element_slot(array, &array->elements[i]);

		if (array->slots[slot] == 0)
			array->slots[slot] = i + 1;
	}
	array->head.nhashed = array->head.count;
}

/* Is there an element equal to this value? */
bool
es_array_contains(EsState *state, EsArray *array, EsNode *value)
{
	if (array->head.count > LINEAR_CONTAINS_MAX)
	{
		hash_elements(state, array);
		return array->slots[find_element_slot(array, value)] != 0;
	}
	for (int i = 0; i < array->head.count; i++)
		if (es_node_equal(&array->elements[i], value))
			return true;
	return false;
}
