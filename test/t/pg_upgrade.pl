# pg_upgrade from an older PostgreSQL takes a store along: events, states,
# snapshots, read models, cursors, what is parked and what is scheduled; and all of
# it goes on from where it stood.
#
# ES_OLD_POSTGRES is where the older version is, with the extension; script/test
# --all-versions sets it for the versions in chroots.
#
# Would fail: anything of the store that pg_upgrade refuses or loses; a version or
# position that is given again; a projection, subscription or timer that starts
# over, stops, or takes an event twice; a guard that is gone.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_path = $ENV{ES_OLD_POSTGRES};
plan skip_all => 'there is no older PostgreSQL here to upgrade from' unless $old_path;

# The older server has the extension among its own files.
my $old;
{
	local $ENV{TEMP_CONFIG};
	$old = PostgreSQL::Test::Cluster->new('old', install_path => $old_path);
	$old->init(extra => ['-k']);
}
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => ['-k']);
cmp_ok($old->pg_version, '<', $new->pg_version, 'from ' . $old->pg_version . ' to ' . $new->pg_version);

$old->start;
$old->safe_psql('postgres', q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE ROLE app;
	SELECT es_grant('app', 'writer');
	CREATE TABLE counts (stream text PRIMARY KEY, n bigint);
	CREATE TABLE totals (stream text PRIMARY KEY, n bigint);
	CREATE TABLE handled (position bigint, stream text);
	CREATE FUNCTION fold(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + (event.data ->> 'by')::int) $$;
	CREATE FUNCTION lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT data || '{"by": 1}' $$;
	CREATE FUNCTION decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_array(jsonb_build_object('type', command)) $$;
	SELECT es_create_upcaster('X', 1, 'lift(jsonb)');
	SELECT es_create_aggregate('A', rules => '{"X": {"$inc": {"n": "$.by"}}}', snapshot_every => 10);
	SELECT es_create_aggregate('F', 'fold(jsonb, es_event)', snapshot_every => 10);
	SELECT es_create_decider('A', 'decide(jsonb, text, jsonb)');
	SELECT es_create_projection('counts', 'INSERT INTO counts SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = counts.n + 1', '{counts}');
	SELECT es_create_projection('totals', 'INSERT INTO totals SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = totals.n + 1', '{totals}', mode => 'async');
	SELECT es_create_handler('handler', 'INSERT INTO handled SELECT position, stream FROM new_events');
	SELECT es_create_subscription('s');

	SELECT es_append(c || n % 7, 'X', metadata => '{"$schema": 1}', event_id => md5(c || n)::uuid, tags => ARRAY[c])
	  FROM generate_series(1, 200) n, unnest('{A-,F-}'::text[]) c;
	CALL es_run();
	SELECT es_ack('s', 'c', array_agg(position)) FROM es_fetch('s', 'c', 100);
	SELECT es_nack('s', 'c', position, 'parked', park => true) FROM es_fetch('s', 'c', 1);
	SELECT es_append(c || n % 7, 'X', metadata => '{"$schema": 1}') FROM generate_series(1, 20) n, unnest('{A-,F-}'::text[]) c;
	BEGIN; SELECT es_append('A-1', 'X'); ROLLBACK;
	SELECT es_advance_watermark();
	SELECT es_schedule(now(), 'T-1', 'Rang', key => 'due'), es_schedule('2200-01-01', 'T-2', 'Late', key => 'late');

	SELECT es_create_store('other');
	SET eventsourcing.store = 'other';
	SELECT es_append('B-1', 'X') FROM generate_series(1, 5);
});

my $state = q{
	SELECT md5(string_agg(e::text, ',' ORDER BY position)), count(*), max(position) FROM es.events e;
	SELECT md5(string_agg(e::text, ',' ORDER BY position)), count(*) FROM other.events e;
	SELECT md5(string_agg(s::text, ',' ORDER BY stream, version)), count(*) FROM es.snapshots s;
	SELECT l.* FROM generate_series(0, 6) n, unnest('{A-,F-}'::text[]) c, es_load(c || n) l ORDER BY n, c;
	SELECT name, position, lag, leased, parked FROM es.subscriptions ORDER BY name;
	SELECT name, mode, granularity, state, position, lag FROM es.projections ORDER BY name;
	SELECT subscription, position, error FROM es.parked;
	SELECT key, stream, type FROM es.scheduled ORDER BY key;
	SELECT last_value, is_called FROM es.events_position_seq;
	SELECT position FROM es.watermark;
	SELECT * FROM counts ORDER BY stream;
	SELECT * FROM totals ORDER BY stream;
	SELECT count(*), md5(string_agg(position::text, ',' ORDER BY position)) FROM handled;
	SELECT es_safe_position(), es_head_position();
	SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'};
my $before = $old->safe_psql('postgres', $state);
my $sequence = $old->safe_psql('postgres', 'SELECT last_value FROM es.events_position_seq');

# Minor releases since 15.20 and 17.12 stamp every column; 18.6 takes no table with
# such columns, ours or not.  Then this is about columns as earlier ones made them.
my $stamps = q{FROM pg_attribute WHERE attoptions::text LIKE '%pg\_attver=%'};
$new->start;
if ($old->safe_psql('postgres', "SELECT count(*) $stamps") > 0 && $new->safe_psql('postgres', "SELECT count(*) $stamps") == 0)
{
	diag 'NOTE: no table can go from ' . $old->pg_version . ' to ' . $new->pg_version . ': tried without pg_attver';
	$old->safe_psql($_, q{SET allow_system_table_mods = on;
		UPDATE pg_attribute SET attoptions = nullif(array(SELECT o FROM unnest(attoptions) o WHERE o NOT LIKE 'pg\_attver=%'), '{}')
		 WHERE attoptions::text LIKE '%pg\_attver=%'}) foreach 'postgres', 'template1';
}
$new->stop;
$old->stop;

{
	my $bindir = `pg_config --bindir`;
	chomp $bindir;
	local %ENV = $new->_get_env;
	local $ENV{LD_LIBRARY_PATH} = "$old_path/lib";
	chdir PostgreSQL::Test::Utils::tempdir;
	ok( PostgreSQL::Test::Utils::run_log([ 'pg_upgrade', '--no-sync', '-b', "$old_path/bin", '-B', $bindir,
				'-d', $old->data_dir, '-D', $new->data_dir, '-s', $new->host, '-p', $old->port, '-P', $new->port ]),
		'pg_upgrade')
	  or do
	{
		# what went wrong, with the statement that did
		foreach my $log (glob $new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_dump_*.log')
		{
			note $1 if slurp_file($log) =~ /^(.*error:(?:.*\n){1,20})/m;
		}
		die 'pg_upgrade failed';
	};
}
$new->start;
sub sql { return $new->safe_psql('postgres', $_[0]); }

sub sqlstate
{
	my (undef, undef, $stderr) = $new->psql('postgres', "\\set VERBOSITY sqlstate\n$_[0]");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : '00000';
}

is(sql($state), $before, 'all is as it was, and es_verify() finds nothing');

# It goes on.
my $version = sql(q{SELECT es_stream_version('A-1')});
is(sqlstate(q{SELECT es_append('A-1', 'X', expected_version => 1)}), 'ZE001', 'the version check works');
is(sql(qq{SELECT es_append('A-1', 'X', metadata => '{"\$schema": 1}', expected_version => $version)}), $version + 1, 'the next version');
is(sql(q{SELECT es_append('A-1', 'X', metadata => '{"$schema": 1}', event_id => md5('A-1')::uuid)}), 1, 'an id is known');
cmp_ok(sql('SELECT es_head_position()'), '>', $sequence, 'the next position');
is(sql(q{SET ROLE app; SELECT es_append('A-99', 'X', metadata => '{"$schema": 1}')}), 1, 'rights came along');
is(sql(q{SELECT es_execute('A-99', 'Done', '{}')}), 2, 'so did the decider');
is(sql(q{SELECT state FROM es_load('A-99')}), '{"n": 1}', 'and the upcaster');
is(sqlstate($_), 'ZE005', "the guard refuses $_")
  for 'UPDATE es.events SET version = 7', 'DELETE FROM es.events', 'TRUNCATE es.events',
  q{INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (9999, 1, now(), 'A-9', 'X', '{}')};

sql('CALL es_run()');
sql('CALL es_run()');
is(sql(q{SELECT count(*) FROM es_read('T-1')}), 1, 'a timer fires');
my $events = sql('SELECT count(*) FROM es.events');
is(sql('SELECT sum(n) FROM counts'), $events, 'the inline projection goes on');
is(sql('SELECT sum(n) FROM totals'), $events, 'the async one, too');
is(sql('SELECT count(*), count(DISTINCT position) FROM handled'), "$events|$events", 'the handler handles each event once');
is(sql(q{SELECT count(*) FROM es.projections p CROSS JOIN LATERAL es_verify_projection(p.name)}), 0, 'read models are what the history makes');
is(sql('SELECT position = es_head_position() FROM es.watermark'), 't', 'es_run() has advanced the watermark');

# the 100 that were done, and the parked one with those behind it, don't come
my $parked = sql('SELECT count(*) FROM es.parked');
my $fetched = sql(q{SELECT count(es_ack('s', 'c', ARRAY[position])) FROM es_fetch('s', 'c', 10000)});
cmp_ok($parked, '>', 0, 'something is parked');
$parked = sql('SELECT count(*) FROM es.parked');
is(100 + $fetched + $parked, $events, 'the subscription goes on after what was done');
is(sql(q{SELECT es_unpark('s')}), $parked, 'what is parked comes back');
is(sql(q{SELECT count(es_ack('s', 'c', ARRAY[position])) FROM es_fetch('s', 'c', 10000)}), $parked, 'and is fetched');
sql(q{CALL es_rebuild('totals'); CALL es_rebuild('counts')});
is(sql('SELECT (SELECT sum(n) FROM counts), (SELECT sum(n) FROM totals)'), "$events|$events", 'rebuilds work');
is(sql(q{SET eventsourcing.store = 'other'; SELECT es_append('B-1', 'X', expected_version => 5)}), 6, 'so does the other store');
is(sql(q{SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'}), '', 'es_verify() finds nothing');

$new->stop;
done_testing();
