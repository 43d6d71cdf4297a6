# Read model = fold of the history: for random histories, granularities and ways
# to run, while the projections are paused and resumed, rebuilt, run by two
# runners and the server crashes.  And no update of a read model that many streams
# share is lost under eight writers.
#
# What a read model has to be is computed from the log by plain SQL.  Its rows
# keep the order in which events came, so that one which came early, late, twice
# or never shows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Crash;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant {
	WRITERS => 8,
	CALLS => 60,     # of each writer in a round
	STREAMS => 12,
	CUSTOMERS => 3,
};

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
autovacuum = off
deadlock_timeout = 100ms
});
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

my $seed = $ENV{SEED} // time % 100_000;
note("seed $seed (set SEED to repeat)");

# A little generator of our own, so that a seed means the same everywhere.
sub generator
{
	my ($state) = @_;
	return sub { $state = ($state * 1103515245 + 12345) % 2**31; return ($state >> 16) % $_[0]; };
}

# For every mode and granularity a projection with two tables: one by stream that
# remembers the order of versions, and one by customer, over all streams.
my @projections;
query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');
for my $mode (qw(inline async))
{
	for my $granularity (qw(event stream batch))
	{
		my $name = "${mode}_$granularity";
		push @projections, $name;
		query(qq{
			CREATE TABLE ${name}_s (stream text PRIMARY KEY, n int NOT NULL, versions text NOT NULL);
			CREATE TABLE ${name}_c (customer int PRIMARY KEY, n int NOT NULL, total bigint NOT NULL);
			SELECT es_create_projection('$name', mode => '$mode', granularity => '$granularity',
				tables => '{${name}_s,${name}_c}', types => '{Paid,Sent}', script => \$\$
				INSERT INTO ${name}_s AS s
				SELECT stream, count(*), string_agg(version::text, ',' ORDER BY version) FROM new_events GROUP BY stream
				ON CONFLICT (stream) DO UPDATE SET n = s.n + EXCLUDED.n, versions = s.versions || ',' || EXCLUDED.versions;
				INSERT INTO ${name}_c AS c
				SELECT (data ->> 'customer')::int, count(*), sum((data ->> 'cents')::bigint) FROM new_events
				 WHERE type = 'Paid' GROUP BY 1 ORDER BY 1
				ON CONFLICT (customer) DO UPDATE SET n = c.n + EXCLUDED.n, total = c.total + EXCLUDED.total
			\$\$)});
	}
}

my %fold = (
	s => q{SELECT stream, count(*)::int, string_agg(version::text, ',' ORDER BY version)
	         FROM es.events WHERE type IN ('Paid', 'Sent') GROUP BY 1},
	c => q{SELECT (data ->> 'customer')::int, count(*)::int, sum((data ->> 'cents')::bigint)::bigint
	         FROM es.events WHERE type = 'Paid' GROUP BY 1});

# What one writer does: appends of all sorts, in transactions of all sorts.
sub script
{
	my ($rand) = @_;
	my $sql = "\\set ON_ERROR_STOP 0\n";
	my $event = sub {
		return (q{{"type": "Paid", "data": {"customer": %d, "cents": %d}}}, q{{"type": "Sent"}}, q{{"type": "Noted"}})[ $rand->(4) % 3 ]
		  =~ s/%d/$rand->(CUSTOMERS)/er =~ s/%d/$rand->(1000)/er;
	};
	my $append = sub {
		my $events = join ', ', map { $event->() } 0 .. ($rand->(3) ? 0 : $rand->(5));
		return "SELECT es_append_events('S-" . $rand->(STREAMS) . "', '[$events]');\n";
	};

	for (1 .. CALLS)
	{
		my $kind = $rand->(10);
		my $level = $rand->(6) ? '' : ' ISOLATION LEVEL ' . ($rand->(2) ? 'REPEATABLE READ' : 'SERIALIZABLE');
		$sql .=
		    $kind < 4 ? $append->()
		  : $kind < 6 ? "BEGIN$level; " . $append->() . $append->() . "COMMIT;\n"
		  : $kind < 7 ? "BEGIN$level; " . $append->() . "ROLLBACK;\n"
		  : $kind < 9 ? "BEGIN$level; " . $append->() . 'SAVEPOINT s; ' . $append->() . 'ROLLBACK TO s; ' . $append->() . "COMMIT;\n"
		  : "BEGIN; SAVEPOINT s; " . $append->() . 'ROLLBACK TO s; SAVEPOINT s; ' . $append->() . 'RELEASE s; ' . $append->() . "COMMIT;\n";
	}
	return $sql;
}

# What is done to the projections meanwhile.
sub upheaval
{
	my ($rand) = @_;
	my $sql = "\\set ON_ERROR_STOP 0\n";

	for (1 .. 6)
	{
		my $name = $projections[ $rand->(scalar @projections) ];
		my $kind = $rand->(4);
		$sql .=
		    $kind == 0 ? "SELECT es_pause_projection('$name'); SELECT es_resume_projection('$name');\n"
		  : $kind == 1 ? "CALL es_rebuild('$name', " . (1 + $rand->(100)) . ");\n"
		  : $kind == 2 ? "SELECT es_pause_projection('$name'); CALL es_rebuild('$name'); SELECT es_resume_projection('$name');\n"
		  : "CALL es_run();\n";
	}
	return $sql;
}

sub start
{
	my ($label, $sql) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/property_$label";

	append_to_file("$base.sql", $sql);
	return {
		out => "$base.out",
		err => "$base.err",
		run => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$base.sql" ],
			'>', "$base.out", '2>', "$base.err")
	};
}

# Returns the errors that have another reason than the concurrency itself.
sub bad_errors
{
	return grep { !/deadlock detected|could not serialize|current transaction is aborted|is being rebuilt by another|savepoint "s" does not exist/ }
	  map { slurp_file($_->{err}) =~ /ERROR:.*/g } @_;
}

sub check
{
	my ($what) = @_;

	query('SELECT es_resume_projection(name) FROM es.projections; CALL es_run()');
	is(query(q{SELECT string_agg(DISTINCT state || ' ' || lag, ',') FROM es.projections}), 'running 0', "$what: all are up to date");
	for my $name (@projections)
	{
		is(query("(TABLE ${name}_$_ EXCEPT ALL $fold{$_}) UNION ALL ($fold{$_} EXCEPT ALL TABLE ${name}_$_)"),
			'', "$what: $name, by " . ($_ eq 's' ? 'stream' : 'customer'))
		  for qw(s c);
		is(query("SELECT * FROM es_verify_projection('$name')"), '', "$what: $name verifies");
	}
	return;
}

for my $round (1 .. 3)
{
	my @sessions = map { start("${round}_$_", script(generator($seed + 100 * $round + $_))) } 1 .. WRITERS;
	push @sessions, map { start("${round}_upheaval_$_", upheaval(generator($seed + 100 * $round + 50 + $_))) } 1 .. 2;

	if ($round == 2)
	{
		# a server process dies when some work has been done, and so all do
		my $before = query('SELECT es_head_position()');
		$node->poll_query_until('postgres', "SELECT es_head_position() > $before + 100") or die 'does not get on';
		kill_process($node, q{SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
		eval { $_->{run}->finish } for @sessions;
		check('after a crash');
	}
	else
	{
		$_->{run}->finish for @sessions;
		is(join("\n", bad_errors(@sessions)), '', "round $round: nothing failed that must not");
		check("round $round");
	}
}
note(query('SELECT count(*) FROM es.events') . ' events');

# One more of each kind over what is there by now.
my @more;
for my $name (@projections)
{
	my ($mode, $granularity) = split /_/, $name;
	push @more, "late_$name";
	query(qq{
		CREATE TABLE late_${name}_s (LIKE ${name}_s INCLUDING ALL);
		CREATE TABLE late_${name}_c (LIKE ${name}_c INCLUDING ALL);
		SELECT es_create_projection('late_$name', mode => '$mode', granularity => '$granularity',
			tables => '{late_${name}_s,late_${name}_c}', types => '{Paid,Sent}',
			script => replace(replace(script, '${name}_s', 'late_${name}_s'), '${name}_c', 'late_${name}_c'))
		  FROM es.projection_definitions WHERE name = '$name'});
}
@projections = @more;
check('created over the history');

$node->stop;
done_testing();
