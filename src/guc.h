/*-------------------------------------------------------------------------
 *
 * guc.h
 *		The settings, eventsourcing.*
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_GUC_H
#define ES_GUC_H

extern char *es_guc_store;

/* the worker */
extern char *es_guc_databases;
extern int	es_guc_naptime;		/* ms */
extern bool es_guc_notify;

/* for tests: added to the clock of leases, retries and timers, in ms */
extern int	es_guc_clock_offset;

/* merged into the metadata of what the transaction appends; "" is unset */
extern char *es_guc_actor;
extern char *es_guc_causation_id;
extern char *es_guc_command_id;
extern char *es_guc_correlation_id;
extern char *es_guc_traceparent;

/* whether folds start from snapshots */
extern bool es_guc_use_snapshots;

/* where a test has us wait: see waitpoint.c */
extern char *es_guc_wait_point;

/* which way into the events table: see log.c */
typedef enum EsLogPath
{
	ES_LOG_PATH_AUTO,
	ES_LOG_PATH_HEAP,
	ES_LOG_PATH_SPI
}			EsLogPath;

extern int	es_guc_log_path;

extern void es_guc_init(void);
extern void es_guc_set_for_now(const char *name, const char *value);
extern void es_guc_pin_text(void);

#endif							/* ES_GUC_H */
