# A history of concurrent appends of all sorts, and readers by position beside
# it: checked against what the store promises.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Random;
use Session;
use Test::More;

use constant {
	CLIENTS => 6,
	OPERATIONS => 550,    # of each client
	STREAMS => 20,
};

my $seed = Random::seed();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "log_statement = none\nlog_min_messages = fatal\n");
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');

#
# The clients: psql runs a script, and prints a line for every operation with
# the times around it, its SQLSTATE, and the version that it got.
#

my %operations;    # id => what was asked for

sub operation
{
	my ($id, $rand) = @_;

	# one stream is hot
	my $stream = 'S-' . ($rand->(4) ? 1 + $rand->(STREAMS) : 1);
	my $count = 1 + $rand->(20);
	my $ms = 5 + $rand->(15);
	my $op = $operations{$id} = { stream => $stream, count => $count, outcome => 'commit' };
	my $events = "(SELECT jsonb_agg(jsonb_build_object('type', 'E', 'data', jsonb_build_object('op', '$id', 'k', k))) "
	  . "FROM generate_series(1, $count) k)";
	my $append = "SELECT es_append_events('$stream', $events) AS version \\gset\n";
	my $done = "\\set state :SQLSTATE\n";
	my $kind = $rand->(16);

	if ($kind < 4)
	{
		return $append . $done;
	}
	elsif ($kind < 6)
	{
		$op->{count} = 1;
		return "SELECT es_append('$stream', 'E', '{\"op\": \"$id\", \"k\": 1}') AS version \\gset\n" . $done;
	}
	elsif ($kind < 9)
	{
		$op->{expected} = 1;
		return "SELECT es_stream_version('$stream') AS expected \\gset\n"
		  . "SELECT es_append_events('$stream', $events, :expected) AS version \\gset\n" . $done;
	}
	elsif ($kind < 10)
	{
		# slow, with a part in a savepoint that is taken back
		return "BEGIN;\nSAVEPOINT s;\nSELECT es_append('$stream', 'Never');\nROLLBACK TO s;\n"
		  . $append . $done . "SELECT pg_sleep(0.0$ms);\nCOMMIT;\n";
	}
	elsif ($kind < 11)
	{
		$op->{outcome} = 'abort';
		return "BEGIN;\n" . $append . $done . "SELECT pg_sleep(0.00$ms);\nROLLBACK;\n";
	}
	elsif ($kind < 12)
	{
		$op->{outcome} = 'abort' if $rand->(2);
		my $end = $op->{outcome} eq 'abort' ? 'ROLLBACK' : 'COMMIT';
		return "BEGIN;\n" . $append . $done
		  . "PREPARE TRANSACTION '$id';\nSELECT es_append('P-1', 'Between');\n$end PREPARED '$id';\n";
	}
	elsif ($kind < 14)
	{
		return "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT FROM es.events LIMIT 1;\n" . $append . $done . "COMMIT;\n";
	}
	else
	{
		# the same event twice: the second time it is there already
		$op->{count} = 1;
		my $once = "es_append('$stream', 'E', '{\"op\": \"$id\", \"k\": 1}', event_id => md5('$id')::uuid)";
		return "SELECT $once AS version \\gset\n" . $done
		  . "SELECT $once = :version AS same \\gset\n\\if :same\n\\else\n\\set state 'another version'\n\\endif\n";
	}
}

my @clients;
for my $client (1 .. CLIENTS)
{
	my $rand = Random::generator($seed * 100 + $client);
	my $base = "$PostgreSQL::Test::Utils::tmp_check/concurrency_$client";
	my $sql = '';

	for my $n (1 .. OPERATIONS)
	{
		my $id = "$client.$n";
		$sql .= "SELECT extract(epoch FROM clock_timestamp()) AS t0 \\gset\n\\set version none\n"
		  . operation($id, $rand)
		  . "SELECT extract(epoch FROM clock_timestamp()) AS t1 \\gset\n"
		  . "\\echo $id :state :version :t0 :t1 :expected\n";
	}
	append_to_file("$base.sql", "\\set expected -\n" . $sql);
	push @clients, { base => $base };
}

#
# The readers: one in READ COMMITTED, one in REPEATABLE READ, and a naive one
# that takes what it finds, to see that the load is a hard one.
#
query(q{
CREATE TABLE seen (reader text, n serial, position bigint, stream text, version bigint);
CREATE TABLE finished ();
CREATE PROCEDURE run_reader(reader text) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := 0;
    found bigint;
    finishing boolean;
BEGIN
    LOOP
        SELECT EXISTS (SELECT FROM finished) INTO finishing;
        IF reader = 'naive' THEN
            INSERT INTO seen (reader, position, stream, version)
            SELECT reader, e.position, e.stream, e.version
              FROM es.events e WHERE e.position > last ORDER BY e.position LIMIT 100;
        ELSE
            INSERT INTO seen (reader, position, stream, version)
            SELECT reader, e.position, e.stream, e.version
              FROM es_read_all(last, 100) WITH ORDINALITY e ORDER BY e.ordinality;
        END IF;
        GET DIAGNOSTICS found = ROW_COUNT;
        SELECT coalesce(max(s.position), 0) FROM seen s WHERE s.reader = run_reader.reader INTO last;
        COMMIT;
        EXIT WHEN finishing AND found = 0;
        PERFORM pg_sleep(0.001);
        COMMIT;
    END LOOP;
END
$$;
CREATE INDEX ON seen (reader, position)});

my %readers = map { $_ => Session->new($node) } qw(live snapshot naive);
$readers{snapshot}->query(q{SET default_transaction_isolation = 'repeatable read'});
$readers{$_}->send("CALL run_reader('$_')") for keys %readers;

my $start = time;
$_->{run} = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$_->{base}.sql" ],
	'>', "$_->{base}.out", '2>', "$_->{base}.err") for @clients;
$_->{run}->finish for @clients;
query('INSERT INTO finished DEFAULT VALUES');
is($_->[1], '', "reader $_->[0] has no error")
  for map { [ $_, ($readers{$_}->result)[1] ] } sort keys %readers;
$_->quit for values %readers;

#
# The history against the log
#
my @problems;
my (%acked, $conflicts);

for my $client (@clients)
{
	for (split /\n/, slurp_file("$client->{base}.out"))
	{
		next unless /^(\d+\.\d+) (.*?) (\S+) (\S+) (\S+) (\S+)$/;
		my ($id, $state, $version, $t0, $t1, $expected) = ($1, $2, $3, $4, $5, $6);
		my $op = $operations{$id};

		$op->{seen} = 1;
		if ($state eq 'ZE001' && $op->{expected})
		{
			$conflicts++;
		}
		elsif ($state ne '00000')
		{
			push @problems, "$id ended with $state";
		}
		elsif ($op->{outcome} eq 'commit')
		{
			$acked{$id} = { %$op, version => $version, t0 => $t0, t1 => $t1 };
			push @problems, "$id expected $expected and got $version"
			  if $op->{expected} && $version != $expected + $op->{count};
		}
	}
}
push @problems, "$_ printed no result" for grep { !$operations{$_}{seen} } keys %operations;

my (%stored, %latest_invocation);
my $latest_anywhere = 0;
my $events = 0;
for (split /\n/, query(q{SELECT stream, version, position, data->>'op', data->>'k', type FROM es.events ORDER BY position}))
{
	my ($stream, $version, $position, $id, $k, $type) = split /\|/;

	$events++;
	push @problems, "$stream/$version is of type $type" if $type eq 'Never';
	push @problems, "$stream/$version at position $position comes after version " . ($stored{$stream} // 0)
	  if $version != ($stored{$stream} // 0) + 1;
	$stored{$stream} = $version;
	next if $type ne 'E';

	my $op = $acked{$id};
	if (!$op)
	{
		push @problems, "$stream/$version was not acknowledged: $id";
		next;
	}
	my $first = $op->{version} - $op->{count} + 1;
	push @problems, "$id was told version $first, and is $version in $stream"
	  if $stream ne $op->{stream} || $version != $first + $k - 1;
	$op->{stored}++;

	# what was acknowledged before another began comes before it
	push @problems, "$id ($stream/$version) was acknowledged before what stands in front of it began"
	  if $op->{t1} < $latest_anywhere;
	$latest_anywhere = $op->{t0} if $op->{t0} > $latest_anywhere;
}
for my $id (keys %acked)
{
	push @problems, "$id was acknowledged, and " . ($acked{$id}{stored} // 0) . " of $acked{$id}{count} events are there"
	  if ($acked{$id}{stored} // 0) != $acked{$id}{count};
}

is(join("\n", @problems[0 .. ($#problems > 9 ? 9 : $#problems)]), '',
	'every acknowledged append is there, whole and in order, and nothing else');
cmp_ok($events, '>=', 20_000, 'enough events') or diag("$events events");
cmp_ok($conflicts // 0, '>', 0, 'some appends met a conflict');
note("$events events, $conflicts conflicts, in " . (time - $start) . " s");
is(query('SELECT count(DISTINCT position) FROM es.events'), $events, 'positions are unique');

for my $reader (qw(live snapshot))
{
	is( query(qq{SELECT count(*) FROM (SELECT position <= lag(position) OVER (ORDER BY n) AS back
	               FROM seen WHERE reader = '$reader') s WHERE back}),
		0, "reader $reader goes forward");
	is( query(qq{SELECT count(*) FROM es.events e
	               FULL JOIN (SELECT * FROM seen WHERE reader = '$reader') s USING (position, stream, version)
	              WHERE e.position IS NULL OR s.n IS NULL}),
		0, "reader $reader gets every committed event once and no other");
}
cmp_ok(query(q{SELECT count(*) FROM es.events e WHERE NOT EXISTS
                 (SELECT FROM seen s WHERE s.reader = 'naive' AND s.position = e.position)}),
	'>', 0, 'a naive reader misses some: the load is a hard one');
is(query('SELECT count(*) FROM es.open_appends'), 0, 'nothing is held in the end');

$node->stop;
done_testing();
