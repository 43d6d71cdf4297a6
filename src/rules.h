/*-------------------------------------------------------------------------
 *
 * rules.h
 *		How events change a state, said in JSON and run by C.
 *
 * docs/rules.md is the reference of what rules mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_RULES_H
#define ES_RULES_H

#include "event.h"
#include "state.h"

/*
 * Bounds, the same as MongoDB's: how deep a path or a value in the rules may
 * go, and how many nulls may be put between the end of an array and an
 * element set behind it.
 */
#define ES_RULES_MAX_DEPTH		100
#define ES_RULES_MAX_PADDING	1500000

/*
 * Grows whenever some rules make another state than before, so that snapshots
 * which they made before are void.
 */
#define ES_RULES_MEANING		1

typedef struct EsRules EsRules;

/*
 * Checks rules and makes a program of them, which lives in mcxt.  An error,
 * 22023, names the place.
 */
extern EsRules *es_rules_compile(Jsonb *rules, MemoryContext mcxt);

/*
 * Changes the state by one event.  Data and metadata are detoasted only if
 * the rules for the event's type refer to them.  After an error the state is
 * undefined.
 */
extern void es_rules_apply(EsRules *rules, EsState *state,
						   const EsEvent *event);


/*
 * The rest is between rules.c, which compiles, and rules_apply.c.
 */

/* The name of a member; in an array, the number of an element. */
typedef struct EsStep
{
	EsKey		key;
	int			index;			/* -1 if the key is not a number */
} EsStep;

typedef struct EsPath
{
	int			nsteps;
	EsStep	   *steps;
	const char *text;			/* for messages */
} EsPath;

typedef enum EsExprType
{
	ES_EXPR_LITERAL,
	ES_EXPR_DATA,				/* $ or $.path */
	ES_EXPR_METADATA,			/* $$metadata or $$metadata.path */
	ES_EXPR_FIELD,				/* another $$field */
	ES_EXPR_OBJECT,
	ES_EXPR_ARRAY,
	ES_EXPR_IFNULL
} EsExprType;

typedef struct EsExpr EsExpr;

/* What stands for a value: a literal, a reference, or made of such. */
struct EsExpr
{
	EsExprType	type;
	EsNode		literal;
	EsPath		path;			/* of a reference; the text is the whole of it */
	EsEventColumn column;		/* of ES_EXPR_FIELD */
	int			nargs;			/* members, elements, alternatives */
	EsKey	   *keys;
	EsExpr	   *args;
};

typedef enum EsOpType
{
	ES_OP_SET,
	ES_OP_UNSET,
	ES_OP_INC,
	ES_OP_MUL,
	ES_OP_MIN,
	ES_OP_MAX,
	ES_OP_PUSH,
	ES_OP_ADD_TO_SET,
	ES_OP_PULL,
	ES_OP_MERGE
} EsOpType;

typedef enum EsTestType
{
	ES_TEST_EQ,
	ES_TEST_NE,
	ES_TEST_GT,
	ES_TEST_GTE,
	ES_TEST_LT,
	ES_TEST_LTE,
	ES_TEST_IN,
	ES_TEST_NIN
} EsTestType;

/* A condition of $pull; an element goes if all of them hold. */
typedef struct EsTest
{
	EsTestType	type;
	EsPath		path;			/* within the element */
	EsExpr		value;
} EsTest;

typedef struct EsOp
{
	EsOpType	type;
	EsPath		path;
	EsExpr		value;			/* unless $unset, or $pull with tests */
	bool		each;			/* $push, $addToSet: value is an array of
								 * values */
	bool		has_position;	/* $push: where in the array */
	int			position;
	bool		has_slice;		/* $push: how many elements to keep */
	int			slice;
	int			ntests;			/* $pull */
	EsTest	   *tests;
} EsOp;

/* What happens at events of one type, in order. */
typedef struct EsRule
{
	EsKey		type;
	int			nops;
	EsOp	   *ops;
} EsRule;

struct EsRules
{
	int			nrules;
	EsRule	   *rules;
	uint32		mask;			/* of the hash table of types */
	uint32	   *slots;			/* rule number + 1, 0 is free */
};

extern const char *const es_rules_operators[];

extern EsRule *es_rules_find(EsRules *rules, Datum type);

#endif							/* ES_RULES_H */
