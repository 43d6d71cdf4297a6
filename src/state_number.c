/*-------------------------------------------------------------------------
 *
 * state_number.c
 *		Exact arithmetic on the numbers of a state.
 *
 * Results are those of numeric, digit for digit and with the same number of
 * decimals: 1.0 + 1 is 2.0.  Whole numbers without decimals are computed as
 * int64, which cannot be told apart from outside: a counter costs 5 ns an
 * event rather than 100, and no memory.  On overflow, numeric takes over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "state.h"
#include "utils/builtins.h"

/*
 * The bytes of a numeric, of which PostgreSQL keeps the definition to
 * itself.  They are stored in every database, so they don't change: a
 * header, then digits to the base 10,000.  In the short form, all that
 * concerns us fits the header; the long form is not for int64.
 */
#define NUMERIC_FORM_MASK		0xC000
#define NUMERIC_FORM_SHORT		0x8000
#define NUMERIC_SHORT_NEGATIVE	0x2000
#define NUMERIC_SHORT_DECIMALS	0x1F80
#define NUMERIC_SHORT_WEIGHT	0x007F	/* including its sign */
#define NUMERIC_BASE			10000

/* Digits before the point, less one, that fit an int64 whatever they are */
#define NUMERIC_WEIGHT_MAX		3

/*
 * Returns true and the value of a number that has no decimals and fits; may
 * return false for a few that would fit, too.
 */
bool
es_number_to_int64(EsNode *node, int64 *value)
{
	const uint16 *words;
	uint16		header;
	int			ndigits;
	int			weight;
	int64		result = 0;

	if (node->type == ES_INTEGER)
	{
		*value = node->u.integer;
		return true;
	}

	words = (const uint16 *) VARDATA(node->u.numeric);
	header = words[0];
	if ((header & NUMERIC_FORM_MASK) != NUMERIC_FORM_SHORT ||
		(header & NUMERIC_SHORT_DECIMALS) != 0)
		return false;
	weight = header & NUMERIC_SHORT_WEIGHT;
	ndigits = (VARSIZE(node->u.numeric) - VARHDRSZ) / sizeof(uint16) - 1;
	if (ndigits == 0)
	{
		*value = 0;
		return true;
	}
	/* a negative weight is a large one here, but has decimals anyway */
	if (weight > NUMERIC_WEIGHT_MAX || ndigits > weight + 1)
		return false;
	for (int i = 0; i <= weight; i++)
		result = result * NUMERIC_BASE + (i < ndigits ? words[i + 1] : 0);
	*value = (header & NUMERIC_SHORT_NEGATIVE) ? -result : result;
	return true;
}

/* Returns any number as a numeric, palloc'd or not. */
Numeric
es_number_to_numeric(EsNode *node)
{
	if (node->type == ES_INTEGER)
		return int64_to_numeric(node->u.integer);
	return node->u.numeric;
}

/* Makes target a copy of this palloc'd result, which is freed. */
static void
set_numeric(EsState *state, EsNode *target, Numeric result)
{
	target->type = ES_NUMERIC;
	target->length = 0;
	target->u.numeric = result;
	es_node_own(state, target);
	pfree(result);
}

static inline void
set_integer(EsNode *target, int64 result)
{
	target->type = ES_INTEGER;
	target->length = 0;
	target->u.integer = result;
}

static void
free_operand(EsNode *node, Numeric numeric)
{
	if (node->type == ES_INTEGER)
		pfree(numeric);
}

/* target += amount, both numbers; false on overflow */
bool
es_number_add(EsState *state, EsNode *target, EsNode *amount)
{
	int64		a,
				b,
				sum;
	Numeric		x,
				y,
				result;
	bool		overflow = false;

	if (es_number_to_int64(target, &a) && es_number_to_int64(amount, &b) &&
		!pg_add_s64_overflow(a, b, &sum))
	{
		set_integer(target, sum);
		return true;
	}

	x = es_number_to_numeric(target);
	y = es_number_to_numeric(amount);
	result = numeric_add_opt_error(x, y, &overflow);
	free_operand(target, x);
	free_operand(amount, y);
	if (overflow)
		return false;
	set_numeric(state, target, result);
	return true;
}

/* target *= factor, both numbers; false on overflow */
bool
es_number_multiply(EsState *state, EsNode *target, EsNode *factor)
{
	int64		a,
				b,
				product;
	Numeric		x,
				y,
				result;
	bool		overflow = false;

	if (es_number_to_int64(target, &a) && es_number_to_int64(factor, &b) &&
		!pg_mul_s64_overflow(a, b, &product))
	{
		set_integer(target, product);
		return true;
	}

	x = es_number_to_numeric(target);
	y = es_number_to_numeric(factor);
	result = numeric_mul_opt_error(x, y, &overflow);
	free_operand(target, x);
	free_operand(factor, y);
	if (overflow)
		return false;
	set_numeric(state, target, result);
	return true;
}
