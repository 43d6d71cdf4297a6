# The background worker: what runs by itself, and what it survives.
#
# Would fail: an effect that is lost or doubled when worker or server die; a
# worker that has to be helped by a restart after its database, its extension or
# a free process was missing, or its extension was updated; one that runs where it
# is not wanted any more, is in the way of DROP DATABASE, or polls.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('worker');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'eventsourcing'
eventsourcing.databases = 'shop, "not there"'
eventsourcing.naptime = '1s'
max_worker_processes = 8
restart_after_crash = on
));
$node->start;

# Not the node's restart(), which starts it past the wrapper of script/check.
sub restart { $node->stop; $node->start; return; }

sub sql { $node->safe_psql('shop', shift) }
sub comes { my ($query, $name) = @_; ok($node->poll_query_until('shop', $query), $name) }
sub log_says
{
	my ($pattern, $name) = @_;
	my $found = 0;
	foreach (1 .. 1800)
	{
		last if $found = slurp_file($node->logfile) =~ $pattern;
		select undef, undef, undef, .1;
	}
	ok($found, $name);
}
my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker' AND datname = 'shop'";

# What is not there yet is waited for, and the log says so.
log_says(qr/database "shop" of the setting eventsourcing.databases does not exist/, 'a database that is not there is logged');
log_says(qr/database "not there" of the setting/, 'another one, too');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->reload;
log_says(qr/waits for the extension in database "shop"/, 'so is a missing extension');

$node->safe_psql('shop', q(
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	SELECT es_create_store('second');
	CREATE TABLE effects (store text, position bigint, type text);
	CREATE TABLE resting (n int);
));
sql(q(SELECT es_create_handler('effect', $$INSERT INTO effects SELECT 'es', position, type FROM new_events$$)));
sql(q(SET eventsourcing.store = 'second';
	SELECT es_create_handler('effect', $$INSERT INTO effects SELECT 'second', position, type FROM new_events$$)));
sql(q(SELECT es_append('A-1', 'first')));
comes(q(SELECT count(*) = 1 FROM effects), 'a handler runs by itself');
sql(q(SET eventsourcing.store = 'second'; SELECT es_append('A-1', 'in the second store')));
comes(q(SELECT count(*) = 1 FROM effects WHERE store = 'second'), 'of every store');

# An async projection, too, by either way into the log.
sql(q(CREATE TABLE seen (position bigint); SELECT es_create_projection('seen', mode => 'async', tables => '{seen}',
	script => 'INSERT INTO seen SELECT position FROM new_events')));
comes(q(SELECT count(*) = 1 FROM seen), 'an async projection is run');
$node->append_conf('postgresql.conf', "eventsourcing.log_path = spi");
restart();
sql(q(SELECT es_append('A-1', 'by SQL')));
comes(q(SELECT count(*) = 2 FROM seen), 'also where the log is read by SQL');
unlike(slurp_file($node->logfile), qr/ERROR/, 'without an error');
$node->append_conf('postgresql.conf', "eventsourcing.log_path = auto");

# Woken at commit, not by the naptime.
$node->append_conf('postgresql.conf', "eventsourcing.naptime = '1h'");
$node->reload;
sql(q(SELECT es_append('A-1', 'woken')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'woken'), 'woken at commit');
sql(q(SELECT es_schedule(clock_timestamp() + interval '200 ms', 'T-1', 'timer')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'timer'), 'and when a timer is due');
sql(q(DO $$ BEGIN PERFORM es_append('A-1', 'before a failure'); RAISE 'x'; EXCEPTION WHEN others THEN NULL; END $$;
	SELECT es_append('A-1', 'after a failure')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'after a failure'), 'after a savepoint that was rolled back');
# One that holds the safe position down wakes it when it rolls back, too.
my $blocker = $node->background_psql('shop');
$blocker->query_safe(q(BEGIN; SELECT es_append('B-1', 'rolled back')));
sql(q(SELECT es_append('A-1', 'held back')));
is(sql(q(SELECT count(*) FROM effects WHERE type = 'held back')), '0', 'not past what is open');
$blocker->query_safe('ROLLBACK');
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'held back'), 'but as soon as it is not');
$blocker->quit;
is(sql(q(SELECT count(*) FROM es.watermark)), '0', 'it keeps no watermark that nobody wants');
sql(q(SELECT es_advance_watermark(); SELECT es_append('A-1', 'marked')));
comes(q(SELECT position = es_head_position() FROM es.watermark), 'but advances one that was begun');
# With nothing to do it sleeps; what appends nothing does not wake it.
sub switches
{
	my ($pid) = @_;
	my ($count) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m;
	return $count;
}
SKIP:
{
	my $pid = $node->safe_psql('shop', $worker);
	skip 'this system does not count how often a process slept', 2 unless -r "/proc/$pid/status";

	# until the last append is done with
	my ($last, $count) = (-1, switches($pid));
	for (1 .. 600)
	{
		last if $last == $count;
		sql('SELECT pg_sleep(0.2)');
		($last, $count) = ($count, switches($pid));
	}
	is($count, $last, 'an idle worker comes to rest');
	sql(q(DO $$ BEGIN FOR i IN 1 .. 500 LOOP INSERT INTO resting VALUES (i); COMMIT; PERFORM es_read('A-1'); COMMIT; END LOOP; END $$));
	sql('SELECT pg_sleep(1)');
	cmp_ok(switches($pid) - $count, '<=', 5, 'and stays there, whatever else commits');
}
# A retry is not forgotten, with nothing else to wake the worker.
sql(q(CREATE TABLE mended (); CREATE SEQUENCE attempts));
sql(q(SELECT es_create_handler('flaky', $$SELECT nextval('attempts'), 1 / (SELECT count(*) FROM mended) FROM new_events$$,
	types => '{flaky}', backoff => '100 ms', max_backoff => '100 ms', max_attempts => 1000000)));
sql(q(SELECT es_append('F-1', 'flaky')));
comes(q(SELECT last_value > 2 FROM attempts), 'a failing handler is tried again');
sql(q(INSERT INTO mended DEFAULT VALUES));
comes(q(SELECT lag = 0 FROM es.subscriptions WHERE name = 'flaky'), 'until it succeeds');

# Errors of one thing stay its own.
sql(q(SELECT es_create_handler('broken', 'SELECT 1 / (position - position) FROM new_events', backoff => '1 hour')));
sql(q(SELECT es_append('A-2', 'beside a broken one')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'beside a broken one'), 'a broken handler stops no other');
comes(q(SELECT waiting > 0 FROM es.subscriptions WHERE name = 'broken'), 'its events wait');

# It ends: another one starts.
my $pid = $node->safe_psql('shop', $worker);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
comes("SELECT count(*) = 1 AND max(pid) <> $pid FROM ($worker) w", 'a worker that was terminated starts again');
sql(q(SELECT es_append('A-1', 'after termination')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'after termination'), 'and works');

# It dies, and the server with it, in the middle of work: effects once each.
for my $round (1 .. 3)
{
	sql(qq(SELECT count(es_append('K-' || g % 50, 'kill $round')) FROM generate_series(1, 3000) g));
	$pid = $node->safe_psql('shop', $worker);
	if ($round == 2) { $node->stop('immediate'); $node->start }
	else
	{
		kill_process($node, $pid);
		$node->poll_query_until('shop', "SELECT count(*) = 1 AND max(pid) <> $pid FROM ($worker) w");
	}
}
comes(q(SELECT count(*) = 9000 FROM effects WHERE type LIKE 'kill %'), 'kill -9 and a crash lose nothing');
is(sql(q(SELECT count(*) FROM (SELECT FROM effects GROUP BY store, position HAVING count(*) > 1) d)), '0', 'and double nothing');
is(sql(q(SELECT count(*) FROM es.events e WHERE NOT EXISTS (SELECT FROM effects f WHERE f.store = 'es' AND f.position = e.position))),
	'0', 'every event was handled');

# A timer survives a restart.
sql(q(SELECT es_schedule(clock_timestamp() + interval '1 second', 'T-1', 'timer after restart')));
restart();
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'timer after restart'), 'a timer fires after a restart');

# A prepared transaction, committed by somebody else: within the naptime.
$node->append_conf('postgresql.conf', "eventsourcing.naptime = '100ms'");
$node->reload;
sql(q(BEGIN; SELECT es_append('P-1', 'prepared'); PREPARE TRANSACTION 'p'));
sql(q(SELECT es_append('A-1', 'behind the prepared one')));
sql(q(COMMIT PREPARED 'p'));
comes(q(SELECT count(*) = 2 FROM effects WHERE type LIKE '%prepared%'), 'a prepared transaction is handled');

# Notifications, if they are wanted.
$node->append_conf('postgresql.conf', 'eventsourcing.notify = on');
$node->reload;
my $listener = $node->background_psql('shop');
$listener->query_safe('LISTEN eventsourcing');
my $heard = '';
foreach my $i (1 .. 300)
{
	sql(q(SELECT es_append('A-1', 'notified'))) if $i % 10 == 1;
	$heard = $listener->query('SELECT 1');
	last if $heard =~ /Asynchronous notification "eventsourcing" with payload "es"/;
	select undef, undef, undef, .1;
}
like($heard, qr/Asynchronous notification "eventsourcing" with payload "es"/, 'listeners are notified');
$listener->quit;

# A standby waits for its promotion.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('shop', $worker), '', 'no worker on a standby');
$standby->promote;
$standby->safe_psql('shop', q(SELECT es_append('S-1', 'promoted')));
ok($standby->poll_query_until('shop', q(SELECT count(*) = 1 FROM effects WHERE type = 'promoted')), 'but after its promotion');
$standby->stop;

# Another list of databases: it ends, and comes back.
$node->append_conf('postgresql.conf', "eventsourcing.databases = 'postgres'");
$node->reload;
comes("SELECT count(*) = 0 FROM ($worker) w", 'a database that is taken out of the setting has no worker');
comes(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker' AND datname = 'postgres'), 'another one has');
sql(q(SELECT es_append('A-1', 'without a worker')));
is(sql(q(SELECT count(*) FROM effects WHERE type = 'without a worker')), '0', 'then nothing runs by itself');
$node->append_conf('postgresql.conf', "eventsourcing.databases = 'shop'");
$node->reload;
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'without a worker'), 'and all of it when the database is back in the setting');
comes(q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker' AND datname = 'postgres'), 'the other one goes');

# The extension is updated, by a script that is there for this test.
my ($path) = $node->safe_psql('shop', q(SELECT coalesce(nullif(current_setting('extension_destdir', true), ''),
	split_part(current_setting('extension_control_path', true), ':', 1)))) =~ /(.+)/;
my $from = sql(q(SELECT extversion FROM pg_extension WHERE extname = 'eventsourcing'));
my $sharedir = $node->config_data('--sharedir');
my ($folder) = grep { defined && -w } map { ("$_/extension", "$_$sharedir/extension") } grep { defined } $path;
SKIP:
{
	skip 'no folder of extensions to put an update script into', 3 unless defined $folder;
	my $update = "$folder/eventsourcing--$from--$from.update.sql";

	append_to_file($update, "SELECT 1;\n");
	$pid = $node->safe_psql('shop', $worker);
	sql(qq(ALTER EXTENSION eventsourcing UPDATE TO '$from.update'));
	unlink $update;
	sql(q(SELECT es_append('A-1', 'updated extension')));
	log_says(qr/starts anew: the extension was updated from version \Q$from\E to \Q$from\E.update/, 'an update is logged');
	comes("SELECT count(*) = 1 AND max(pid) <> $pid FROM ($worker) w", 'another worker works with it');
	comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'updated extension'), 'which loses nothing');
}

# The extension goes, and comes back.  The worker may hold what the other wants, and want what the other
# holds: who is told of a deadlock tries again.
for (1 .. 20)
{
	last if $node->psql('shop', 'DROP EXTENSION eventsourcing CASCADE', stderr => \my $error) == 0;
	like($error, qr/deadlock detected/, 'a deadlock with the worker is all that may keep the extension from going');
}
log_says(qr/waits for the extension in database "shop".*waits for the extension in database "shop"/s, 'a dropped extension is waited for');
sql(q(CREATE EXTENSION eventsourcing; SELECT es_upgrade_store('es'); SELECT es_upgrade_store('second')));
sql(q(SELECT es_append('A-1', 'new extension')));
comes(q(SELECT count(*) = 1 FROM effects WHERE type = 'new extension'), 'and used when it is back');

# The database is renamed, copied, dropped, with the worker in it.
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE shop');
$node->safe_psql('postgres', 'DROP DATABASE copy');
ok($node->poll_query_until('shop', "SELECT count(*) = 1 FROM ($worker) w"), 'the worker comes back after a copy of the database');
$node->safe_psql('postgres', 'DROP DATABASE shop');
pass('a database with a worker can be dropped');

# Without a free process: logged, and tried again.
$node->append_conf('postgresql.conf', "max_worker_processes = 2\neventsourcing.databases = 'postgres, shop'");
restart();
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->reload;
log_says(qr/no process is left for the eventsourcing worker of database "\w+".*HINT:  Raise max_worker_processes/s, 'a lack of processes is logged');

$node->stop;
done_testing();
