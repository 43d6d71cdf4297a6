/*-------------------------------------------------------------------------
 *
 * waitpoint.c
 *		Places where a test can have a session wait.
 *
 * A test of a race or a crash has to stop a session at a certain place and know
 * that it is there.  So it takes an advisory lock, has the session come to the
 * point that the lock is named after, and sees it wait for the lock.  Injection
 * points would do the same, but are not in the servers that are packaged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "waitpoint.h"

/*
 * See ES_WAIT_POINT().
 */
void
es_wait_point(const char *name)
{
	/* what hashtext() returns, as the key of pg_advisory_lock(bigint) */
	int64		key = (int32) hash_bytes((const unsigned char *) name, strlen(name));
	LOCKTAG		tag;

	if (strcmp(es_guc_wait_point, name) != 0)
		return;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);
	(void) LockAcquire(&tag, ShareLock, true, false);
	(void) LockRelease(&tag, ShareLock, true);
}
