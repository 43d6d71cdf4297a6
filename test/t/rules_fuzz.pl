# Random rules, states and events against the slow reference, for a while: no
# wrong result, no crash, no leak.
#
# ES_SEED=n begins with that seed; script/test --seconds N goes on for longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "log_statement = none\nmax_stack_depth = 2MB");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eventsourcing;' . slurp_file('test/lib/rules_reference.sql'));

my $session = Session->new($node);
sub query
{
	my ($out, $err) = $session->query($_[0]);

	diag($err) if $err ne '';
	return $out;
}
query(q{
	SET search_path = reference, public;
	SET timezone = 'UTC';
	SET eventsourcing.store = 'fuzz'});
my $pid = query('SELECT pg_backend_pid()');

# What the session has allocated, without what the planner left for later.
sub allocated
{
	return query('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}

my $seed = $ENV{ES_SEED} // int rand 1e9;
srand($seed);
note("seed $seed");

my $until = time + ($ENV{ES_TEST_SECONDS} // 3);
my ($rounds, $settled, $grown, %total, %ends) = (0, 0, 0);
do
{
	my $round = sprintf '%.9f', rand;

	query(q{SELECT es_create_store('fuzz')});
	my ($same, $errors, $different) = split /\|/, query("SELECT * FROM compare(500, $round)");
	my ($events, $differ) = split /\|/, query("SELECT * FROM compare_folds(5, $round)");
	for (split /\n/, query("SELECT * FROM mangled(300, $round)"))
	{
		my ($state, $times) = split /\|/;
		$ends{$state} += $times;
	}
	query(q{SELECT es_drop_store('fuzz', confirm => true)});

	diag("different with seed $round") if $different || $differ;
	$total{compared} += $same + $errors + $events;
	$total{different} += $different + $differ;

	# the plans and caches of a session come with its first rounds
	$settled = allocated() if $rounds == 1;
	$grown = allocated() - $settled if $rounds > 1;
} while (++$rounds < 4 || time < $until);

cmp_ok($total{compared}, '>', 2000, 'results were compared');
is($total{different}, 0, 'and all are as the reference has them');
my @strange = grep { !/^(00000|22003|22023|22033|22036|22039|2203C|54000|54001)$/ } keys %ends;
is("@strange", '', 'mangled rules end in errors that tell why');
cmp_ok($ends{'00000'}, '>', 0, 'or work');
cmp_ok($ends{22023}, '>', 100, 'most of them are refused');
cmp_ok($grown, '<', 1024 * 1024, 'and nothing is left in memory') or diag("$grown bytes in $rounds rounds");
note("$rounds rounds, $total{compared} compared, $grown bytes; " . join ', ', map { "$_: $ends{$_}" } sort keys %ends);

# Within one fold: the memory is that of the state, not that of the events.
SKIP:
{
	skip 'needs /proc', 2 unless -r "/proc/$pid/status";
	my ($folded, $most) = (0, 0);

	query(q{
		SELECT es_create_store('fuzz');
		CREATE FUNCTION make_stream(seed float, OUT made int) LANGUAGE plpgsql AS $$
		DECLARE
			rules jsonb;
		BEGIN
			PERFORM setseed(seed);
			rules := jsonb_build_object('A', random_ops(), 'B', random_ops(), 'C', random_ops());
			CREATE TEMP TABLE few AS SELECT i, pick('A', 'B', 'C') AS type, random_object() || random_large() AS data FROM generate_series(0, 9) i;
			PERFORM es_create_aggregate('Long', rules => rules, initial => random_object(), snapshot_every => 0);
			INSERT INTO fuzz.events (position, stream, version, type, data, recorded_at)
			SELECT n + 1, 'Long-1', n + 1, f.type, f.data, now() FROM generate_series(0, 19999) s (n) JOIN few f ON f.i = s.n % 10;
			made := 1;
		EXCEPTION WHEN invalid_parameter_value THEN
			made := 0;
		END $$;
		SET client_min_messages = error});

	for (1 .. 15)
	{
		last if $folded == 3;
		my $round = sprintf '%.9f', rand;
		my $loader = Session->new($node);

		if (query("SET session_replication_role = replica; SELECT make_stream($round); RESET session_replication_role") eq '1')
		{
			my ($loader_pid) = $loader->query("SET eventsourcing.store = 'fuzz'; SELECT pg_backend_pid() FROM es_load('Long-1', 0)") =~ /(\d+)/;
			$loader->query("SELECT count(*) FROM es_read('Long-1')");
			my $before = high_water($loader_pid);
			my ($length, $error) = $loader->query("SELECT length(state::text) FROM es_load('Long-1')");
			my $needed = (high_water($loader_pid) - $before) * 1024;

			if ($error eq '')
			{
				$folded++;
				# its text, its jsonb, the tree, and as much again before the tree is compacted
				my $excess = $needed - 12 * $length;
				$most = $excess if $excess > $most;
				diag("seed $round: $needed bytes for a state of $length") if $excess > 16 * 1024 * 1024 && !$ENV{ES_TEST_TOOL};
			}
		}
		$loader->quit;
		query(q{DROP TABLE IF EXISTS few; SELECT es_drop_store('fuzz', confirm => true); SELECT es_create_store('fuzz')});
	}
	cmp_ok($folded, '>', 0, 'long streams were folded');
	if ($ENV{ES_TEST_TOOL})
	{
		diag("NOTE: how much memory a fold needs was not looked at: $ENV{ES_TEST_TOOL} needs memory of its own");
	}
	else
	{
		cmp_ok($most, '<', 16 * 1024 * 1024, 'in little more memory than their states need');
	}
	note("$folded streams, $most bytes at the most");
}

sub high_water
{
	return slurp_file("/proc/$_[0]/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 : die 'no VmHWM';
}

is(query('SELECT pg_backend_pid()'), $pid, 'the session is the one it was');
$session->quit;
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'nothing crashed');
$node->stop;
done_testing();
