/*-------------------------------------------------------------------------
 *
 * shadow_swap.c
 *		Swapping the contents of read models and their shadows.
 *
 * Like CLUSTER, but with the indexes, which a rebuild has made beforehand: the
 * entries of table and shadow in pg_class exchange their files, so the table
 * keeps its OID, and with it views, foreign keys, grants and prepared statements.
 * It takes no longer for a large table.
 *
 * The caller holds ACCESS EXCLUSIVE on both.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "commands/tablecmds.h"
#include "compat.h"
#include "shadow.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define SWAP(type, a, b) \
	do { type save = (a); (a) = (b); (b) = save; } while (0)

static void
mark_rewrite(Relation classes, Oid relid, Oid original)
{
	HeapTuple	tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	((Form_pg_class) GETSTRUCT(tuple))->relrewrite = original;
	CatalogTupleUpdate(classes, &tuple->t_self, tuple);
	heap_freetuple(tuple);
}

/*
 * Marks shadows as what they are, rewrites of the tables, so that logical
 * decoding passes over them: a publication FOR ALL TABLES would send their rows
 * to where there is no such table, and the subscription would stop.
 */
void
es_shadow_mark(EsShadows *shadows)
{
	Relation	classes = table_open(RelationRelationId, RowExclusiveLock);

	for (int i = 0; i < shadows->count; i++)
	{
		Relation	shadow = table_open(shadows->shadows[i], NoLock);
		Oid			toast = shadow->rd_rel->reltoastrelid;

		table_close(shadow, NoLock);
		mark_rewrite(classes, shadows->shadows[i], shadows->tables[i]);
		if (OidIsValid(toast))
			mark_rewrite(classes, toast, shadows->tables[i]);
	}
	table_close(classes, RowExclusiveLock);
	CommandCounterIncrement();
}

/*
 * Makes a TOAST table an internal part of a table, and of no other.
 */
static void
own_toast(Oid toast, Oid table)
{
	ObjectAddress toast_address;
	ObjectAddress table_address;

	if (!OidIsValid(toast))
		return;
	(void) deleteDependencyRecordsFor(RelationRelationId, toast, false);
	ObjectAddressSet(toast_address, RelationRelationId, toast);
	ObjectAddressSet(table_address, RelationRelationId, table);
	recordDependencyOn(&toast_address, &table_address, DEPENDENCY_INTERNAL);
}

/*
 * Exchanges what two relations' entries say about their files.  Values in TOAST
 * tables are found by the TOAST table's OID, so these go with the rows.
 */
static void
swap_files(Relation classes, Oid a, Oid b)
{
	HeapTuple	x = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(a));
	HeapTuple	y = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(b));
	Form_pg_class p;
	Form_pg_class q;

	if (!HeapTupleIsValid(x) || !HeapTupleIsValid(y))
		elog(ERROR, "cache lookup failed for relation %u or %u", a, b);
	p = (Form_pg_class) GETSTRUCT(x);
	q = (Form_pg_class) GETSTRUCT(y);
	if (p->relfilenode == 0 || q->relfilenode == 0 || p->relam != q->relam ||
		p->relkind != q->relkind || p->relpersistence != q->relpersistence)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" was changed while it was being rebuilt", NameStr(p->relname)),
				 errhint("Call es_rebuild() again.")));

	SWAP(Oid, p->relfilenode, q->relfilenode);
	SWAP(Oid, p->reltablespace, q->reltablespace);
	SWAP(Oid, p->reltoastrelid, q->reltoastrelid);
	SWAP(TransactionId, p->relfrozenxid, q->relfrozenxid);
	SWAP(MultiXactId, p->relminmxid, q->relminmxid);
	SWAP(int32, p->relpages, q->relpages);
	SWAP(float4, p->reltuples, q->reltuples);
	SWAP(int32, p->relallvisible, q->relallvisible);
	CatalogTupleUpdate(classes, &x->t_self, x);
	CatalogTupleUpdate(classes, &y->t_self, y);
	own_toast(p->reltoastrelid, a);
	own_toast(q->reltoastrelid, b);

	/* neither entry may go on using the other's file */
	RelationCloseSmgrByOid(a);
	RelationCloseSmgrByOid(b);
	heap_freetuple(x);
	heap_freetuple(y);
}

/*
 * Whether one index can read the other's file.
 */
static bool
same_index(Relation a, Relation b)
{
	int			n = a->rd_index->indnatts;
	int			nkeys = a->rd_index->indnkeyatts;

	return a->rd_rel->relam == b->rd_rel->relam && n == b->rd_index->indnatts &&
		nkeys == b->rd_index->indnkeyatts &&
		a->rd_index->indisunique == b->rd_index->indisunique &&
		b->rd_index->indisvalid &&
		memcmp(a->rd_index->indkey.values, b->rd_index->indkey.values, n * sizeof(int16)) == 0 &&
		memcmp(a->rd_indcollation, b->rd_indcollation, nkeys * sizeof(Oid)) == 0 &&
		memcmp(a->rd_opfamily, b->rd_opfamily, nkeys * sizeof(Oid)) == 0 &&
		memcmp(a->rd_opcintype, b->rd_opcintype, nkeys * sizeof(Oid)) == 0 &&
		memcmp(a->rd_indoption, b->rd_indoption, nkeys * sizeof(int16)) == 0 &&
		equal(RelationGetIndexExpressions(a), RelationGetIndexExpressions(b)) &&
		equal(RelationGetIndexPredicate(a), RelationGetIndexPredicate(b));
}

/*
 * Whether that relation is an index of the shadow and like the other.
 */
static bool
is_pair(Oid index, Oid pair, Oid shadow)
{
	Relation	a;
	Relation	b;
	bool		result;

	if (get_rel_relkind(pair) != RELKIND_INDEX || IndexGetRelation(pair, true) != shadow)
		return false;
	a = index_open(index, AccessExclusiveLock);
	b = index_open(pair, AccessExclusiveLock);
	result = same_index(a, b);
	index_close(b, NoLock);
	index_close(a, NoLock);
	return result;
}

/*
 * Exchanges the files of a table and its shadow, and of their indexes.
 */
static void
swap_table(EsShadows *shadows, Relation classes, Oid table, Oid shadow)
{
	Relation	rel = table_open(table, NoLock);
	List	   *indexes = RelationGetIndexList(rel);
	Relation	shadow_rel = table_open(shadow, NoLock);
	int			shadow_indexes = list_length(RelationGetIndexList(shadow_rel));
	ListCell   *lc;

	CheckTableNotInUse(rel, "es_rebuild()");
	table_close(shadow_rel, NoLock);
	table_close(rel, NoLock);

	foreach(lc, indexes)
	{
		Oid			index = lfirst_oid(lc);
		Oid			pair = es_shadow_of(shadows, index);

		if (list_length(indexes) != shadow_indexes || !is_pair(index, pair, shadow))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("an index of table \"%s\" was created or dropped while it was being rebuilt",
							get_rel_name(table)),
					 errhint("Call es_rebuild() again.")));
		swap_files(classes, index, pair);
	}
	swap_files(classes, table, shadow);
}

/*
 * Gives the TOAST table that came with the rows the name of its new owner, which
 * must be free by now.
 */
static void
rename_toast(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			toast;
	char		name[NAMEDATALEN];

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	toast = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
	ReleaseSysCache(tuple);
	if (!OidIsValid(toast))
		return;
	LockRelationOid(toast, AccessExclusiveLock);
	snprintf(name, NAMEDATALEN, "pg_toast_%u", table);
	RenameRelationInternal(toast, name, true, false);
	snprintf(name, NAMEDATALEN, "pg_toast_%u_index", table);
	RenameRelationInternal(toast_get_valid_index(toast, AccessExclusiveLock), name, true, true);
	CommandCounterIncrement();
	/* it is no part of a rewrite any more */
	ResetRelRewrite(toast);
	CommandCounterIncrement();
}

/*
 * Swaps the contents of a projection's tables with those of their shadows, which
 * are dropped with the old contents.
 */
void
es_shadow_swap(EsShadows *shadows)
{
	Relation	classes;

	for (int i = 0; i < shadows->count; i++)
		es_store_call(shadows->store, "es_check_shadow(%u::pg_catalog.regclass, %u::pg_catalog.regclass)",
					  shadows->tables[i], shadows->shadows[i]);
	classes = table_open(RelationRelationId, RowExclusiveLock);
	for (int i = 0; i < shadows->count; i++)
		swap_table(shadows, classes, shadows->tables[i], shadows->shadows[i]);
	table_close(classes, RowExclusiveLock);
	CommandCounterIncrement();

	es_store_call(shadows->store, "es_forget_rebuild(%s::pg_catalog.name, %s::pg_catalog.text)",
				  quote_literal_cstr(NameStr(shadows->store->name)),
				  quote_literal_cstr(shadows->projection));
	for (int i = 0; i < shadows->count; i++)
		rename_toast(shadows->tables[i]);
	for (int i = 0; i < shadows->count; i++)
		es_store_call(shadows->store, "es_check_keys(%u::pg_catalog.regclass)", shadows->tables[i]);
}
