# Projections in every state, dumped and restored, and on a standby that is
# promoted: each goes on where it stood, with nothing lost or counted twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'autovacuum = off');
$primary->start;
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', 'CREATE DATABASE source');

# Each state has a table and a projection of its name; all do the same.
my @states = qw(inline paused async building failed stopped rebuilding altered);
$primary->safe_psql('source', q{
	CREATE EXTENSION eventsourcing;
	CREATE SCHEMA "Read Models";
	SET search_path = "Read Models", public;
	SELECT es_create_store();
	SELECT es_append('A-' || i % 7, 'T', jsonb_build_object('n', i)) FROM generate_series(1, 50) i;
	} . join("\n", map {
		my $mode = /inline|paused|rebuilding/ ? 'inline' : 'async';
		qq{CREATE TABLE "$_" (stream text PRIMARY KEY, events int, amount bigint);
		   SELECT es_create_projection('$_', mode => '$mode', tables => '{"$_"}', types => '{T}', script => \$\$
			INSERT INTO "$_" AS t SELECT stream, 1, (data ->> 'n')::bigint FROM new_events
			ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount\$\$);}
	} @states) . q{
	SELECT es_pause_projection('paused');
	SELECT es_pause_projection('stopped');
	SELECT es_pause_projection('building');
	ALTER TABLE failed ADD CHECK (amount < 500);
	CALL es_run();
	SELECT es_alter_projection('altered', types => '{T,U}', rebuild => true);
	SELECT es_append('A-' || i % 5, 'T', jsonb_build_object('n', 100)) FROM generate_series(1, 20) i;
	CALL es_run();
	SELECT es_append('A-' || i % 5, 'T', jsonb_build_object('n', 100)) FROM generate_series(1, 20) i;
	UPDATE es.projection_definitions SET state = 'building' WHERE name = 'building';
});

# A rebuild that was killed leaves its shadows.
my $hold = Session->new($primary, '-d', $primary->connstr('source'));
my $victim = Session->new($primary, '-d', $primary->connstr('source'));
$hold->query(q{SELECT pg_advisory_lock(hashtext('rebuild: filled'))});
my $pid = $victim->query(q{SET eventsourcing.wait_point = 'rebuild: filled'; SELECT pg_backend_pid()});
$victim->send(q{CALL es_rebuild('rebuilding')});
$primary->poll_query_until('source',
	"SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND NOT granted)")
  or die 'the rebuild does not come to where it waits';
$primary->safe_psql('source', "SELECT pg_terminate_backend($pid)");
$_->quit for $hold, $victim;

my $list = 'SELECT name, mode, granularity, state, position, lag, events, failures, last_error, altered, types FROM es.projections ORDER BY name';
my %tables = map { $_ => qq{SELECT * FROM "Read Models"."$_" ORDER BY 1} } @states;
my $expected = $primary->safe_psql('source', $list);
is($expected =~ s/^(\w+)\|\w+\|\w+\|(\w+)\|.*?$/$1 $2/mgr =~ s/\n(?!\w+ \w+$)[^\n]*//mgr,
	"altered running\nasync running\nbuilding building\nfailed failed\ninline running\npaused paused\nrebuilding running\nstopped paused",
	'there is one in every state');

# The state of one database against that of the source, and on from there.
sub same
{
	my ($what, $node, $db) = @_;

	is($node->safe_psql($db, $list), $expected, "$what: the projections");
	is($node->safe_psql($db, $tables{$_}), $primary->safe_psql('source', $tables{$_}), "$what: table $_") for @states;
	return;
}

sub goes_on
{
	my ($what, $node, $db) = @_;

	$node->safe_psql($db, q{
		SELECT es_append('B-1', 'T', '{"n": 3}');
		ALTER TABLE "Read Models".failed DROP CONSTRAINT failed_amount_check;
		SELECT es_resume_projection(name) FROM es.projections;
		CALL es_run();
		CALL es_rebuild('altered');
		CALL es_rebuild('rebuilding')});
	is($node->safe_psql($db, q{SELECT string_agg(DISTINCT state || lag || altered, ' ') FROM es.projections}),
		'running0false', "$what: all are up to date");
	for my $state (@states)
	{
		is($node->safe_psql($db, qq{SELECT * FROM es_verify_projection('$state')}), '', "$what: $state is what its events make");
		is($node->safe_psql($db, qq{SELECT sum(events) FROM "Read Models"."$state"}), 91, "$what: $state counts each event once");
	}
	is($node->safe_psql($db, q{SELECT count(*) FROM pg_class WHERE relname ~ '^rebuild_'}), 0, "$what: no shadow is left");
	is($node->safe_psql($db, q{SELECT * FROM es_verify() WHERE detail NOT LIKE 'fsync%'}), '', "$what: the log is well");
	return;
}

# A standby shows all, and refuses what writes.
$primary->wait_for_catchup($standby);
same('standby', $standby, 'source');
is($standby->safe_psql('source', q{SELECT name, phase FROM es.progress}), 'rebuilding|interrupted', 'standby: es.progress');
is($standby->safe_psql('source', q{CALL es_wait('inline', 90)}), '', 'standby: es_wait() for what is there');
for my $sql (q{CALL es_run()}, q{CALL es_rebuild('inline')}, q{SELECT * FROM es_verify_projection('inline')},
	q{SELECT es_pause_projection('inline')}, q{SELECT es_resume_projection('paused')},
	q{SELECT es_alter_projection('inline')}, q{SELECT es_drop_projection('inline')},
	q{SELECT es_create_projection('x', 'SELECT 1', '{"\"Read Models\".inline"}')})
{
	my (undef, undef, $stderr) = $standby->psql('source', "\\set VERBOSITY sqlstate\n$sql");
	like($stderr, qr/ERROR:  25006/, "standby: $sql");
}

# Dumped, and restored with other OIDs.
my $dump = "$PostgreSQL::Test::Utils::tmp_check/projections.dump";
$primary->run_log([ 'pg_dump', '-Fc', '-f', $dump, '-d', $primary->connstr('source') ]);
$primary->safe_psql('postgres', 'CREATE DATABASE target');
$primary->safe_psql('target', 'SELECT lo_create(0) FROM generate_series(1, 20)');
$primary->command_ok([ 'pg_restore', '--exit-on-error', '-d', $primary->connstr('target'), $dump ], 'restored');
same('restored', $primary, 'target');
goes_on('restored', $primary, 'target');

# Promoted, the standby goes on.
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;
goes_on('promoted', $standby, 'source');

$standby->stop;
done_testing();
