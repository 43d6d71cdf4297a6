# Schemas, stores, roles, tables and what is kept in a store may have any name: a
# tour of the extension gives the same where every name is odd as where all are
# plain.
#
# Would fail: a name that is taken for a part of a format, a pattern, a regular
# expression or a placeholder, or stands in SQL without quotes, or is folded.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '-E', 'UTF8' ]);
$node->start;

# PostgreSQL itself does not take " $ ' \ in the name of an extension's schema.
my %plain = map { $_ => $_ } qw(ext store other role app tab col key shop);
my $odd = q{%s %1I %% {es} _ $1 $$ $ddl$ :x .*( 'q' "q" \\n};
my %odd = map { $_ => "$_ $odd" } keys %plain;
$odd{ext} = 'Ext 100%s %I %1I %% {es} _ :x .*(';

my $tour = q{
	CREATE ROLE :"role";
	CREATE SCHEMA :"ext";
	CREATE EXTENSION eventsourcing SCHEMA :"ext";
	CREATE SCHEMA :"app";
	SELECT set_config('search_path', format('%I, %I', :'app', :'ext'), false) IS NULL;
	SELECT es_create_store(:'store'), es_create_store(:'other');
	SELECT set_config('eventsourcing.store', :'store', false) = es_current_store()::text;
	SELECT es_grant(:'role', 'reader'), es_grant(:'role', 'writer'), es_grant(:'role', 'consumer');
	SELECT es_create_index(kind) FROM unnest('{category,type,tags,streams,correlation}'::text[]) kind;

	-- aggregates, upcasters
	CREATE FUNCTION :"app".:"key"(state jsonb, event es_event) RETURNS jsonb IMMUTABLE LANGUAGE sql
		RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1);
	SELECT es_create_aggregate('Applied', format('%I.%I(jsonb, es_event)', :'app', :'key')::regprocedure, snapshot_every => 2);
	SELECT es_create_aggregate(:'shop', rules => jsonb_build_object(:'key', jsonb_build_object('$inc', '{"n": 1}'::jsonb)), snapshot_every => 2);
	CREATE FUNCTION :"app".:"col"(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql RETURN data || '{"lifted": true}';
	SELECT es_create_upcaster('Old', 1, format('%I.%I(jsonb)', :'app', :'col')::regprocedure);
	SELECT es_rename_type(:'tab', :'key');
	SELECT es_append('Applied-' || g % 2, 'Old') FROM generate_series(1, 6) g;
	SELECT es_append(:'shop' || '-' || g % 2, :'key', tags => ARRAY[:'col']) FROM generate_series(1, 6) g;
	SELECT version, state FROM es_load('Applied-1') UNION ALL SELECT version, state FROM es_load(:'shop' || '-1') ORDER BY 1;
	SELECT count(*) FROM es_read_all(0, NULL, :'shop', ARRAY[:'key'], ARRAY[:'col']);
	SELECT version, data FROM es_read('Applied-1');
	SELECT es_bisect('Applied-1', $$state->>'n' = '2'$$), es_bisect(:'shop' || '-1', format($$state->>'n' = '3' AND %L <> ''$$, :'app'));
	SELECT version, state_before, state_after FROM es_replay(:'shop' || '-0');

	-- read models
	CREATE TABLE :"app".:"tab" (:"col" text PRIMARY KEY, n int CONSTRAINT :"key" CHECK (n > 0));
	CREATE TABLE :"app".later (LIKE :"app".:"tab" INCLUDING ALL);
	CREATE INDEX :"shop" ON :"app".:"tab" (n);
	SELECT es_create_projection(:'col', format('INSERT INTO %1$I AS t SELECT stream, 1 FROM new_events
			ON CONFLICT (%2$I) DO UPDATE SET n = t.n + 1', :'tab', :'col'), ARRAY[format('%I', :'tab')::regclass]);
	SELECT es_create_projection(:'key', format('INSERT INTO later AS t SELECT stream, 1 FROM new_events
			ON CONFLICT (%1$I) DO UPDATE SET n = t.n + 1', :'col'), '{later}', types => ARRAY[:'key'], mode => 'async');
	SELECT es_append(:'shop' || '-1', :'key');
	CALL es_run();
	CALL es_run(:'key');
	CALL es_wait(:'key', timeout => '0s');
	CALL es_rebuild(:'col');
	CALL es_rebuild(:'key');
	SELECT * FROM es_verify_projection(:'col');
	SELECT * FROM es_verify_projection(:'key');
	SELECT es_pause_projection(:'key'), es_resume_projection(:'key');
	SELECT n FROM :"app".:"tab" ORDER BY 1;
	SELECT n FROM :"app".later ORDER BY 1;

	-- consumers, timers
	SELECT es_create_subscription(:'tab', category => :'shop', types => ARRAY[:'key'], tags => ARRAY[:'col']);
	SELECT version, attempt FROM es_fetch(:'tab', :'role', 2);
	SELECT es_nack(:'tab', :'role', (SELECT max(p) FROM :"store".leases, unnest(positions) p), :'col', park => true);
	SELECT attempts, error = :'col' FROM :"store".parked;
	SELECT es_unpark(:'tab', stream) FROM :"store".parked;
	SELECT es_create_handler(:'col', format('SELECT es_append(%L || stream, type) FROM new_events', :'key'), category => :'shop');
	SELECT es_schedule('2001-01-01', :'shop' || '-9', :'key', key => :'key'), es_cancel(:'tab') \gset
	CALL es_run();
	SELECT name = :'col', lag >= 0, parked, waiting FROM :"store".subscriptions ORDER BY 1;
	SELECT depth, label IN (:'key', '  ' || :'key') FROM es_trace((SELECT min(position)::text FROM :"store".events WHERE type = :'key'));
	SELECT count(*) FROM :"store".scheduled;
	SELECT es_drop_subscription(name) FROM :"store".subscriptions;

	-- deciders, tables
	CREATE FUNCTION :"app".:"shop"(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql
		RETURN jsonb_build_array(jsonb_build_object('type', command));
	SELECT es_create_decider(:'shop', format('%I.%I(jsonb, text, jsonb)', :'app', :'shop')::regprocedure);
	SELECT * FROM es_execute(:'shop' || '-1', :'key');
	CREATE TABLE :"app".captured (:"key" text PRIMARY KEY, n int);
	INSERT INTO :"app".captured VALUES (:'tab', 1);
	SELECT es_capture('captured', :'tab', :'key');
	UPDATE :"app".captured SET n = 2;
	INSERT INTO :"app".captured VALUES (:'shop', 1);
	SELECT version, data - :'key' FROM es_read(:'tab' || '-' || :'tab');
	SELECT version, state - :'key' FROM es_load(:'tab' || '-' || :'shop');
	\set ON_ERROR_STOP off
	\set VERBOSITY sqlstate
	TRUNCATE :"app".captured;
	\set ON_ERROR_STOP on
	SELECT es_uncapture('captured');

	-- as somebody else, and in the other store
	GRANT USAGE ON SCHEMA :"ext" TO :"role";
	SET ROLE :"role";
	SELECT es_append(:'shop' || '-1', :'key'), version > 0 FROM es_load(:'shop' || '-1');
	SELECT es_cloudevent(e, 'x') - '{id,time,subject,type}'::text[] FROM es_read(:'shop' || '-1', 1, 1) e;
	RESET ROLE;
	BEGIN;
	SELECT es_append(:'shop' || '-1', :'key');
	SELECT count(*) FROM :"store".open_appends;
	COMMIT;
	SELECT count(*), bool_and(category <> '') FROM :"store".streams;
	SELECT count(*) FROM :"store".outbox;
	SELECT count(*) > 0 FROM :"store".counters;
	SELECT count(*) FROM :"store".progress;
	SELECT set_config('eventsourcing.store', :'other', false) = es_current_store()::text;
	SELECT es_append('A-1', 'X', expected_version => 0);

	-- keeping it
	SELECT es_advance_watermark() > 0;
	SELECT es_repair_sequence();
	SELECT es_upgrade_store(:'store'), es_upgrade_store(:'other');
	SELECT relation, problem, detail FROM es_verify() WHERE problem <> 'a setting breaks a promise';
	SELECT es_drop_store(:'other', confirm => true), es_drop_store(:'store', confirm => true);
	DROP SCHEMA :"app" CASCADE;
	DROP EXTENSION eventsourcing;
	DROP OWNED BY :"role";
	DROP ROLE :"role";
	DROP SCHEMA :"ext";
};

# What the tour prints in a database of its own.
sub take_tour
{
	my ($database, $names) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my ($code, $out, $err) = $node->psql($database, "SET client_min_messages = warning;\n$tour",
		extra_params => [ '-a', map { ('-v', "$_=$names->{$_}") } sort keys %$names ]);
	is($code, 0, "the tour with names that are $database comes to its end") or diag(substr($out, -300), $err);
	return $out;
}

my $plain = take_tour('plain', \%plain);
my $result = take_tour('odd', \%odd);
is($result, $plain, 'names make no difference');
cmp_ok(scalar(() = $plain =~ /\n/g), '>', 150, 'the tour is not empty');

$node->stop;
done_testing();
