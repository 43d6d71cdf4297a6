/*-------------------------------------------------------------------------
 *
 * aggregate.c
 *		How the events of a category fold into state: the definitions.
 *
 * A definition is a row of the store's table of aggregates.  A backend keeps
 * what it looked up, and which categories have one, until the store's epoch moves
 * on: so a stream of a category without costs no query, and no memory either,
 * however many such categories there are.
 * A definition that went stale may still be in use further up the call stack,
 * so its memory is handed to the transaction and goes with it.
 *
 * News of a changed function may come in the middle of a fold, and PostgreSQL
 * then runs the new one.  So whoever folded asks afterwards whether the
 * definition is still the one that he began with, and folds again if not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "aggregate.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "owner.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(es_create_aggregate);
PG_FUNCTION_INFO_V1(es_fingerprint);

/* a category is shorter than a stream's name, which has a limit */
#define MAX_CATEGORY_LENGTH 512

typedef struct AggregateKey
{
	EsStore    *store;
	char		category[MAX_CATEGORY_LENGTH + 1];
} AggregateKey;

typedef struct AggregateEntry
{
	AggregateKey key;
	uint64		epoch;			/* of the store, when it was looked up */
	EsAggregate *aggregate;		/* NULL: there is none */
} AggregateEntry;

static HTAB *aggregates = NULL;

/* the one that was asked for last: mostly the next one, too */
static AggregateEntry *latest = NULL;

static const EsQuery select_categories = {
	"SELECT category FROM {es}.aggregates",
	0, {0}
};

static const EsQuery select_aggregate = {
	"SELECT a.apply, a.rules, a.initial, a.snapshot_every, a.snapshots_kept,"
	" a.code_version, a.search_path, d.decide, d.search_path"
	" FROM {es}.aggregates a"
	" LEFT JOIN {es}.deciders d ON d.category OPERATOR(pg_catalog.=) a.category"
	" WHERE a.category OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery upsert_aggregate = {
	"INSERT INTO {es}.aggregates"
	" (category, kind, snapshot_every, code_version, apply, rules, initial, search_path)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
	" ON CONFLICT (category) DO UPDATE SET"
	" kind = EXCLUDED.kind, snapshot_every = EXCLUDED.snapshot_every,"
	" code_version = EXCLUDED.code_version, apply = EXCLUDED.apply,"
	" rules = EXCLUDED.rules, initial = EXCLUDED.initial, search_path = EXCLUDED.search_path",
	8, {TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, JSONBOID, JSONBOID, TEXTOID}
};

/* The category is mostly much shorter than the key. */
static uint32
hash_key(const void *key, Size size)
{
	const char *category = ((const AggregateKey *) key)->category;

	return hash_bytes((const unsigned char *) category, strlen(category));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	const AggregateKey *key = a;
	const AggregateKey *other = b;

	return key->store != other->store || strcmp(key->category, other->category) != 0;
}

/*
 * Sets up the cache.  Called once, when the library is loaded.
 */
void
es_aggregate_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(AggregateKey);
	ctl.entrysize = sizeof(AggregateEntry);
	ctl.hash = hash_key;
	ctl.match = compare_keys;
	aggregates = hash_create("eventsourcing aggregates", 16, &ctl,
							 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
}

/*
 * Reads a category's definition into the entry, as the store's owner.
 */
static void
look_up(AggregateEntry *entry)
{
	EsStore    *store = entry->key.store;
	Datum		category = CStringGetTextDatum(entry->key.category);
	EsAggregate *aggregate = NULL;
	uint64		epoch = store->epoch;
	uint64		functions = es_owner_functions();

	if (entry->aggregate != NULL)
		MemoryContextSetParent(entry->aggregate->context, TopTransactionContext);
	entry->aggregate = NULL;

	/*
	 * if an error gets in between, nothing is known, and not that there is
	 * none
	 */
	entry->epoch = 0;

	SPI_connect();
	if (es_store_execute(store, &select_aggregate, &category, NULL) > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext context;
		MemoryContext oldcontext;
		Datum		rules;
		bool		isnull;

		/* until all went well it belongs to the transaction */
		context = AllocSetContextCreate(TopTransactionContext, "eventsourcing aggregate",
										ALLOCSET_SMALL_SIZES);
		oldcontext = MemoryContextSwitchTo(context);
		aggregate = palloc0(sizeof(EsAggregate));
		aggregate->context = context;
		aggregate->category = pstrdup(entry->key.category);
		aggregate->apply = SPI_getvalue(tuple, desc, 1);
		rules = SPI_getbinval(tuple, desc, 2, &isnull);
		if (!isnull)
			aggregate->rules = DatumGetJsonbPCopy(rules);
		if ((aggregate->apply == NULL) == (aggregate->rules == NULL))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("aggregate \"%s\" was changed by hand", aggregate->category),
					 errdetail("It has to have either an apply function or rules."),
					 errhint("Define it anew with es_create_aggregate().")));
		aggregate->initial = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 3, &isnull));
		aggregate->snapshot_every = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
		aggregate->snapshots_kept = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
		aggregate->code_version = DatumGetInt32(SPI_getbinval(tuple, desc, 6, &isnull));
		aggregate->search_path = TextDatumGetCString(SPI_getbinval(tuple, desc, 7, &isnull));
		aggregate->decide = SPI_getvalue(tuple, desc, 8);
		aggregate->decide_search_path = SPI_getvalue(tuple, desc, 9);
		aggregate->epoch = epoch;
		aggregate->functions = functions;
		MemoryContextSwitchTo(oldcontext);
		MemoryContextSetParent(context, CacheMemoryContext);
	}
	SPI_finish();

	entry->aggregate = aggregate;
	entry->epoch = epoch;
}

/*
 * Whether nothing has happened since the definition was looked up that could
 * have changed what its fold does.
 */
bool
es_aggregate_is_untouched(EsStore *store, const EsAggregate *aggregate)
{
	return aggregate->epoch == store->epoch &&
		aggregate->functions == es_owner_functions();
}

/*
 * Makes sure that every category with a definition has an entry.
 */
static void
list_categories(EsStore *store)
{
	uint64		epoch = store->epoch;
	uint64		nrows;

	SPI_connect();
	nrows = es_store_execute(store, &select_categories, NULL, NULL);
	for (uint64 i = 0; i < nrows; i++)
	{
		AggregateKey key = {0};
		AggregateEntry *entry;
		bool		found;

		key.store = store;
		strlcpy(key.category, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
				sizeof(key.category));
		entry = hash_search(aggregates, &key, HASH_ENTER, &found);
		if (!found)
		{
			entry->epoch = 0;
			entry->aggregate = NULL;
		}
	}
	SPI_finish();
	store->categories_listed = epoch;
}

/*
 * Returns the entry of a category, or NULL where none is defined.
 */
static AggregateEntry *
find_entry(EsStore *store, const char *category, int length)
{
	AggregateKey key;
	AggregateEntry *entry;

	if (latest != NULL && latest->key.store == store &&
		strncmp(latest->key.category, category, length) == 0 &&
		latest->key.category[length] == '\0')
		return latest;

	key.store = store;
	memcpy(key.category, category, length);
	key.category[length] = '\0';
	entry = hash_search(aggregates, &key, HASH_FIND, NULL);
	if (entry != NULL)
		latest = entry;
	return entry;
}

/*
 * Returns the aggregate of a stream's category, or NULL where none is defined.
 * It lives at least to the end of the transaction.
 */
EsAggregate *
es_aggregate_find(EsStore *store, Datum stream)
{
	text	   *name = DatumGetTextPP(stream);
	char	   *start = VARDATA_ANY(name);
	int			length = VARSIZE_ANY_EXHDR(name);
	char	   *dash = memchr(start, '-', length);
	AggregateEntry *entry;

	if (dash != NULL)
		length = dash - start;
	if (length > MAX_CATEGORY_LENGTH)
		return NULL;

	if (store->categories_listed != store->epoch)
		list_categories(store);
	entry = find_entry(store, start, length);
	if (entry == NULL)
		return NULL;
	if (entry->epoch != store->epoch ||
		(entry->aggregate != NULL && !es_aggregate_is_untouched(store, entry->aggregate)))
		look_up(entry);
	return entry->aggregate;
}

/*
 * The same, but none is an error (42704).
 */
EsAggregate *
es_aggregate_get(EsStore *store, Datum stream)
{
	EsAggregate *aggregate = es_aggregate_find(store, stream);

	if (aggregate == NULL)
	{
		char	   *name = TextDatumGetCString(stream);
		char	   *category;

		/* no longer name than a stream can have */
		name[pg_mbcliplen(name, strlen(name), MAX_CATEGORY_LENGTH)] = '\0';
		category = pstrdup(name);
		category[strcspn(category, "-")] = '\0';
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no aggregate is defined for category \"%s\"", category),
				 strcmp(name, category) == 0 ? 0 :
				 errdetail("Stream \"%s\" cannot be folded without one.", name),
				 category[0] == '\0' ?
				 errhint("A stream is named Category-id, such as \"Order-1\".") :
				 errhint("Define it with es_create_aggregate(%s, ...).",
						 quote_literal_cstr(category))));
	}
	return aggregate;
}

/*
 * Returns the rules of an aggregate that has some, compiled.  Not done when the
 * definition is looked up: an append to a stream of broken rules needs them for
 * a snapshot alone, which may fail.
 */
EsRules *
es_aggregate_rules(EsAggregate *aggregate)
{
	if (aggregate->compiled == NULL)
		aggregate->compiled = es_rules_compile(aggregate->rules, aggregate->context);
	return aggregate->compiled;
}

/*
 * Whether the definition of a stream's category is, as far as a fold is
 * concerned, still the one that was looked up.
 */
bool
es_aggregate_is_current(EsStore *store, EsAggregate *aggregate, Datum stream)
{
	bytea	   *was;
	bytea	   *is;

	if (es_aggregate_is_untouched(store, aggregate))
		return true;
	was = es_aggregate_fingerprint(store, aggregate);
	is = es_aggregate_fingerprint(store, es_aggregate_get(store, stream));
	return VARSIZE(was) == VARSIZE(is) && memcmp(was, is, VARSIZE(was)) == 0;
}

/*
 * Returns the fingerprint of all that decides what events of the category fold
 * into: SHA-256 over the definition, the function's source, and the upcasters.
 */
bytea *
es_aggregate_fingerprint(EsStore *store, EsAggregate *aggregate)
{
	StringInfoData description;
	pg_cryptohash_ctx *hash;
	bytea	   *result;

	if (aggregate->fingerprint != NULL)
		return aggregate->fingerprint;

	initStringInfo(&description);
	appendStringInfo(&description, "code version %d\ninitial %s\n",
					 aggregate->code_version,
					 JsonbToCString(NULL, &aggregate->initial->root, 0));
	if (aggregate->rules != NULL)
		appendStringInfo(&description, "rules, meaning %d: %s\n", ES_RULES_MEANING,
						 JsonbToCString(NULL, &aggregate->rules->root, 0));
	else
	{
		es_owner_describe(store, aggregate->apply, aggregate->search_path, &description);
		/* no snapshot counts from before they were: see reducer.c */
		appendStringInfoString(&description, "times in UTC\n");
	}
	es_upcast_describe(store, &description);

	result = MemoryContextAlloc(aggregate->context, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	SET_VARSIZE(result, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	hash = pg_cryptohash_create(PG_SHA256);
	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) description.data, description.len) < 0 ||
		pg_cryptohash_final(hash, (uint8 *) VARDATA(result), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute a fingerprint: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
	pfree(description.data);
	aggregate->fingerprint = result;
	return result;
}

/*
 * es_create_aggregate(category, apply, rules, initial, snapshot_every,
 * code_version)
 */
Datum
es_create_aggregate(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	char	   *category;
	Datum		values[8];
	char		nulls[9];

	es_check_argument(fcinfo, 0, "category");
	category = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (category[0] == '\0' || strchr(category, '-') != NULL ||
		strlen(category) > MAX_CATEGORY_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a category", category),
				 errhint("A category is the part of a stream's name before the first \"-\".")));
	if (PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an aggregate has either an apply function or rules"),
				 errhint("Pass exactly one of apply and rules.")));
	es_check_argument(fcinfo, 3, "initial");
	es_check_argument(fcinfo, 4, "snapshot_every");
	es_check_argument(fcinfo, 5, "code_version");
	if (!PG_ARGISNULL(2))
	{
		(void) es_rules_compile(PG_GETARG_JSONB_P(2), CurrentMemoryContext);
		if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(3)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the initial state must be an object for rules"),
					 errhint("Rules change the members of an object; start with '{}'.")));
	}
	if (PG_GETARG_INT32(4) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("snapshot_every must not be negative, but is %d", PG_GETARG_INT32(4)),
				 errhint("Pass 0 for no snapshots.")));
	es_store_check_owner(store);

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = CStringGetTextDatum(PG_ARGISNULL(1) ? "rules" : "apply");
	values[2] = PG_GETARG_DATUM(4);
	values[3] = PG_GETARG_DATUM(5);
	values[4] = PG_ARGISNULL(1) ? (Datum) 0 : CStringGetTextDatum(es_owner_signature(store, PG_GETARG_OID(1), ES_FUNCTION_APPLY));
	nulls[4] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[5] = PG_GETARG_DATUM(2);
	nulls[5] = PG_ARGISNULL(2) ? 'n' : ' ';
	values[6] = PG_GETARG_DATUM(3);
	values[7] = CStringGetTextDatum(es_owner_search_path());

	SPI_connect();
	(void) es_store_execute(store, &upsert_aggregate, values, nulls);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * es_fingerprint(category): for the owner, as snapshots are.
 */
Datum
es_fingerprint(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();

	es_store_check_owner(store);
	PG_RETURN_BYTEA_P(es_aggregate_fingerprint(store, es_aggregate_get(store, PG_GETARG_DATUM(0))));
}
