# Reading, folding, replaying, projecting and verifying need no memory for the
# number of events, and whatever takes long can be cancelled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

plan skip_all => 'needs /proc' unless -r "/proc/$$/status";
plan skip_all => "$ENV{ES_TEST_TOOL} needs memory of its own" if $ENV{ES_TEST_TOOL};

use constant {
	EVENTS => 1_000_000,
	BATCH => 100_000,
	BOUND => 48,    # MB that a statement may need besides what the session had
};

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_buffers = 16MB
work_mem = 4MB
max_wal_size = 4GB
log_statement = none
autovacuum = off
jit = off    # the compiler would take 50 MB
});
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

query(q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE FUNCTION apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN jsonb_build_object('n', (state->>'n')::bigint + (event.data->>'n')::bigint);
	END $$;
	SELECT es_create_aggregate('Apply', 'apply(jsonb, es_event)', initial => '{"n": 0}', snapshot_every => 0);
	SELECT es_create_aggregate('Rules', rules => '{"E": {"$inc": {"n": "$.n"}, "$set": {"last": "$.text"}}}', snapshot_every => 0);
	CREATE TABLE batch AS SELECT jsonb_agg(jsonb_build_object('type', 'E', 'data', jsonb_build_object('n', 1))) AS events
	                        FROM generate_series(1, } . BATCH . q{)});

# As a restore would bring them: past the guard.
query(q{
	SET session_replication_role = replica;
	INSERT INTO es.events (position, stream, version, type, data, recorded_at)
	SELECT n, s || '-1', n - 1000000 * i, 'E', jsonb_build_object('n', 1, 'text', repeat('x', 100)), now()
	  FROM (VALUES (0, 'Apply')) v (i, s), generate_series(1, } . EVENTS . q{) n;
	SELECT es_repair_sequence()});

# Runs a statement in a session of its own; returns its result, and by how many
# megabytes the process has grown at the most.
sub peak
{
	my ($sql) = @_;
	my $session = Session->new($node);
	my $pid = $session->query('SELECT pg_backend_pid()');

	# shared memory counts, too: touch what there is of it
	$session->query(q{SELECT es_stream_version('Apply-1'); SELECT count(*) FROM es_read('Apply-1', 1, 50000); SELECT es_load('Apply-1', 1000)});
	my $before = high_water($pid);
	my ($result, $error) = $session->query($sql);
	my $grown = (high_water($pid) - $before) / 1024;

	$session->quit;
	return ($error || $result, $grown);
}

sub high_water
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 : die 'no VmHWM';
}

for (
	[ 'es_read()' => q{SELECT count(*) FROM es_read('Apply-1')}, EVENTS ],
	[ 'es_read() backward' => q{SELECT count(*) FROM es_read('Apply-1', backward => true)}, EVENTS ],
	[ 'es_read_all()' => q{SELECT count(*) FROM es_read_all(0, NULL, types => '{E}')}, EVENTS ],
	[ 'es_load() with an apply function' => q{SELECT state->>'n' FROM es_load('Apply-1')}, EVENTS ],
	[ 'es_replay()' => q{SELECT count(*) FROM es_replay('Apply-1', 1, 200000)}, 200_000 ],
	[   'many small appends in a transaction' =>
		  q{SELECT count(es_append('Small-' || n % 1000, 'E')) FROM generate_series(1, 50000) n},
		50_000 ],
	[ 'many streams in a transaction' => q{SELECT count(es_append('Many-' || n, 'E')) FROM generate_series(1, 100000) n}, 100_000 ])
{
	my ($name, $sql, $wanted) = @$_;
	my ($result, $grown) = peak($sql);

	is($result, $wanted, $name);
	cmp_ok($grown, '<', BOUND, "$name needs little memory") or diag("$grown MB");
	note(sprintf '%s: %.1f MB', $name, $grown);
}

query(q{
	CREATE TABLE totals (stream text PRIMARY KEY, n bigint);
	SELECT es_create_projection('totals', 'INSERT INTO totals AS t SELECT stream, sum((data->>''n'')::bigint) FROM new_events GROUP BY stream
		ON CONFLICT (stream) DO UPDATE SET n = t.n + EXCLUDED.n', '{totals}', types => '{E}', mode => 'async', granularity => 'batch')});
for (
	[ 'es_run()' => q{CALL es_run('totals'); SELECT n FROM totals WHERE stream = 'Apply-1'}, EVENTS ],
	[ 'es_rebuild()' => q{CALL es_rebuild('totals'); SELECT n FROM totals WHERE stream = 'Apply-1'}, EVENTS ],
	[ 'es_verify()' => q{SELECT count(*) FROM es_verify() WHERE problem <> 'a setting breaks a promise'}, 0 ])
{
	my ($name, $sql, $wanted) = @$_;
	my ($result, $grown) = peak($sql);

	is($result, $wanted, $name);
	cmp_ok($grown, '<', BOUND, "$name needs little memory") or diag("$grown MB");
	note(sprintf '%s: %.1f MB', $name, $grown);
}

is(query(q{SELECT es_append_events('Batch-1', (SELECT events FROM batch))}), BATCH, 'a batch of 100,000');

# Rules fold it as well: the stream under another name.
query(q{SELECT es_create_aggregate('Apply', rules => '{"E": {"$inc": {"n": "$.n"}, "$set": {"last": "$.text"}}}', initial => '{"n": 0}', snapshot_every => 0)});
my ($result, $grown) = peak(q{SELECT state->>'n' FROM es_load('Apply-1')});
is($result, EVENTS, 'es_load() with rules');
cmp_ok($grown, '<', BOUND, 'es_load() with rules needs little memory') or diag("$grown MB");
query(q{SELECT es_create_aggregate('Apply', 'apply(jsonb, es_event)', initial => '{"n": 0}', snapshot_every => 0)});

#
# Cancelling
#
my $session = Session->new($node, '-v', 'VERBOSITY=sqlstate');
my $pid = $session->query('SELECT pg_backend_pid()');

for (
	[ 'es_read()' => q{SELECT count(*) FROM es_read('Apply-1')} ],
	[ 'es_load()' => q{SELECT es_load('Apply-1')} ],
	[ 'es_replay()' => q{SELECT count(*) FROM es_replay('Apply-1')} ],
	[ 'es_append_events()' => q{SELECT es_append_events('Cancelled-1', (SELECT events FROM batch))} ])
{
	my ($name, $sql) = @$_;

	$session->send($sql);
	$node->poll_query_until('postgres', "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'does not begin';
	query("SELECT pg_cancel_backend($pid)");
	my $start = time;
	my ($out, $err) = $session->result;
	like($err, qr/57014/, "$name is cancelled");
	cmp_ok(time - $start, '<', 5, "$name: at once");
}
is(query(q{SELECT es_stream_version('Cancelled-1')}), 0, 'nothing is left of the append');
is($session->query(q{SELECT es_append('Cancelled-1', 'E')}), 1, 'and the session goes on');

$session->quit;
$node->stop;
done_testing();
