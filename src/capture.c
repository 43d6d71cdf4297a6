/*-------------------------------------------------------------------------
 *
 * capture.c
 *		Events from an ordinary table.
 *
 * A row trigger on a table that an application goes on using as before: each row
 * is a stream, and each change of it an event, in the same transaction.
 *
 * The events are appended with the rights of the role that owns the table and the
 * store, as a foreign key's checks are done: who writes the table needs no rights
 * on the store, and who puts the trigger on a table of his own gains none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "append.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(es_capture_row);

/*
 * Whether the text of a type's values is the same whatever the session's
 * settings are.
 */
static bool
has_one_text(Oid type)
{
	switch (getBaseType(type))
	{
		case BPCHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case UUIDOID:
		case VARCHAROID:
			return true;
		default:
			return false;
	}
}

/*
 * Returns the stream of a row: the category and the value of the key column, as
 * es_capture() has it, with its settings.
 */
static text *
row_stream(HeapTuple row, TupleDesc desc, const char *category, int key)
{
	Form_pg_attribute attr = TupleDescAttr(desc, key - 1);
	bool		pinned = !has_one_text(attr->atttypid);
	int			nestlevel = pinned ? NewGUCNestLevel() : 0;
	char	   *value;

	if (pinned)
	{
		es_guc_pin_text();
		es_guc_set_for_now("lc_monetary", "C");
	}
	value = SPI_getvalue(row, desc, key);
	if (pinned)
		AtEOXact_GUC(true, nestlevel);
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("cannot capture a row whose key \"%s\" is NULL",
						NameStr(attr->attname))));
	return cstring_to_text(psprintf("%s-%s", category, value));
}

/*
 * Returns the row as an object, but for the columns that are left out: not an
 * array where none are.
 */
static Jsonb *
row_object(HeapTuple row, TupleDesc desc, const bool *left_out)
{
	Datum		json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(row, desc));
	Jsonb	   *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															CStringGetDatum(TextDatumGetCString(json))));
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (left_out == NULL)
		return object;
	it = JsonbIteratorInit(&object->root);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (left_out[SPI_fnumber(desc, pnstrdup(key.val.string.val, key.val.string.len)) - 1])
			continue;
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Returns which columns a row of this table has no values for until it is read,
 * or NULL.
 */
static bool *
virtual_columns(TupleDesc desc)
{
	bool	   *result = NULL;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attgenerated != ATTRIBUTE_GENERATED_VIRTUAL)
			continue;
		if (result == NULL)
			result = palloc0(desc->natts * sizeof(bool));
		result[i] = true;
	}
	return result;
}

static bool
is_same(Form_pg_attribute attr, Datum before, Datum after)
{
	/*
	 * an UPDATE leaves what is stored out of line, and was not set, where it
	 * is
	 */
	if (attr->attlen == -1 &&
		VARATT_IS_EXTERNAL(DatumGetPointer(before)) &&
		VARATT_IS_EXTERNAL(DatumGetPointer(after)) &&
		memcmp(DatumGetPointer(before), DatumGetPointer(after),
			   VARSIZE_EXTERNAL(DatumGetPointer(before))) == 0)
		return true;
	return datum_image_eq(before, after, attr->attbyval, attr->attlen);
}

/*
 * Returns an object of the columns that changed, with their new values, or NULL
 * where none did.
 */
static Jsonb *
changed_columns(HeapTuple before, HeapTuple after, TupleDesc desc)
{
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc(desc->natts * sizeof(bool));
	Datum	   *old_values = palloc(desc->natts * sizeof(Datum));
	bool	   *old_isnull = palloc(desc->natts * sizeof(bool));
	bool	   *same = palloc0(desc->natts * sizeof(bool));
	int			nchanged = 0;

	heap_deform_tuple(before, desc, old_values, old_isnull);
	heap_deform_tuple(after, desc, values, isnull);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (isnull[i] || old_isnull[i])
			same[i] = isnull[i] == old_isnull[i];
		else
			same[i] = is_same(attr, old_values[i], values[i]);
		if (!same[i])
			nchanged++;
		else
			isnull[i] = true;	/* not worth a conversion */
	}
	if (nchanged == 0)
		return NULL;
	return row_object(heap_form_tuple(desc, values, isnull), desc, same);
}

static void
append_event(EsStore *store, text *stream, const char *type, Jsonb *data)
{
	EsNewEvent	event = {0};

	event.type = cstring_to_text(type);
	event.data = data;
	(void) es_append_to(store, stream, 1, &event, ES_VERSION_ANY, NULL);
}

static Jsonb *
empty_object(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/*
 * Raises 42501 unless one role owns the table and the store.  Whoever has the
 * right TRIGGER on a table can name any store here, also one of his own: with the
 * rights of the table's owner its triggers would run.
 */
static void
check_owner(EsStore *store, Relation rel)
{
	if (RelationGetForm(rel)->relowner != store->owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("captured table \"%s\" does not belong to the owner of event store \"%s\"",
						RelationGetRelationName(rel), NameStr(store->name)),
				 errhint("Give both to one role, or end the capture with es_uncapture().")));
}

/*
 * es_capture_row(store, category, key): the row trigger, and the statement
 * trigger that refuses TRUNCATE.
 */
Datum
es_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	EsStore    *store;
	const char *category;
	int			key;
	text	   *stream;
	EsOwnerState owner;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigdata->tg_trigger->tgnargs != 3)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("es_capture_row() can only be called as a trigger that es_capture() made")));
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot truncate \"%s\": its rows are captured as events",
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("DELETE the rows, or end the capture with es_uncapture().")));

	desc = RelationGetDescr(trigdata->tg_relation);
	store = es_store_named(trigdata->tg_trigger->tgargs[0]);
	category = trigdata->tg_trigger->tgargs[1];
	key = SPI_fnumber(desc, trigdata->tg_trigger->tgargs[2]);
	if (key <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\", the key of captured table \"%s\", does not exist",
						trigdata->tg_trigger->tgargs[2],
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Capture the table again with es_capture().")));
	check_owner(store, trigdata->tg_relation);
	stream = row_stream(trigdata->tg_trigtuple, desc, category, key);

	es_store_enter(&owner, store->owner, 0);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		append_event(store, stream, "Created",
					 row_object(trigdata->tg_trigtuple, desc, virtual_columns(desc)));
	else if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		append_event(store, stream, "Deleted", empty_object());
	else
	{
		text	   *new_stream = row_stream(trigdata->tg_newtuple, desc, category, key);
		Jsonb	   *changed;

		if (!DatumGetBool(DirectFunctionCall2(byteaeq, PointerGetDatum(stream),
											  PointerGetDatum(new_stream))))
		{
			/* another key is another thing */
			append_event(store, stream, "Deleted", empty_object());
			append_event(store, new_stream, "Created",
						 row_object(trigdata->tg_newtuple, desc, virtual_columns(desc)));
		}
		else if ((changed = changed_columns(trigdata->tg_trigtuple,
											trigdata->tg_newtuple, desc)) != NULL)
			append_event(store, stream, "Updated", changed);
	}
	es_store_leave(&owner);
	return PointerGetDatum(NULL);
}
