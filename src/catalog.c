/*-------------------------------------------------------------------------
 *
 * catalog.c
 *		The extension's own objects, and what its functions have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * Returns the schema that the extension was created in.
 */
Oid
es_extension_schema(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("eventsourcing"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"eventsourcing\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION eventsourcing.")));
	return schema;
}

/*
 * Returns the composite type es_event.
 */
Oid
es_event_type(void)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   PointerGetDatum("es_event"),
									   ObjectIdGetDatum(es_extension_schema()));

	if (!OidIsValid(type))
		elog(ERROR, "type es_event is missing from the extension's schema");
	return type;
}

/*
 * Whether the index is a B-tree on these columns of the table and no others,
 * ascending, by their types' own operators and their own collations, and can be
 * searched with any snapshot.  It may have a condition.
 */
bool
es_index_is_on(Relation index, TupleDesc table, int nkeys, const AttrNumber *attnums)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID ||
		form->indnatts != nkeys || form->indnkeyatts != nkeys ||
		!form->indisvalid || !form->indisready || form->indcheckxmin)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		Form_pg_attribute column;

		if (form->indkey.values[i] != attnums[i])
			return false;
		column = TupleDescAttr(table, attnums[i] - 1);
		if (index->rd_indcollation[i] != column->attcollation ||
			index->rd_indoption[i] != 0 ||
			index->rd_opfamily[i] != get_opclass_family(GetDefaultOpClass(column->atttypid, BTREE_AM_OID)))
			return false;
	}
	return true;
}

/*
 * Raises 22004 where argument n of a function is NULL.
 */
void
es_check_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name)));
}

/*
 * Returns argument n of a function, a name.  Raises 22004 for NULL, 22023 for
 * one that is empty or has more bytes than max.
 */
text *
es_get_name(FunctionCallInfo fcinfo, int n, const char *what, int max)
{
	text	   *name;

	es_check_argument(fcinfo, n, what);
	name = PG_GETARG_TEXT_PP(n);
	if (VARSIZE_ANY_EXHDR(name) == 0 || VARSIZE_ANY_EXHDR(name) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have between 1 and %d bytes, but has %d",
						what, max, (int) VARSIZE_ANY_EXHDR(name))));
	return name;
}

/*
 * Returns argument n of a function, a plain list.  Raises 22023 where it is
 * empty or has a NULL in it.
 */
ArrayType *
es_get_list(FunctionCallInfo fcinfo, int n, const char *name, const char *hint)
{
	ArrayType  *list = PG_GETARG_ARRAYTYPE_P(n);

	if (ARR_NDIM(list) != 1 || array_contains_nulls(list))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a list of one or more values", name),
				 errhint("%s", hint)));
	return list;
}

/*
 * Returns argument n of a function that defines something, the types of events
 * that it is for; NULL for all.  No event is of one of no types, so an empty list
 * is a mistake there.
 */
ArrayType *
es_get_types(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		return NULL;
	return es_get_list(fcinfo, n, "types", "Leave it out, or pass NULL, for all types.");
}

/*
 * Raises XX001 unless an array out of that table is a plain list of so many
 * values.  A store's owner can write to its tables, and where values have a fixed
 * width the code reads them without looking at each.
 */
void
es_check_list(ArrayType *array, int n, const char *table)
{
	if (ARR_NDIM(array) > 1 || array_contains_nulls(array) ||
		ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) != n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" of the event store was changed by hand", table),
				 errdetail("It holds an array that is no list of %d values.", n),
				 errhint("Delete the row, and make anew what it stands for.")));
}
