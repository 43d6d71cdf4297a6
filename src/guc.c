/*-------------------------------------------------------------------------
 *
 * guc.c
 *		The settings, eventsourcing.*
 *
 * A setting is a plain variable here; modules read it and never write it.  What
 * code of ours or of the owner's needs of settings, PostgreSQL's too, they set for
 * as long as it runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "guc.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"

char	   *es_guc_store;
char	   *es_guc_actor;
char	   *es_guc_causation_id;
int			es_guc_clock_offset;
char	   *es_guc_command_id;
char	   *es_guc_correlation_id;
char	   *es_guc_databases;
int			es_guc_naptime;
bool		es_guc_notify;
char	   *es_guc_traceparent;
bool		es_guc_use_snapshots;
char	   *es_guc_wait_point;
int			es_guc_log_path;

static const struct config_enum_entry log_paths[] = {
	{"auto", ES_LOG_PATH_AUTO, false},
	{"heap", ES_LOG_PATH_HEAP, false},
	{"spi", ES_LOG_PATH_SPI, false},
	{NULL, 0, false}
};

static void
define_string(const char *name, const char *description, char **variable,
			  const char *boot)
{
	DefineCustomStringVariable(name, description, NULL, variable, boot,
							   PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * Sets any setting until the nest level that the caller opened ends.
 */
void
es_guc_set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Has values be written as the same text in every session, likewise.  What is in
 * force already is left alone: to set it would cost more than many a function.
 */
void
es_guc_pin_text(void)
{
	if (bytea_output != BYTEA_OUTPUT_HEX)
		es_guc_set_for_now("bytea_output", "hex");
	if (DateStyle != USE_ISO_DATES)
		es_guc_set_for_now("datestyle", "ISO");
	if (extra_float_digits < 1)
		es_guc_set_for_now("extra_float_digits", "1");
	if (IntervalStyle != INTSTYLE_POSTGRES)
		es_guc_set_for_now("intervalstyle", "postgres");
	if (strcmp(pg_get_timezone_name(session_timezone), "UTC") != 0)
		es_guc_set_for_now("timezone", "UTC");
}

/*
 * Defines every setting.  Called once, when the library is loaded.
 */
void
es_guc_init(void)
{
	define_string("eventsourcing.actor",
				  "Who acts: metadata key \"actor\" of the events appended.",
				  &es_guc_actor, "");
	define_string("eventsourcing.causation_id",
				  "What caused it: metadata key \"causation_id\" of the events appended.",
				  &es_guc_causation_id, "");
	DefineCustomIntVariable("eventsourcing.clock_offset",
							"Moves the clock of leases, retries and timers on, for tests.",
							NULL, &es_guc_clock_offset, 0, INT_MIN, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
	define_string("eventsourcing.command_id",
				  "The command: metadata key \"command_id\" of the events appended.",
				  &es_guc_command_id, "");
	define_string("eventsourcing.correlation_id",
				  "What it belongs to: metadata key \"correlation_id\" of the events appended.",
				  &es_guc_correlation_id, "");
	DefineCustomStringVariable("eventsourcing.databases",
							   "The databases that have a worker, separated by commas.",
							   "It takes eventsourcing in shared_preload_libraries.",
							   &es_guc_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomIntVariable("eventsourcing.naptime",
							"How long the worker sleeps at most when nothing wakes it.",
							NULL, &es_guc_naptime, 5000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("eventsourcing.notify",
							 "Whether the worker sends NOTIFY eventsourcing when there are new events.",
							 "The payload is the store's name. Bursts of events make one notification.",
							 &es_guc_notify, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("eventsourcing.log_path",
							 "Which way events are appended and read.",
							 "\"heap\" goes past SQL or fails, \"spi\" always uses SQL, \"auto\" goes past it where that makes no difference.",
							 &es_guc_log_path, ES_LOG_PATH_AUTO, log_paths,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	define_string("eventsourcing.store",
				  "The store that the functions work on: the name of its schema.",
				  &es_guc_store, "es");
	define_string("eventsourcing.traceparent",
				  "W3C trace context: metadata key \"traceparent\" of the events appended.",
				  &es_guc_traceparent, "");
	DefineCustomBoolVariable("eventsourcing.use_snapshots",
							 "Whether loading a stream starts from its newest usable snapshot.",
							 "Off is for comparing: the result is the same.",
							 &es_guc_use_snapshots, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("eventsourcing.wait_point",
							   "Where to wait for an advisory lock, for tests.",
							   NULL, &es_guc_wait_point, "",
							   PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
	MarkGUCPrefixReserved("eventsourcing");
}
