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
#include "storage/proc.h"
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
	int			lock_timeout = LockTimeout;

	if (strcmp(es_guc_wait_point, name) != 0)
		return;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);

	/*
	 * A wait point is no lock: a lock_timeout of its surroundings is not for
	 * it.
	 */
	LockTimeout = 0;
	PG_TRY();
	{
		(void) LockAcquire(&tag, ShareLock, true, false);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
	(void) LockRelease(&tag, ShareLock, true);
}
