/*-------------------------------------------------------------------------
 *
 * owner.c
 *		Running a user's code as the store's owner.
 *
 * Apply functions, upcasters, deciders and scripts are defined by the store's
 * owner and run with his rights, whoever calls: never with the caller's, who may
 * be a superuser.  They run in a security-restricted context and with the
 * search_path that was in force when they were defined.
 *
 * A definition keeps a function as text, its signature with all names
 * qualified, because pg_upgrade refuses columns of type regprocedure.
 *
 * After an error nothing has to be undone: the end of the (sub)transaction
 * resets the user and the settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "owner.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* grows whenever any function changed, or a role that may own one */
static uint64 functions = 1;

static void
function_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	functions++;
}

/*
 * Begins to watch functions and roles.  Called once, when the library is loaded.
 */
void
es_owner_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, function_changed, (Datum) 0);
}

/*
 * Returns a number that grows whenever a function may have changed, for caches
 * of looked-up functions.
 */
uint64
es_owner_functions(void)
{
	return functions;
}

/*
 * Whether the search_path in force finds the same as that of a definition.
 * es_owner_search_path() wrote down where temporary objects come, which is no
 * matter in a session that has none: tables can be made none of here.
 */
static bool
is_path_in_force(const char *search_path)
{
	size_t		length = strlen(namespace_search_path);
	Oid			temp;
	Oid			temp_toast;

	if (strncmp(search_path, namespace_search_path, length) != 0)
		return false;
	if (search_path[length] == '\0')
		return true;
	if (strcmp(search_path + length, ", pg_temp") != 0)
		return false;
	GetTempNamespaceState(&temp, &temp_toast);
	return !OidIsValid(temp);
}

/*
 * Becomes the store's owner, with the given search_path, until
 * es_owner_leave(state).
 */
void
es_owner_enter(EsOwnerState *state, EsStore *store, const char *search_path)
{
	es_store_enter(state, store->owner, 0);
	/* that row security isn't forced holds for what we ask, not for the code */
	SetUserIdAndSecContext(store->owner, (state->sec_context & ~SECURITY_NOFORCE_RLS) |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);

	/*
	 * What the code calls of ours works on its own store, whatever the
	 * caller's setting says.  A setting that is changed is parsed, twice, and
	 * a search_path has its schemas looked up: more than many a function
	 * costs, so what is in force already is left alone.
	 */
	if (!is_path_in_force(search_path))
		es_guc_set_for_now("search_path", search_path);
	if (strcmp(es_guc_store, NameStr(store->name)) != 0)
		es_guc_set_for_now("eventsourcing.store", NameStr(store->name));
}

/*
 * Goes back to what es_owner_enter() found.
 */
void
es_owner_leave(const EsOwnerState *state)
{
	es_store_leave(state);
}

/*
 * Returns the search_path in force, as it is kept with a definition.  Temporary
 * objects come last, wherever they were: else anybody could put a table of his
 * own in front of the owner's.
 */
char *
es_owner_search_path(void)
{
	StringInfoData path;
	List	   *schemas;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(namespace_search_path), ',', &schemas))
		elog(ERROR, "invalid search_path: %s", namespace_search_path);
	initStringInfo(&path);
	foreach(cell, schemas)
	{
		const char *schema = lfirst(cell);

		if (strcmp(schema, "pg_temp") != 0)
			appendStringInfo(&path, "%s, ", quote_identifier(schema));
	}
	appendStringInfoString(&path, "pg_temp");
	return path.data;
}

static const char *const hints[] = {
	[ES_FUNCTION_APPLY] = "An apply function is declared as (state jsonb, event es_event) RETURNS jsonb.",
	[ES_FUNCTION_DECIDER] = "A decider is declared as (state jsonb, command text, payload jsonb) RETURNS jsonb.",
	[ES_FUNCTION_UPCASTER] = "An upcaster is declared as (data jsonb) RETURNS jsonb IMMUTABLE."
};

/*
 * Whether a call of the function, with the arguments of its kind, returns one
 * jsonb value.  The signature that a definition keeps is the owner's word alone.
 */
static bool
fits_kind(Form_pg_proc proc, EsFunctionKind kind)
{
	int			nargs = kind == ES_FUNCTION_UPCASTER ? 1 : kind == ES_FUNCTION_APPLY ? 2 : 3;
	const Oid  *args = proc->proargtypes.values;

	if (proc->prokind != PROKIND_FUNCTION || proc->proretset ||
		proc->prorettype != JSONBOID || proc->pronargs != nargs || args[0] != JSONBOID)
		return false;
	if (kind == ES_FUNCTION_APPLY)
		return args[1] == es_event_type();
	if (kind == ES_FUNCTION_DECIDER)
		return args[1] == TEXTOID && args[2] == JSONBOID;
	return true;
}

/*
 * Raises 42501 for a function of a role that could not act as the store's owner
 * anyway: it can make the function anew at any time, and so can whoever owns the
 * schema that it is in, but then the function is his.
 */
static void
check_function_owner(EsStore *store, Oid role, const char *signature)
{
	if (role == store->owner || has_privs_of_role(role, store->owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("function %s does not belong to the owner of event store \"%s\"",
					signature, NameStr(store->name)),
			 errdetail("It belongs to role \"%s\", but would run with the rights of role \"%s\".",
					   GetUserNameFromId(role, true), GetUserNameFromId(store->owner, true)),
			 errhint("ALTER FUNCTION ... OWNER TO, if its code can be trusted.")));
}

/*
 * Returns the signature of a function of that kind, allocated in the current
 * memory context.  Raises 22023 for one that does not fit, 42501 for one that
 * cannot be trusted.
 */
char *
es_owner_signature(EsStore *store, Oid function, EsFunctionKind kind)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			owner;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = fits_kind(proc, kind) &&
		(kind != ES_FUNCTION_UPCASTER || proc->provolatile == PROVOLATILE_IMMUTABLE);
	owner = proc->proowner;
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s does not fit", format_procedure(function)),
				 errhint("%s", hints[kind])));
	check_function_owner(store, owner, format_procedure(function));
	return format_procedure_qualified(function);
}

/*
 * Returns the function of a signature, looked up as the store's owner, or
 * InvalidOid.
 */
static Oid
find_function(EsStore *store, const char *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Oid			save_userid;
	int			save_sec_context;
	Oid			function;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(store->owner,
						   save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	function = DatumGetObjectId(to_regprocedure(fcinfo));
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return fcinfo->isnull ? InvalidOid : function;
}

/*
 * Returns the function of a signature, which the store's owner has to have the
 * right to call.  Raises 42883, 42501, and 22023 for one that was made anew with
 * another result.  To find and check it costs more than many a call, so it is
 * kept as known to whom the signature belongs.
 */
Oid
es_owner_function(EsStore *store, const char *signature, EsFunctionKind kind,
				  EsKnownFunction *known)
{
	uint64		epoch = store->epoch;
	uint64		before = functions;
	Oid			function;
	HeapTuple	tuple;
	bool		fits;

	if (OidIsValid(known->function) && store->valid &&
		known->epoch == epoch && known->functions == before)
		return known->function;

	function = find_function(store, signature);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s does not exist", signature),
				 errdetail("A definition in event store \"%s\" names it.", NameStr(store->name)),
				 errhint("Create it again, or define anew what uses it.")));
	if (object_aclcheck(ProcedureRelationId, function, store->owner, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, signature);
	fits = fits_kind((Form_pg_proc) GETSTRUCT(tuple), kind);
	check_function_owner(store, ((Form_pg_proc) GETSTRUCT(tuple))->proowner, signature);
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s does not fit", signature),
				 errdetail("It was made anew since event store \"%s\" was told of it.",
						   NameStr(store->name)),
				 errhint("%s Create it again, or define anew what uses it.", hints[kind])));
	known->function = function;
	known->epoch = epoch;
	known->functions = before;
	return function;
}

static void
describe_attribute(HeapTuple tuple, AttrNumber attribute, const char *name,
				   StringInfo description)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, attribute, &isnull);

	if (!isnull)
		appendStringInfo(description, "%s %s\n", name, TextDatumGetCString(value));
}

static void
describe_array(HeapTuple tuple, AttrNumber attribute, const char *name,
			   StringInfo description)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, attribute, &isnull);
	Oid			output;
	bool		is_varlena;

	if (isnull)
		return;
	getTypeOutputInfo(TEXTARRAYOID, &output, &is_varlena);
	appendStringInfo(description, "%s %s\n", name, OidOutputFunctionCall(output, value));
}

/*
 * Appends the body of a function that is kept as a parse tree, which has OIDs in
 * it, as text: the same in any database that it was restored to.
 */
static void
describe_body(EsStore *store, Oid function, StringInfo description)
{
	LOCAL_FCINFO(fcinfo, 1);
	EsOwnerState owner;
	Datum		body;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(function);
	fcinfo->args[0].isnull = false;

	/* the settings on which the spelling of names and constants depends */
	es_owner_enter(&owner, store, "pg_catalog, pg_temp");
	es_guc_pin_text();
	es_guc_set_for_now("lc_monetary", "C");
	es_guc_set_for_now("quote_all_identifiers", "off");
	es_guc_set_for_now("standard_conforming_strings", "on");
	body = pg_get_function_sqlbody(fcinfo);
	if (!fcinfo->isnull)
		appendStringInfo(description, "body %s\n", TextDatumGetCString(body));
	es_owner_leave(&owner);
}

/*
 * Appends what makes a function what it is to a description: its signature,
 * source, names of arguments and settings, but not what its source calls.  The
 * same in any database that the function was restored to.  A function that is
 * missing is described as that: it is an error only where it is needed.
 */
void
es_owner_describe(EsStore *store, const char *signature, const char *search_path,
				  StringInfo description)
{
	Oid			function = find_function(store, signature);
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid		   *transforms;
	int			ntransforms;

	if (!HeapTupleIsValid(tuple))
	{
		appendStringInfo(description, "function %s is missing\n", signature);
		return;
	}
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	appendStringInfo(description, "function %s\nlanguage %s\nsearch_path %s\n",
					 signature, get_language_name(proc->prolang, false), search_path);
	describe_attribute(tuple, Anum_pg_proc_prosrc, "source", description);
	describe_attribute(tuple, Anum_pg_proc_probin, "library", description);
	describe_body(store, function, description);
	ntransforms = get_func_trftypes(tuple, &transforms);
	for (int i = 0; i < ntransforms; i++)
		appendStringInfo(description, "transform %s\n", format_type_be_qualified(transforms[i]));
	describe_array(tuple, Anum_pg_proc_proargnames, "arguments", description);
	describe_array(tuple, Anum_pg_proc_proconfig, "settings", description);
	ReleaseSysCache(tuple);
}
