/*-------------------------------------------------------------------------
 *
 * state.h
 *		The state of an aggregate while events are folded into it.
 *
 * jsonb cannot be changed in place: every change copies the whole value, so
 * a fold over n events of a state that grows with them costs n * n.  An
 * EsState is the same value as a tree that can be changed, and becomes jsonb
 * when somebody asks for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_STATE_H
#define ES_STATE_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/*
 * A JSON value.  A container that nobody has changed stays ES_PACKED, the
 * bytes of a jsonb container, and is opened into ES_ARRAY or ES_OBJECT one
 * level at a time by es_node_open().
 *
 * Numbers are exact.  ES_INTEGER stands for a numeric without decimals that
 * fits; only arithmetic makes it.
 */
typedef enum EsNodeType
{
	ES_NULL,
	ES_BOOL,
	ES_INTEGER,
	ES_NUMERIC,
	ES_STRING,
	ES_PACKED,
	ES_ARRAY,
	ES_OBJECT
} EsNodeType;

typedef struct EsContainer EsContainer;
typedef struct EsArray EsArray;
typedef struct EsObject EsObject;

typedef struct EsNode
{
	EsNodeType	type;
	uint32		length;			/* bytes of a string or packed container */
	union
	{
		bool		boolean;
		int64		integer;
		Numeric		numeric;	/* never a short or toasted varlena */
		const char *string;		/* not terminated */
		JsonbContainer *packed;
		EsContainer *container; /* array or object, what they share */
		EsArray    *array;
		EsObject   *object;
	}			u;
} EsNode;

/* A member's name; the hash is computed when first needed, 0 until then. */
typedef struct EsKey
{
	const char *data;			/* not terminated */
	uint32		length;
	uint32		hash;
} EsKey;

typedef struct EsPair
{
	EsKey		key;
	EsNode		value;
} EsPair;

struct EsContainer
{
	int			count;
	int			capacity;
	uint32		packed_length;
	JsonbContainer *packed;		/* the same as jsonb, or NULL if changed */

	/*
	 * Of an array: the first nhashed elements are in its hash table.  Who
	 * changes or moves one of them sets this to 0.
	 */
	int			nhashed;
};

struct EsArray
{
	EsContainer head;
	EsNode	   *elements;
	uint32		nslots;			/* of the elements by value, for $addToSet */
	uint32	   *slots;			/* element number + 1, 0 is free */
};

struct EsObject
{
	EsContainer head;
	EsPair	   *pairs;			/* in no order */
	uint32		nslots;			/* 0 while there are few pairs */
	uint32	   *slots;			/* pair number + 1, 0 is free */
};

/*
 * Everything that the tree points to lives in mcxt, and is handed out by
 * es_state_alloc() without ever being given back: es_state_compact() copies
 * what is still in use to a new context when the rest outweighs it.
 */
typedef struct EsState
{
	MemoryContext parent;
	MemoryContext mcxt;
	char	   *free;
	char	   *end;
	Size		chunk;			/* size of the next piece taken from mcxt */
	Size		used;			/* brought in since the last compaction */
	Size		limit;			/* compact when used exceeds this */
	Size		size;			/* of the value as jsonb when last written */
	Jsonb	   *jsonb;			/* the value in mcxt, NULL if changed since */
	bool		changed;		/* since es_state_get() */
	EsNode		root;
} EsState;

/* Walks the children of a packed container. */
typedef struct EsCursor
{
	const JsonbContainer *container;
	const char *base;			/* where the children's bytes begin */
	int			count;			/* elements or pairs */
	int			next;
	bool		is_object;
	uint32		key_offset;
	uint32		value_offset;
} EsCursor;

/* state.c: the life of a state */
extern EsState *es_state_create(Jsonb *initial, MemoryContext parent);
extern Jsonb *es_state_get(EsState *state);
extern bool es_state_changed(EsState *state);
extern void es_state_destroy(EsState *state);
extern void es_state_compact(EsState *state);
extern void *es_state_alloc_slow(EsState *state, Size size);

/* state.c: the tree */
extern void es_node_open(EsState *state, EsNode *node);
extern void es_node_own(EsState *state, EsNode *node);
extern void es_node_set_object(EsState *state, EsNode *node, int capacity);
extern void es_node_set_array(EsState *state, EsNode *node, int capacity);
extern EsNode *es_object_find(EsState *state, EsObject *object, EsKey *key);
extern EsNode *es_object_put(EsState *state, EsObject *object, EsKey *key);
extern bool es_object_remove(EsState *state, EsObject *object, EsKey *key);
extern EsNode *es_array_append(EsState *state, EsArray *array);
extern EsNode *es_array_insert(EsState *state, EsArray *array, int at, int n);
extern bool es_array_contains(EsState *state, EsArray *array, EsNode *value);

/* state_jsonb.c: reading and writing jsonb */
extern void es_cursor_init(EsCursor *cursor, const JsonbContainer *container);
extern bool es_cursor_next(EsCursor *cursor, EsKey *key, EsNode *value);
extern void es_node_from_jsonb(EsNode *node, Jsonb *jsonb);
extern bool es_packed_member(const JsonbContainer *container, EsKey *key,
							 EsNode *value);
extern bool es_packed_element(const JsonbContainer *container, int i,
							  EsNode *value);
extern Jsonb *es_node_write(EsNode *node, MemoryContext mcxt, Size guess);

/* state_compare.c: order and equality */
extern int	es_node_compare(EsNode *a, EsNode *b);
extern bool es_node_equal(EsNode *a, EsNode *b);
extern uint32 es_node_hash(EsNode *node);
extern int	es_node_rank(const EsNode *node);
extern const char *es_node_type_name(const EsNode *node);

/* state_number.c: exact arithmetic */
extern bool es_number_to_int64(EsNode *node, int64 *value);
extern Numeric es_number_to_numeric(EsNode *node);
extern bool es_number_add(EsState *state, EsNode *target, EsNode *amount);
extern bool es_number_multiply(EsState *state, EsNode *target, EsNode *factor);

/* Memory that lives as long as the tree needs it; see EsState. */
static inline void *
es_state_alloc(EsState *state, Size size)
{
	char	   *result = state->free;

	size = MAXALIGN(size);
	if (unlikely(size > (Size) (state->end - result)))
		return es_state_alloc_slow(state, size);
	state->free += size;
	state->used += size;
	return result;
}

/* Is this an array, opened or not? */
static inline bool
es_node_is_array(const EsNode *node)
{
	return node->type == ES_ARRAY ||
		(node->type == ES_PACKED && JsonContainerIsArray(node->u.packed));
}

static inline bool
es_node_is_object(const EsNode *node)
{
	return node->type == ES_OBJECT ||
		(node->type == ES_PACKED && JsonContainerIsObject(node->u.packed));
}

static inline bool
es_node_is_number(const EsNode *node)
{
	return node->type == ES_INTEGER || node->type == ES_NUMERIC;
}

/*
 * memcmp() == 0, inline for what is as short as names usually are: a fold
 * compares a dozen of them for every event.
 */
static inline bool
es_bytes_equal(const char *a, const char *b, uint32 length)
{
	if (length > 16)
		return memcmp(a, b, length) == 0;
	if (length >= 8)
	{
		uint64		x,
					y,
					p,
					q;

		/* the first eight bytes and the last, which may overlap */
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		memcpy(&p, a + length - 8, 8);
		memcpy(&q, b + length - 8, 8);
		return ((x ^ y) | (p ^ q)) == 0;
	}
	if (length >= 4)
	{
		uint32		x,
					y,
					p,
					q;

		memcpy(&x, a, 4);
		memcpy(&y, b, 4);
		memcpy(&p, a + length - 4, 4);
		memcpy(&q, b + length - 4, 4);
		return ((x ^ y) | (p ^ q)) == 0;
	}
	while (length > 0)
	{
		length--;
		if (a[length] != b[length])
			return false;
	}
	return true;
}

static inline bool
es_key_equal(const EsKey *a, const EsKey *b)
{
	return a->length == b->length &&
		es_bytes_equal(a->data, b->data, a->length);
}

#endif							/* ES_STATE_H */
