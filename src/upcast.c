/*-------------------------------------------------------------------------
 *
 * upcast.c
 *		Old events in today's shape.
 *
 * What was stored never changes.  When it is read, a type that was renamed
 * appears under its new name, and data of schema n goes through the type's
 * upcasters n, n+1, ... to the current one.  The schema of an event is the key
 * "$schema" of its metadata, 1 where it is absent; append stamps it.
 *
 * The registry of a store is kept until the store's epoch moves on.  Most stores
 * have none, and then es_upcast_begin() returns NULL and nothing is done per
 * event.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "context.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "owner.h"
#include "upcast.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(es_create_upcaster);
PG_FUNCTION_INFO_V1(es_drop_upcaster);
PG_FUNCTION_INFO_V1(es_rename_type);

/* from one schema of a type to the next */
typedef struct Upcaster
{
	int			id;				/* its number in the registry */
	const char *type;			/* the name that it was made for */
	int			from_schema;
	char	   *signature;
	EsKnownFunction function;
	char	   *search_path;
} Upcaster;

/* a type as it is called today */
typedef struct EventType
{
	char	   *name;
	text	   *name_text;
	int			schema;			/* the current one */
	int			nupcasters;
	Upcaster   *upcasters;		/* in the order of from_schema */
} EventType;

/* any name that a type has or had */
typedef struct KnownName
{
	char	   *name;
	int			length;
	EventType  *type;
} KnownName;

typedef struct Registry
{
	EsStore    *store;			/* hash key */
	uint64		epoch;			/* of the store, when this was read */
	uint64		functions;		/* es_owner_functions() then */
	MemoryContext context;
	int			nnames;
	KnownName  *names;			/* sorted by name */
	int			nupcasters;
} Registry;

/*
 * An upcaster's function, looked up for one reading.  Not for longer, and not
 * after a call that failed: what a language keeps for its next call would
 * outlive the query, or the transaction, that it was made in.
 */
typedef struct Function
{
	bool		ready;
	FmgrInfo	info;
}			Function;

struct EsUpcast
{
	Registry	registry;		/* as it was when reading began */
	MemoryContext context;		/* of this, the functions and the below */
	MemoryContext lifted;		/* of what the last event became */
	Function   *functions;		/* by the upcasters' ids */
};

static HTAB *registries = NULL;

/*
 * All names with the upcasters registered for them.  A name that was renamed,
 * maybe more than once, comes with today's.
 */
static const EsQuery select_registry = {
	"WITH RECURSIVE today (old_type, new_type) AS ("
	" SELECT r.old_type, r.new_type FROM {es}.renamed_types r"
	" UNION"
	" SELECT t.old_type, r.new_type FROM today t"
	" JOIN {es}.renamed_types r ON r.old_type OPERATOR(pg_catalog.=) t.new_type"
	"), current (name, type) AS ("
	" SELECT t.old_type, t.new_type FROM today t"
	" WHERE NOT EXISTS (SELECT FROM {es}.renamed_types r"
	"                    WHERE r.old_type OPERATOR(pg_catalog.=) t.new_type)"
	" UNION SELECT t.new_type, t.new_type FROM today t"
	" WHERE NOT EXISTS (SELECT FROM {es}.renamed_types r"
	"                    WHERE r.old_type OPERATOR(pg_catalog.=) t.new_type)"
	" UNION SELECT u.type, u.type FROM {es}.upcasters u"
	" WHERE NOT EXISTS (SELECT FROM {es}.renamed_types r"
	"                    WHERE r.old_type OPERATOR(pg_catalog.=) u.type)"
	") SELECT c.type, c.name, u.from_schema, u.function, u.search_path"
	" FROM current c LEFT JOIN {es}.upcasters u ON u.type OPERATOR(pg_catalog.=) c.name"
	" ORDER BY c.type, u.from_schema, c.name",
	0, {0}
};

static const EsQuery upsert_upcaster = {
	"INSERT INTO {es}.upcasters (type, from_schema, function, search_path)"
	" VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (type, from_schema) DO UPDATE SET"
	" function = EXCLUDED.function, search_path = EXCLUDED.search_path",
	4, {TEXTOID, INT4OID, TEXTOID, TEXTOID}
};

static const EsQuery delete_upcaster = {
	"DELETE FROM {es}.upcasters WHERE type OPERATOR(pg_catalog.=) $1"
	" AND from_schema OPERATOR(pg_catalog.=) $2",
	2, {TEXTOID, INT4OID}
};

/* one change of a registry at a time: each is checked against what is there */
static const EsQuery lock_registry = {
	"LOCK TABLE {es}.upcasters, {es}.renamed_types IN SHARE ROW EXCLUSIVE MODE",
	0, {0}
};

static const EsQuery delete_rename = {
	"DELETE FROM {es}.renamed_types WHERE old_type OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}
};

static const EsQuery insert_rename = {
	"INSERT INTO {es}.renamed_types (old_type, new_type) VALUES ($1, $2)",
	2, {TEXTOID, TEXTOID}
};

/*
 * Sets up the cache.  Called once, when the library is loaded.
 */
void
es_upcast_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(EsStore *);
	ctl.entrysize = sizeof(Registry);
	registries = hash_create("eventsourcing upcasters", 8, &ctl,
							 HASH_ELEM | HASH_BLOBS);
}

static int
compare_bytes(const char *a, int a_length, const char *b, int b_length)
{
	int			result = memcmp(a, b, Min(a_length, b_length));

	return result != 0 ? result : a_length - b_length;
}

static int
compare_names(const void *a, const void *b)
{
	const KnownName *n = a;
	const KnownName *m = b;

	return compare_bytes(n->name, n->length, m->name, m->length);
}

/*
 * Reads the registry of a store, as its owner.
 */
static void
read_registry(Registry *registry)
{
	EsStore    *store = registry->store;
	uint64		epoch = store->epoch;
	uint64		functions = es_owner_functions();
	MemoryContext oldcontext;
	EventType  *type = NULL;
	Upcaster   *upcasters;
	uint64		nrows;

	/* a reader further up the stack may still use the old one */
	if (registry->context != NULL)
		MemoryContextSetParent(registry->context, TopTransactionContext);
	registry->context = NULL;
	registry->nnames = 0;
	registry->nupcasters = 0;

	/* if an error gets in between, there is none, and not an empty one */
	registry->epoch = 0;

	SPI_connect();
	nrows = es_store_execute(store, &select_registry, NULL, NULL);
	if (nrows > 0)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;

		registry->context = AllocSetContextCreate(CacheMemoryContext,
												  "eventsourcing upcasters",
												  ALLOCSET_SMALL_SIZES);
		oldcontext = MemoryContextSwitchTo(registry->context);
		registry->names = palloc(nrows * sizeof(KnownName));
		upcasters = palloc0(nrows * sizeof(Upcaster));
		for (uint64 i = 0; i < nrows; i++)
		{
			HeapTuple	row = SPI_tuptable->vals[i];
			char	   *type_name = SPI_getvalue(row, desc, 1);
			char	   *name = SPI_getvalue(row, desc, 2);
			char	   *function = SPI_getvalue(row, desc, 4);
			KnownName  *entry = &registry->names[registry->nnames++];

			if (type == NULL || strcmp(type->name, type_name) != 0)
			{
				type = palloc0(sizeof(EventType));
				type->name = type_name;
				type->name_text = cstring_to_text(type_name);
				type->schema = 1;
				type->upcasters = &upcasters[registry->nupcasters];
			}
			entry->name = name;
			entry->length = strlen(name);
			entry->type = type;

			if (function != NULL)
			{
				Upcaster   *upcaster = &type->upcasters[type->nupcasters++];
				bool		isnull;

				upcaster->id = registry->nupcasters++;
				upcaster->type = name;
				upcaster->from_schema = DatumGetInt32(SPI_getbinval(row, desc, 3, &isnull));
				upcaster->signature = function;
				upcaster->search_path = SPI_getvalue(row, desc, 5);
				type->schema = Max(type->schema, upcaster->from_schema + 1);
			}
		}
		qsort(registry->names, registry->nnames, sizeof(KnownName), compare_names);
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
	registry->epoch = epoch;
	registry->functions = functions;
}

static Registry *
get_registry(EsStore *store)
{
	bool		found;
	Registry   *registry = hash_search(registries, &store, HASH_ENTER, &found);

	if (!found)
	{
		registry->epoch = 0;
		registry->context = NULL;
	}
	if (registry->epoch != store->epoch ||
		(registry->nnames > 0 && registry->functions != es_owner_functions()))
		read_registry(registry);
	return registry;
}

static EventType *
find_type(Registry *registry, text *name)
{
	const char *bytes = VARDATA_ANY(name);
	int			length = VARSIZE_ANY_EXHDR(name);
	int			low = 0;
	int			high = registry->nnames;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		KnownName  *entry = &registry->names[middle];
		int			order = compare_bytes(bytes, length, entry->name, entry->length);

		if (order == 0)
			return entry->type;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * Returns what es_upcast_event() needs, in the current memory context, or NULL
 * where the store's events are all read as they were stored.
 */
EsUpcast *
es_upcast_begin(EsStore *store)
{
	Registry   *registry = get_registry(store);
	MemoryContext context;
	EsUpcast   *upcast;

	if (registry->nnames == 0)
		return NULL;
	context = AllocSetContextCreate(CurrentMemoryContext, "eventsourcing upcast",
									ALLOCSET_DEFAULT_SIZES);
	upcast = MemoryContextAlloc(context, sizeof(EsUpcast));
	upcast->registry = *registry;
	upcast->context = context;
	upcast->lifted = AllocSetContextCreate(context, "eventsourcing lifted event",
										   ALLOCSET_DEFAULT_SIZES);
	upcast->functions = MemoryContextAllocZero(context,
											   registry->nupcasters * sizeof(Function));
	return upcast;
}

void
es_upcast_end(EsUpcast *upcast)
{
	if (upcast != NULL)
		MemoryContextDelete(upcast->context);
}

/*
 * Returns the schema that an event says its data has.
 */
static int
event_schema(const EsEvent *event)
{
	JsonbValue	value;
	Jsonb	   *metadata;
	int32		schema = 0;
	bool		failed = true;

	if (event->nulls[ES_EVENT_METADATA])
		return 1;
	metadata = DatumGetJsonbP(event->values[ES_EVENT_METADATA]);
	if (!JB_ROOT_IS_OBJECT(metadata) ||
		getKeyJsonValueFromContainer(&metadata->root, ES_SCHEMA_KEY,
									 strlen(ES_SCHEMA_KEY), &value) == NULL)
		return 1;
	if (value.type == jbvNumeric)
		schema = numeric_int4_opt_error(value.val.numeric, &failed);
	if (failed)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("metadata key \"$schema\" of an event is not the number of a schema"),
				 errdetail("Event \"%s\", version " INT64_FORMAT " of stream \"%s\".",
						   TextDatumGetCString(event->values[ES_EVENT_TYPE]),
						   EsEventVersion(event),
						   TextDatumGetCString(event->values[ES_EVENT_STREAM]))));
	return schema;
}

/* What call_upcaster() is working on, for the error's context. */
typedef struct UpcastErrorContext
{
	const EsEvent *event;
	Upcaster   *upcaster;
} UpcastErrorContext;

static void
upcast_error_context(void *arg)
{
	UpcastErrorContext *context = arg;

	errcontext("upcaster %s from schema %d on event \"%s\", version " INT64_FORMAT " of stream \"%s\"",
			   context->upcaster->signature, context->upcaster->from_schema,
			   TextDatumGetCString(context->event->values[ES_EVENT_TYPE]),
			   EsEventVersion(context->event),
			   TextDatumGetCString(context->event->values[ES_EVENT_STREAM]));
}

/*
 * Returns data lifted by one schema; sets *isnull where the function drops the
 * event.
 */
static Datum
call_upcaster(EsUpcast *upcast, Upcaster *upcaster, const EsEvent *event,
			  Datum data, bool *isnull)
{
	EsStore    *store = upcast->registry.store;
	Function   *function = &upcast->functions[upcaster->id];

	LOCAL_FCINFO(fcinfo, 1);
	UpcastErrorContext context = {event, upcaster};
	ErrorContextCallback callback;
	EsOwnerState owner;
	Datum		result;

	callback.callback = upcast_error_context;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	if (!function->ready)
	{
		Oid			oid = es_owner_function(store, upcaster->signature, ES_FUNCTION_UPCASTER,
											&upcaster->function);

		if (func_volatile(oid) != PROVOLATILE_IMMUTABLE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("function %s does not fit", upcaster->signature),
					 errdetail("It was altered since event store \"%s\" was told of it, and is not IMMUTABLE any more.",
							   NameStr(store->name)),
					 errhint("Make it IMMUTABLE again, or define another upcaster.")));
		fmgr_info_cxt(oid, &function->info, upcast->context);
	}
	function->ready = false;
	es_owner_enter(&owner, store, upcaster->search_path);
	InitFunctionCallInfoData(*fcinfo, &function->info, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = data;
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	es_owner_leave(&owner);
	function->ready = true;

	error_context_stack = callback.previous;
	return result;
}

/*
 * Lifts an event to today's shape, in place; what is new lives until the next
 * call.  Returns false for an event that is no more.  Raises 42704 where an
 * upcaster is missing.
 */
bool
es_upcast_event(EsUpcast *upcast, EsEvent *event)
{
	MemoryContext oldcontext;
	EventType  *type;
	int			schema;
	bool		dropped = false;

	if (upcast == NULL)
		return true;
	type = find_type(&upcast->registry, DatumGetTextPP(event->values[ES_EVENT_TYPE]));
	if (type == NULL)
		return true;

	MemoryContextReset(upcast->lifted);
	oldcontext = MemoryContextSwitchTo(upcast->lifted);
	schema = event_schema(event);
	if (schema < type->schema)
	{
		Datum		data = event->values[ES_EVENT_DATA];

		for (int i = 0; i < type->nupcasters && !dropped; i++)
		{
			Upcaster   *upcaster = &type->upcasters[i];

			if (upcaster->from_schema < schema)
				continue;
			if (upcaster->from_schema > schema)
				break;
			data = call_upcaster(upcast, upcaster, event, data, &dropped);
			schema++;
		}
		if (!dropped && schema < type->schema)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("no upcaster lifts event type \"%s\" from schema %d",
							type->name, schema),
					 errdetail("Event at version " INT64_FORMAT " of stream \"%s\"; the current schema is %d.",
							   EsEventVersion(event),
							   TextDatumGetCString(event->values[ES_EVENT_STREAM]),
							   type->schema),
					 errhint("Define it with es_create_upcaster(%s, %d, ...).",
							 quote_literal_cstr(type->name), schema)));
		event->values[ES_EVENT_DATA] = data;
		event->values[ES_EVENT_METADATA] =
			JsonbPGetDatum(es_context_with_schema(event->nulls[ES_EVENT_METADATA] ? NULL :
												  DatumGetJsonbP(event->values[ES_EVENT_METADATA]),
												  type->schema));
		event->nulls[ES_EVENT_METADATA] = false;
	}
	event->values[ES_EVENT_TYPE] = PointerGetDatum(type->name_text);
	MemoryContextSwitchTo(oldcontext);
	return !dropped;
}

/*
 * Returns the current schema of an event type, 1 where it has no upcasters.
 */
int
es_upcast_schema(EsStore *store, text *type)
{
	Registry   *registry = get_registry(store);
	EventType  *found = registry->nnames > 0 ? find_type(registry, type) : NULL;

	return found != NULL ? found->schema : 1;
}

/*
 * Returns the names under which events of the given types may be stored.
 */
ArrayType *
es_upcast_types(EsStore *store, ArrayType *types)
{
	Registry   *registry = get_registry(store);
	ArrayBuildState *result = NULL;
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;

	if (registry->nnames == 0)
		return types;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		EventType  *type;

		result = accumArrayResult(result, elements[i], nulls[i], TEXTOID,
								  CurrentMemoryContext);
		if (nulls[i])
			continue;
		type = find_type(registry, DatumGetTextPP(elements[i]));
		for (int j = 0; type != NULL && j < registry->nnames; j++)
		{
			if (registry->names[j].type == type)
				result = accumArrayResult(result,
										  CStringGetTextDatum(registry->names[j].name),
										  false, TEXTOID, CurrentMemoryContext);
		}
	}
	if (result == NULL)
		return types;
	return DatumGetArrayTypeP(makeArrayResult(result, CurrentMemoryContext));
}

/*
 * Appends all that decides what events are read as to a description: a part of
 * a snapshot's fingerprint.
 */
void
es_upcast_describe(EsStore *store, StringInfo description)
{
	Registry   *registry = get_registry(store);

	for (int i = 0; i < registry->nnames; i++)
	{
		KnownName  *name = &registry->names[i];

		appendStringInfo(description, "type %s is %s\n", name->name, name->type->name);
		if (strcmp(name->name, name->type->name) != 0)
			continue;
		for (int j = 0; j < name->type->nupcasters; j++)
		{
			Upcaster   *upcaster = &name->type->upcasters[j];

			appendStringInfo(description, "upcaster from %d ", upcaster->from_schema);
			es_owner_describe(store, upcaster->signature, upcaster->search_path,
							  description);
		}
	}
}

static Upcaster *
find_upcaster(EventType *type, int from_schema)
{
	for (int i = 0; type != NULL && i < type->nupcasters; i++)
	{
		if (type->upcasters[i].from_schema == from_schema)
			return &type->upcasters[i];
	}
	return NULL;
}

static void
check_type(const char *type)
{
	if (type[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event type must not be empty")));
}

/*
 * es_create_upcaster(type, from_schema, fn)
 */
Datum
es_create_upcaster(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Upcaster   *other;
	Datum		values[4];

	es_check_argument(fcinfo, 0, "type");
	es_check_argument(fcinfo, 1, "from_schema");
	es_check_argument(fcinfo, 2, "fn");
	check_type(TextDatumGetCString(PG_GETARG_DATUM(0)));
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_schema must be between 1 and %d, but is %d",
						PG_INT32_MAX - 1, PG_GETARG_INT32(1)),
				 errhint("The first schema of an event type is 1.")));
	es_store_check_owner(store);

	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = CStringGetTextDatum(es_owner_signature(store, PG_GETARG_OID(2), ES_FUNCTION_UPCASTER));
	values[3] = CStringGetTextDatum(es_owner_search_path());
	SPI_connect();
	(void) es_store_execute(store, &lock_registry, NULL, NULL);
	other = find_upcaster(find_type(get_registry(store), DatumGetTextPP(values[0])),
						  PG_GETARG_INT32(1));
	if (other != NULL && strcmp(other->type, TextDatumGetCString(values[0])) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" has an upcaster from schema %d already",
						TextDatumGetCString(values[0]), PG_GETARG_INT32(1)),
				 errdetail("It was created for \"%s\", another name of the same type: %s.",
						   other->type, other->signature),
				 errhint("Replace it under that name, or drop it with es_drop_upcaster(%s, %d).",
						 quote_literal_cstr(other->type), PG_GETARG_INT32(1))));
	(void) es_store_execute(store, &upsert_upcaster, values, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * es_drop_upcaster(type, from_schema)
 */
Datum
es_drop_upcaster(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Datum		values[2];
	uint64		ndeleted;

	es_check_argument(fcinfo, 0, "type");
	es_check_argument(fcinfo, 1, "from_schema");
	es_store_check_owner(store);

	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	ndeleted = es_store_execute(store, &delete_upcaster, values, NULL);
	SPI_finish();
	if (ndeleted == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" has no upcaster from schema %d",
						TextDatumGetCString(values[0]), DatumGetInt32(values[1]))));
	PG_RETURN_VOID();
}

/*
 * Raises unless the type that is called "old" today can take the name of another
 * one, or a new name.
 */
static void
check_rename(EventType *from, EventType *to, const char *old, const char *new)
{
	if (from != NULL && strcmp(from->name, old) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" was renamed before", old),
				 errdetail("It is read as \"%s\".", from->name),
				 errhint("Rename \"%s\", and \"%s\" goes with it; or take back that it was renamed, with es_rename_type(%s, %s).",
						 from->name, old, quote_literal_cstr(old), quote_literal_cstr(old))));
	if (from == to)
		return;

	/* of two upcasters from one schema, which would be meant? */
	for (int i = 0; from != NULL && i < from->nupcasters; i++)
	{
		Upcaster   *upcaster = &from->upcasters[i];

		if (find_upcaster(to, upcaster->from_schema) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event type \"%s\" cannot be renamed to \"%s\"", old, new),
					 errdetail("Both have an upcaster from schema %d.", upcaster->from_schema),
					 errhint("Data of the two would go through one chain of upcasters: rename to a type that has none.")));
	}
}

/*
 * es_rename_type(old, new)
 *
 * A name that was renamed leads to one other, and so on to the one that is
 * today's.  A name that becomes today's again leads nowhere any more, so that
 * there is never a circle.
 */
Datum
es_rename_type(PG_FUNCTION_ARGS)
{
	EsStore    *store = es_store_current();
	Registry   *registry;
	EventType  *from;
	EventType  *to;
	const char *old;
	const char *new;
	Datum		values[2];

	es_check_argument(fcinfo, 0, "old");
	es_check_argument(fcinfo, 1, "new");
	es_store_check_owner(store);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);

	old = TextDatumGetCString(values[0]);
	new = TextDatumGetCString(values[1]);
	check_type(old);
	check_type(new);

	SPI_connect();
	(void) es_store_execute(store, &lock_registry, NULL, NULL);
	registry = get_registry(store);
	from = find_type(registry, DatumGetTextPP(values[0]));
	to = find_type(registry, DatumGetTextPP(values[1]));

	if (strcmp(old, new) == 0)
	{
		/* read as it was stored again: a renaming is taken back */
		if (es_store_execute(store, &delete_rename, &values[0], NULL) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event type \"%s\" is read under that name already", old)));
	}
	else
	{
		check_rename(from, to, old, new);
		if (from != NULL && from == to)
			(void) es_store_execute(store, &delete_rename, &values[1], NULL);
		(void) es_store_execute(store, &insert_rename, values, NULL);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
