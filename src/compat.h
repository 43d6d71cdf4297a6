/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between PostgreSQL 15 and 18.
 *
 * The only place with #if PG_VERSION_NUM: everything else is written for
 * the newest signature, which this header supplies to older versions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_COMPAT_H
#define ES_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "storage/lock.h"
#include "utils/acl.h"

#if PG_VERSION_NUM < 150000
#error "eventsourcing needs PostgreSQL 15 or newer"
#endif

/* 16 replaced the checks for each kind of object by one function */
#if PG_VERSION_NUM < 160000
#define object_ownercheck(classid, objectid, roleid) \
	((classid) == DatabaseRelationId ? \
	 pg_database_ownercheck(objectid, roleid) : \
	 (AssertMacro((classid) == RelationRelationId), \
	  pg_class_ownercheck(objectid, roleid)))
#define object_aclcheck(classid, objectid, roleid, mode) \
	((classid) == NamespaceRelationId ? \
	 pg_namespace_aclcheck(objectid, roleid, mode) : \
	 (AssertMacro((classid) == ProcedureRelationId), \
	  pg_proc_aclcheck(objectid, roleid, mode)))
#endif

/* 16 added "summarizing indexes only", for UPDATE */
#if PG_VERSION_NUM < 160000
#define ExecInsertIndexTuples(rel, slot, estate, update, nodup, conflict, arbiters, summarizing) \
	(AssertMacro(!(summarizing)), \
	 (ExecInsertIndexTuples) (rel, slot, estate, update, nodup, conflict, arbiters))
#endif

/* 16 moved the rights on a query's relations to a list of their own */
#if PG_VERSION_NUM < 160000
#define QUERY_PERMISSIONS(query)	NIL
#define RTEPermissionInfo	RangeTblEntry
#define CHECK_PERMS_PARAMETERS(list) List *list, bool ereport_on_violation
#define CHECK_PERMS_ARGUMENTS(list) list, ereport_on_violation
#else
#define QUERY_PERMISSIONS(query)	((query)->rteperminfos)
#define CHECK_PERMS_PARAMETERS(list) List *range_table, List *list, bool ereport_on_violation
#define CHECK_PERMS_ARGUMENTS(list) range_table, list, ereport_on_violation
#endif

/* 17 made it needless */
#if PG_VERSION_NUM >= 170000
#define RelationCloseSmgrByOid(relid)	((void) 0)
#endif

/* 17 added "or a stronger one" */
#if PG_VERSION_NUM < 170000
#define LockHeldByMe(locktag, lockmode, orstronger) \
	(AssertMacro(!(orstronger)), (LockHeldByMe) (locktag, lockmode))
#endif

/* 18 counts index searches, and knows the tuple that may be in its own way */
#if PG_VERSION_NUM < 180000
#define index_beginscan(heap, index, snapshot, instrument, nkeys, norderbys) \
	((index_beginscan) (heap, index, snapshot, nkeys, norderbys))
#define ExecCheckIndexConstraints(rel, slot, estate, conflict, self, arbiters) \
	((void) (self), \
	 (ExecCheckIndexConstraints) (rel, slot, estate, conflict, arbiters))
#endif

/* 18 added generated columns that are computed when they are read */
#if PG_VERSION_NUM < 180000
#define ATTRIBUTE_GENERATED_VIRTUAL 'v'
#endif

/* 17 lets extensions name what they wait for */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) PG_WAIT_EXTENSION
#endif

#endif							/* ES_COMPAT_H */
