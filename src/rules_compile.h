/*-------------------------------------------------------------------------
 *
 * rules_compile.h
 *		What rules.c and rules_value.c share while they compile rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_RULES_COMPILE_H
#define ES_RULES_COMPILE_H

#include "rules.h"

/* Where in the rules we are, for messages: a key or an array's element. */
typedef struct EsPlace
{
	const struct EsPlace *up;
	const EsKey *key;			/* or NULL */
	int			index;
	int			depth;			/* within a value */
} EsPlace;

/*
 * Reports rules that cannot be: message is an errmsg(), the rest the format
 * of a hint and what goes into it.
 */
#define rules_error(place, message, ...) \
	ereport(ERROR, \
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), \
			 message, \
			 errdetail("At %s.", es_place_text(place)), \
			 errhint(__VA_ARGS__)))

extern char *es_place_text(const EsPlace *place);

extern void es_compile_target(EsPath *path, const EsKey *key,
							  const EsPlace *place);
extern void es_compile_value(EsExpr *expr, EsNode *node,
							 const EsPlace *place);
extern void es_compile_number(EsExpr *expr, EsNode *node, const char *what,
							  const EsPlace *place);
extern void es_compile_array(EsExpr *expr, EsNode *node, const char *what,
							 const EsPlace *place);
extern void es_compile_object(EsExpr *expr, EsNode *node, const char *what,
							  const EsPlace *place);

extern bool es_is_value_operator(EsNode *node);
extern bool es_has_operators(EsNode *node);

static inline EsPlace
member_place(const EsPlace *up, const EsKey *key)
{
	EsPlace		place = {up, key, 0, up->depth + 1};

	return place;
}

static inline EsPlace
element_place(const EsPlace *up, int index)
{
	EsPlace		place = {up, NULL, index, up->depth + 1};

	return place;
}

static inline char *
key_text(const EsKey *key)
{
	return pnstrdup(key->data, key->length);
}

static inline bool
key_is(const EsKey *key, const char *name)
{
	return key->length == strlen(name) &&
		memcmp(key->data, name, key->length) == 0;
}

#endif							/* ES_RULES_COMPILE_H */
