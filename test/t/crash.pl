# A server that dies under load loses no event that it acknowledged, leaves no
# hole in a stream and never hands out a position a second time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Crash;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

use constant {
	CLIENTS => 4,
	STREAMS => 5,
	ENOUGH => 150,    # acknowledgements of each client before the crash
};

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;

# What is not flushed on purpose shall stay in memory.
$node->append_conf('postgresql.conf', q{
fsync = on
restart_after_crash = on
wal_writer_delay = 10s
wal_writer_flush_after = 100MB
wal_buffers = 16MB
checkpoint_timeout = 1h
bgwriter_delay = 10s
});
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');

# What one client does, over and over: all sorts of appends.  It prints a line
# for each event, after its commit.
sub script
{
	my ($round, $client, $rand) = @_;
	my $sql = '';

	for my $n (1 .. 20_000)
	{
		my $stream = 'S-' . (1 + $rand->() % STREAMS);
		my $data = "jsonb_build_object('id', '$round.$client.$n')";
		my $append = "es_append('$stream', 'E', $data)";
		my $kind = $rand->() % 10;

		if ($kind < 5)
		{
			$sql .= "SELECT 'ack $round.$client.$n $stream ' || $append;\n";
		}
		elsif ($kind < 7)
		{
			$sql .= "SELECT 'ack $round.$client.$n $stream ' || es_append_events('$stream', "
			  . "jsonb_build_array(jsonb_build_object('type', 'First'), jsonb_build_object('type', 'E', 'data', $data)));\n";
		}
		elsif ($kind < 8)
		{
			$sql .= "BEGIN; SELECT $append AS version \\gset\n"
			  . "SELECT es_append('Mine-$client', 'E');\n"
			  . "COMMIT;\n\\echo ack $round.$client.$n $stream :version\n";
		}
		elsif ($kind < 9)
		{
			$sql .= "BEGIN; SELECT es_append('$stream', 'Aborted'); ROLLBACK;\n";
		}
		else
		{
			$sql .= "SET synchronous_commit = off; SELECT es_append('Async-$client', 'E'); SET synchronous_commit = on;\n";
		}
	}
	return $sql;
}

# A little generator of our own, so that a seed means the same everywhere.
sub generator
{
	my ($state) = @_;
	return sub { $state = ($state * 1103515245 + 12345) % 2**31; return $state >> 16; };
}

my $seed = $ENV{SEED} // time % 100_000;
note("seed $seed (set SEED to repeat)");

my %acked;    # id => "stream version"

sub crash_under_load
{
	my ($round, $crash) = @_;
	my @clients;

	for my $client (1 .. CLIENTS)
	{
		my $base = "$PostgreSQL::Test::Utils::tmp_check/crash_${round}_$client";
		append_to_file("$base.sql", script($round, $client, generator($seed + 100 * $round + $client)));
		push @clients,
		  {
			out => "$base.out",
			run => IPC::Run::start(
				[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$base.sql" ],
				'>', "$base.out", '2>', "$base.err")
		  };
	}

	# wait for work, not for time
	for my $client (@clients)
	{
		my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
		while ((() = slurp_file($client->{out}) =~ /^ack/mg) < ENOUGH)
		{
			die "client does not get on: " . slurp_file($client->{out} =~ s/out$/err/r)
			  if time > $deadline || !$client->{run}->pumpable;
			select(undef, undef, undef, 0.05);
		}
	}
	$crash->();
	eval { $_->{run}->finish } for @clients;

	my $new = 0;
	for my $client (@clients)
	{
		# the last line may be torn, so it needs its line feed
		my $out = slurp_file($client->{out});
		while ($out =~ /^ack (\S+) (\S+ \d+)\n/mg)
		{
			$acked{$1} = $2;
			$new++;
		}
	}
	note("round $round: $new events acknowledged");
	return;
}

sub check
{
	my ($what) = @_;
	my %stored = map { split /\|/ }
	  split /\n/, query(q{SELECT data->>'id', stream || ' ' || version FROM es.events WHERE data ? 'id'});
	my @lost = grep { ($stored{$_} // '') ne $acked{$_} } sort keys %acked;

	is("@lost[0 .. ($#lost > 4 ? 4 : $#lost)]", '', "$what: no acknowledged event is lost");
	is(query(q{SELECT count(*) FROM (SELECT FROM es.events GROUP BY stream
	             HAVING min(version) <> 1 OR max(version) <> count(*)) holes}),
		0, "$what: versions have no holes");
	is(query('SELECT count(*) - count(DISTINCT position) FROM es.events'), 0, "$what: positions are unique");
	is(query(q{SELECT count(*) FROM es.events WHERE type = 'Aborted'}), 0, "$what: what was aborted stays away");
	is(query(q{SELECT * FROM es_verify()}), '', "$what: es_verify() finds nothing");
	is(query('SELECT count(*) FROM es.open_appends'), 0, "$what: nothing holds the safe position");
	is(query('SELECT (SELECT count(*) FROM es_read_all(0, NULL)) = count(*) FROM es.events'),
		't', "$what: a reader by position gets everything");
	like(query(q{SELECT es_append('S-1', 'Goes on')}), qr/^\d+$/, "$what: appends go on");
	return;
}

crash_under_load(1, sub { $node->stop('immediate') });
$node->start;
check('immediate shutdown');

# One server process dies, and the postmaster starts all of them anew.
crash_under_load(2, sub {
	kill_process($node, q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%es_append%' AND pid <> pg_backend_pid() LIMIT 1});
});
check('kill -9 of a server process');

# The postmaster dies, and the others when they notice.
crash_under_load(3, sub { $node->kill9 });
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $node->start(fail_ok => 1);
	select(undef, undef, undef, 0.1);
	$node->stop('fast', fail_ok => 1);
}
check('kill -9 of the postmaster');

#
# A position that a reader was told of is never drawn again, also if nothing made
# the server flush it.
#
sub next_position
{
	query(q{SELECT es_append('Next-1', 'E')});
	return query('SELECT es_head_position()');
}

for my $case (
	[ 'aborted appends' => q{BEGIN; SELECT es_append('T-1', 'E'); ROLLBACK;} ],
	[ 'asynchronous commits' => q{SELECT es_append('T-2', 'E');} ])
{
	my ($name, $sql) = @$case;
	my $session = Session->new($node);

	query('CHECKPOINT');
	$session->query('SET synchronous_commit = off');

	# More than the sequence logs in advance.
	$session->query($sql x 100);
	my $told = $session->query('SELECT es_safe_position()');
	$node->stop('immediate');
	$session->quit;
	$node->start;
	cmp_ok(next_position(), '>', $told, "a position that was told is not drawn again: $name");
	is(query(q{SELECT * FROM es_verify()}), '', "es_verify() finds nothing: $name");
}

$node->stop;
done_testing();
