# eventsourcing: an event store inside PostgreSQL.
#
#   make && make install && make installcheck     with any PG_CONFIG=...
#   make indent      lay out the C files
#   make typedefs    collect the types that indent knows, after a build
#   make checkver    the version stands in several files: do they agree?
#   make dist        the archive for PGXN
#
# installcheck starts private servers of its own; none has to be running.

EXTENSION    = eventsourcing
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(srcdir_or_dot)/eventsourcing.control)
srcdir_or_dot = $(if $(srcdir),$(srcdir),.)

MODULE_big   = eventsourcing
OBJS = \
	src/aggregate.o \
	src/append.o \
	src/append_input.o \
	src/attempt.o \
	src/capture.o \
	src/catalog.o \
	src/clock.o \
	src/consume.o \
	src/context.o \
	src/decider.o \
	src/delivery.o \
	src/eventsourcing.o \
	src/fence.o \
	src/floor.o \
	src/fold.o \
	src/guard.o \
	src/guc.o \
	src/handler.o \
	src/import.o \
	src/launcher.o \
	src/lease.o \
	src/log.o \
	src/log_heap.o \
	src/log_heap_scan.o \
	src/log_shape.o \
	src/log_spi.o \
	src/log_tips.o \
	src/owner.o \
	src/projection.o \
	src/projection_async.o \
	src/projection_inline.o \
	src/projection_rows.o \
	src/projection_slice.o \
	src/queue.o \
	src/read.o \
	src/rebuild.o \
	src/reducer.o \
	src/replay.o \
	src/rules.o \
	src/rules_apply.o \
	src/rules_event.o \
	src/rules_sql.o \
	src/rules_value.o \
	src/run.o \
	src/schedule.o \
	src/script.o \
	src/shadow.o \
	src/shadow_swap.o \
	src/state.o \
	src/state_compare.o \
	src/state_jsonb.o \
	src/state_number.o \
	src/snapshot.o \
	src/snapshot_find.o \
	src/store.o \
	src/store_query.o \
	src/subscription.o \
	src/upcast.o \
	src/waitpoint.o \
	src/wake.o \
	src/watermark.o \
	src/worker.o \
	src/work.o

# The pieces of the install script, in load order.
INSTALL_SQL = \
	src/header.sql \
	src/event.sql \
	src/rules.sql \
	src/tables.sql \
	src/guard.sql \
	src/store.sql \
	src/subscription.sql \
	src/handler.sql \
	src/schedule.sql \
	src/trace.sql \
	src/append.sql \
	src/read.sql \
	src/projection.sql \
	src/rebuild.sql \
	src/run.sql \
	src/aggregate.sql \
	src/snapshot.sql \
	src/replay.sql \
	src/decider.sql \
	src/inspect.sql \
	src/upcast.sql \
	src/verify.sql \
	src/capture.sql \
	src/interchange.sql \
	src/import.sql \
	src/testing.sql

DATA         = $(wildcard src/updates/*--*.sql)
DATA_built   = $(EXTENSION)--$(EXTVERSION).sql

PG_CPPFLAGS  = -I$(srcdir_or_dot)/src
PG_CFLAGS    = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare

# Tests run on private servers with these settings; the TAP tests find them in
# the environment.
TEMP_CONFIG ?= $(abspath $(srcdir_or_dot)/test/eventsourcing.conf)
export TEMP_CONFIG
TEMP         = --temp-config=$(TEMP_CONFIG) --load-extension=$(EXTENSION)

REGRESS = \
	append \
	append_tips \
	append_triggers \
	capture \
	guard \
	handlers \
	inspect \
	decider \
	interchange \
	log_path \
	partition \
	projection \
	projection_async \
	projection_rebuild \
	read \
	replay \
	rights \
	row_security \
	rules \
	rules_reference \
	search_path \
	security \
	snapshot \
	snapshot_find \
	upcast \
	store \
	subscriptions \
	trace \
	traps \
	verify
REGRESS_OPTS = --encoding=UTF8 --temp-instance=./tmp_regress $(TEMP)

ISOLATION = \
	aggregate_changed \
	append_any \
	append_batch \
	append_cursor \
	append_deadlock \
	append_expected \
	append_gave_way \
	append_hot \
	append_removed \
	append_repeatable_read \
	append_retry \
	append_rivals \
	append_savepoint \
	capture \
	execute \
	log_path \
	lookup_interrupted \
	projection_create \
	projection_rebuild \
	projection_run \
	read_all \
	snapshot_altered \
	snapshot_repeatable_read \
	snapshots \
	store_dropped \
	store_recreated \
	subscription_ack \
	subscription_admin \
	subscriptions
ISOLATION_OPTS = --inputdir=$(srcdir_or_dot)/test/isolation --temp-instance=./tmp_isolation $(TEMP)

TAP_TESTS    = 1
PROVE_TESTS ?= test/t/*.pl

EXTRA_CLEAN  = $(EXTENSION)--*.sql $(EXTENSION)-*.zip tmp_* output_iso results

# clang is only needed for the bitcode that JIT inlining uses
override with_llvm = no

PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# A database in any encoding has to be able to read this.
$(DATA_built): $(INSTALL_SQL)
	@if LC_ALL=C grep -n '[^[:print:][:space:]]' $^; then echo "only ASCII, please" >&2; exit 1; fi
	cat $^ > $@

# A build outside of the source tree has no folder for the objects yet.
$(OBJS): | $(CURDIR)/src
$(CURDIR)/src:
	mkdir -p $@

# Any header may matter to any object.
$(OBJS): $(wildcard $(srcdir)/src/*.h)

all: checkver

checkver:
	@changelog=$$(sed -n 's/^## \([^ ]*\).*/\1/p' $(srcdir)/CHANGELOG.md | head -n 1); \
	meta=$$(sed '/"meta-spec"/,/}/d' $(srcdir)/META.json | sed -n 's/.*"version": *"\(.*\)".*/\1/p'); \
	for version in "CHANGELOG.md:$$changelog" $${meta:-none} ; do \
		test "$${version#*:}" = '$(EXTVERSION)' || \
			{ echo "version $$version, but eventsourcing.control has $(EXTVERSION)" >&2; exit 1; }; \
	done

indent:
	$(srcdir)/script/indent

typedefs: $(OBJS)
	$(srcdir)/script/typedefs $(OBJS)

dist: checkver
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD

.PHONY: checkver indent typedefs dist

# make -s print-REGRESS, for scripts that want a list
print-%:
	@echo $($*)
