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

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "storage/lock.h"
#include "utils/acl.h"

#if PG_VERSION_NUM < 150000
#error "eventsourcing needs PostgreSQL 15 or newer"
#endif

/* 16 replaced the checks for each kind of object by one function */
#if PG_VERSION_NUM < 160000
#define object_ownercheck(classid, objectid, roleid) \
	(AssertMacro((classid) == RelationRelationId), \
	 pg_class_ownercheck(objectid, roleid))
#define object_aclcheck(classid, objectid, roleid, mode) \
	(AssertMacro((classid) == ProcedureRelationId), \
	 pg_proc_aclcheck(objectid, roleid, mode))
#endif

/* 17 added "or a stronger one" */
#if PG_VERSION_NUM < 170000
#define LockHeldByMe(locktag, lockmode, orstronger) \
	(AssertMacro(!(orstronger)), (LockHeldByMe) (locktag, lockmode))
#endif

#endif							/* ES_COMPAT_H */
