# A server process that is killed at any point of building, running or rebuilding
# a read model leaves log and read model in agreement: every event has counted
# once or not yet, the old contents are there until the new ones are, and the
# next call does the work.  And what is prepared, and not finished, holds the
# hand-over up, but not the appends of others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
restart_after_crash = on
max_prepared_transactions = 5
autovacuum = off
});
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

query(q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE TABLE totals (stream text PRIMARY KEY, events int, amount bigint);
	CREATE TABLE seen (stream text, version bigint, type text);
	CREATE INDEX ON seen (type);
	SELECT es_append_events('A-' || i, (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object('n', i * k)))
	                                      FROM generate_series(1, 4) k))
	  FROM generate_series(1, 25) i;
});

my %scripts = (
	totals => q{INSERT INTO totals AS t SELECT stream, 1, (data ->> 'n')::bigint FROM new_events
	            ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount},
	seen => q{INSERT INTO seen SELECT stream, version, type FROM new_events});

sub create
{
	my ($name, $mode) = @_;
	return "SELECT es_create_projection('$name', \$\$$scripts{$name}\$\$, '{$name}', mode => '$mode')";
}

sub contents { return query("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM $_[0] t"); }

# Whether the read model is what the log makes, computed in another way.
sub is_right
{
	my ($name) = @_;
	my $fold = $name eq 'seen' ? 'SELECT stream, version, type FROM es.events' :
	  q{SELECT stream, count(*)::int, sum((data ->> 'n')::bigint)::bigint FROM es.events GROUP BY stream};
	return query("SELECT count(*) FROM ((TABLE $name EXCEPT ALL $fold) UNION ALL ($fold EXCEPT ALL TABLE $name)) d") eq '0';
}

sub append { return query(q{SELECT es_append('A-1', 'T', '{"n": 7}')}); }

# Has a session come to a point, and kills it there.
sub kill_at
{
	my ($point, $sql) = @_;
	my $hold = Session->new($node);
	my $victim = Session->new($node);

	$hold->query("SELECT pg_advisory_lock(hashtext('$point'))");
	my $pid = $victim->query("SET eventsourcing.wait_point = '$point'; SELECT pg_backend_pid()");
	$victim->send($sql);
	$node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND NOT granted)")
	  or die "$sql does not come to $point";
	kill_process($node, $pid);
	$_->quit for $hold, $victim;
	return;
}

# Building.
for my $point ('join: caught up', 'join: settled')
{
	kill_at($point, create('totals', 'inline'));
	is(query('SELECT count(*) FROM es.projections'), 0, "$point: there is no projection");
	is(query('SELECT count(*) FROM totals'), 0, "$point: its table is empty");
	like(append(), qr/^\d+$/, "$point: appends go on");
}
query(create('totals', 'inline'));
append();
ok(is_right('totals'), 'created after that, it takes in everything');

# Appending.
query(q{
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(hashtext('append'));
		RETURN NULL;
	END $$;
	CREATE TRIGGER hold AFTER UPDATE ON totals FOR EACH ROW EXECUTE FUNCTION hold();
});
my $before = contents('totals') . contents('es.events');
kill_at('append', q{SELECT es_append('A-2', 'T', '{"n": 9}')});
is(contents('totals') . contents('es.events'), $before, 'append: neither the event nor its effect is there');
query('DROP TRIGGER hold ON totals');

# Resuming.
query(q{SELECT es_pause_projection('totals')});
append();
$before = contents('totals');
for my $point ('join: caught up', 'join: settled')
{
	kill_at($point, q{SELECT es_resume_projection('totals')});
	is(contents('totals'), $before, "resuming, $point: its table is as it was");
	is(query(q{SELECT state FROM es.projections}), 'paused', "resuming, $point: it is paused still");
}
query(q{SELECT es_resume_projection('totals')});
ok(is_right('totals'), 'resumed after that, it takes in everything');

# Running.
query(create('seen', 'async'));
for my $point ('run: slice', 'run: moved')
{
	kill_at($point, 'CALL es_run()');
	is(query('SELECT count(*) FROM seen'), 0, "$point: it has no effect");
	is(query(q{SELECT position FROM es.projections WHERE name = 'seen'}), 0, "$point: the cursor has not moved");
}
query('CALL es_run()');
ok(is_right('seen'), 'run after that, it counts every event once');

# Rebuilding: something to mend, and events that come meanwhile.
query(q{UPDATE seen SET type = 'drift'; UPDATE totals SET amount = 0});
for my $name ('totals', 'seen')
{
	for my $point ('slice', 'index', 'filled', 'locked', 'swapped')
	{
		$before = contents($name);
		kill_at("rebuild: $point", "CALL es_rebuild('$name', 40)");
		is(contents($name), $before, "rebuild of $name, $point: the old contents are there");
		is(query('SELECT phase FROM es.progress'), 'interrupted', "rebuild of $name, $point: es.progress tells");
		is(query(q{SELECT string_agg(state, ',') FROM es.projections}), 'running,running', "rebuild of $name, $point: all are running");
		append();
		isnt(contents('totals'), $before, "rebuild of $name, $point: the old contents are maintained");
		query('CALL es_run()');
	}
	ok(!is_right($name), "$name has drifted");
	query("CALL es_rebuild('$name', 40)");
	ok(is_right($name), "$name is rebuilt after that");
	is(query(q{SELECT count(*) FROM pg_class WHERE relname ~ '^rebuild_'}), 0, "$name: nothing is left behind");
	is(query(q{SELECT count(*) FROM es.progress}), 0, "$name: nothing is under way");
	append();
	query('CALL es_run()');
	ok(is_right($name), "$name goes on");
}

# The shadows of a rebuild that was killed go with the projection.
kill_at('rebuild: slice', q{CALL es_rebuild('totals')});
query(q{SELECT es_drop_projection('totals')});
is(query(q{SELECT count(*) FROM pg_class WHERE relname ~ '^rebuild_'}), 0, 'dropped with what a rebuild left behind');

#
# Transactions that are prepared.  While the hand-over waits for one, others
# append: with a lock_timeout, or they would hang here.
#
sub handed_over
{
	my ($what, $sql, $finish) = @_;
	my $session = Session->new($node);

	query(q{BEGIN; SELECT es_append('P-1', 'T', '{"n": 1}'); PREPARE TRANSACTION 'p'});
	$session->send("$sql;\n\\echo over");
	# it was in vain for the first time
	$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_locks
		WHERE relation = 'es.events'::regclass AND mode LIKE '%Exclusive%' AND NOT granted)})
	  or die "$sql does not wait";
	is(query(q{SET lock_timeout = '60s'; SELECT es_append('Q-1', 'T', '{"n": 1}') > 0}), 't', "$what: others append");
	unlike($session->{out}, qr/over/, "$what: it waits");
	query("$finish PREPARED 'p'");
	my ($out, $err) = $session->result;
	is($err, '', "$what, $finish: it is done");
	$session->quit;
	append();
	return;
}

query('TRUNCATE totals');
for my $finish ('COMMIT', 'ROLLBACK')
{
	handed_over('created', create('totals', 'inline'), $finish);
	ok(is_right('totals'), "created, $finish: it is right");
	handed_over('rebuilt', q{CALL es_rebuild('totals')}, $finish);
	ok(is_right('totals'), "rebuilt, $finish: it is right");
	handed_over('paused', q{SELECT es_pause_projection('totals')}, $finish);
	handed_over('resumed', q{SELECT es_resume_projection('totals')}, $finish);
	ok(is_right('totals'), "resumed, $finish: it is right");
	handed_over('dropped', q{SELECT es_drop_projection('totals')}, $finish);
	query('TRUNCATE totals');
}

# A timeout of the user's ends the waiting.
query(q{BEGIN; SELECT es_append('P-1', 'T'); PREPARE TRANSACTION 'p'});
my (undef, undef, $stderr) = $node->psql('postgres', q{SET lock_timeout = '10ms'; } . create('totals', 'inline'));
like($stderr, qr/canceling statement due to lock timeout/, 'lock_timeout ends the waiting');
query(q{ROLLBACK PREPARED 'p'});

$node->stop;
done_testing();
