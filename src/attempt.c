/*-------------------------------------------------------------------------
 *
 * attempt.c
 *		Doing something in a subtransaction, and what came of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "attempt.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Does something in a subtransaction, in the given memory context.  Returns
 * NULL, or the error that undid it, in the current memory context; also if that
 * was a request to cancel.
 */
ErrorData *
es_attempt(void (*part) (void *arg), void *arg, MemoryContext context)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		part(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	return error;
}

/*
 * The same, and returns what the error says.  A request to end is no failure of
 * what was attempted: it is passed on.
 */
char *
es_attempt_message(void (*part) (void *arg), void *arg, MemoryContext context)
{
	ErrorData  *error = es_attempt(part, arg, context);
	char	   *message;

	if (error == NULL)
		return NULL;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	message = error->message == NULL ? pstrdup("unknown error") :
		error->detail == NULL ? pstrdup(error->message) :
		psprintf("%s (%s)", error->message, error->detail);
	FreeErrorData(error);
	return message;
}

/*
 * The same in the current memory context, while events say that, instead of what
 * the session's settings say.
 */
char *
es_attempt_as(const EsContext *said, void (*part) (void *arg), void *arg)
{
	const EsContext *previous = es_context_override(said);
	char	   *volatile message = NULL;

	PG_TRY();
	{
		message = es_attempt_message(part, arg, CurrentMemoryContext);
	}
	PG_FINALLY();
	{
		(void) es_context_override(previous);
	}
	PG_END_TRY();
	return message;
}
