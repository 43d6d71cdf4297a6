# A consumer, the worker or the server dies in every phase of what it does.
#
# Would fail: an event that is lost with who fetched it, or done though its
# acknowledgement was not committed; an effect, a timer or a projection's row that
# is there twice, or not at all.

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
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'eventsourcing'
eventsourcing.databases = 'postgres'
eventsourcing.naptime = '200ms'
restart_after_crash = on
));
$node->start;

sub query { return $node->safe_psql('postgres', @_); }
sub comes { my ($sql, $name) = @_; ok($node->poll_query_until('postgres', $sql), $name); return; }

query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');

my %killers = (
	'the client is killed' => sub {
		my ($session, $pid) = @_;
		$session->kill;
		$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die;
	},
	'its backend is killed' => sub { my ($session, $pid) = @_; kill_process($node, $pid) },
	'the server is killed' => sub { $node->stop('immediate'); $node->start },
);

#
# Consumers
#
# What is done before the end, and what then comes to the next consumer: at once,
# and when the lease is over.
my @phases = (
	[ 'while it fetches', q(BEGIN; SELECT es_fetch('crash', 'a', lease => '1 hour')), '1|1 2|1', '' ],
	[ 'while it works', q(SELECT es_fetch('crash', 'a', lease => '1 hour')), '', '1|2 2|2' ],
	[ 'while it acknowledges', q(SELECT es_fetch('crash', 'a', lease => '1 hour'); BEGIN; SELECT es_ack('crash', 'a', :done)), '', '1|2 2|2' ],
	[ 'when it has acknowledged a part', q(SELECT es_fetch('crash', 'a', lease => '1 hour'); SELECT es_ack('crash', 'a', :part)), '', '2|2' ],
	[ 'when it has acknowledged all', q(SELECT es_fetch('crash', 'a', lease => '1 hour'); SELECT es_ack('crash', 'a', :done)), '', '' ],
	[ 'while it reports a failure', q(SELECT es_fetch('crash', 'a', lease => '1 hour'); BEGIN; SELECT es_nack('crash', 'a', :first, 'x')), '', '1|2 2|2' ],
	[ 'when it has reported a failure', q(SELECT es_fetch('crash', 'a', lease => '1 hour'); SELECT es_nack('crash', 'a', :first, 'x')), '1|2', '2|2' ],
	[ 'while it does all in one transaction',
		q(BEGIN; SELECT es_fetch('crash', 'a', lease => '1 hour'); INSERT INTO done VALUES (1); SELECT es_ack('crash', 'a', :done)), '1|1 2|1', '' ],
);
query('CREATE TABLE done (n int)');
for my $killer (sort keys %killers)
{
	query(q{SELECT es_append_events('A-1', '[{"type": "1"}, {"type": "2"}]')});
	my ($two, $one) = split /\n/, query(q{SELECT position FROM es_read('A-1', backward => true, max_count => 2)});
	my %position = (first => $one, part => "'{$one}'", done => "'{$one, $two}'");
	my @sessions;

	for my $n (0 .. $#phases)
	{
		my $session = Session->new($node);
		my $pid = $session->query('SELECT pg_backend_pid()');
		my $sql = $phases[$n][1] =~ s/:(\w+)/$position{$1}/gr =~ s/'crash'/'crash $n'/gr;

		query("SELECT es_create_subscription('crash $n', after => $one - 1, backoff => '0s')");
		$session->query($sql);
		push @sessions, [ $session, $pid ];
	}
	$killers{$killer}->(@$_) for $killer =~ /client/ ? @sessions : $sessions[0];
	$_->[0]->quit for @sessions;
	for my $n (0 .. $#phases)
	{
		my ($when, undef, $at_once, $later) = $phases[$n]->@*;
		my $fetch = "SELECT string_agg(type || '|' || attempt, ' ' ORDER BY position) FROM es_fetch('crash $n', 'b')";

		is(query($fetch), $at_once, "$killer $when: what comes at once");
		query(q{SELECT es_ack(subscription, consumer, positions) FROM es.leases WHERE consumer = 'b'});
		is(query("SET eventsourcing.clock_offset = '2h'; $fetch"), $later, "$killer $when: when the lease is over");
		query("SELECT es_drop_subscription('crash $n')");
	}
}
is(query('SELECT count(*) FROM done'), 0, 'what was not committed did not happen');

#
# The worker: stopped by a lock where it is wanted, and killed there.
#
query(q{
CREATE TABLE effects (position bigint, type text);
CREATE TABLE counted (type text PRIMARY KEY, n int);
CREATE FUNCTION gate() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
CREATE FUNCTION gate_timer() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN IF NEW.type LIKE 'alarm%timer' THEN PERFORM public.gate(); END IF; RETURN NULL; END $$;
CREATE TRIGGER gate AFTER INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION gate_timer();
SELECT es_create_handler('effect', $$
	SELECT gate() FROM new_events WHERE type LIKE '%before';
	INSERT INTO effects SELECT position, type FROM new_events;
	SELECT es_append('Effect-1', 'Seen ' || type) FROM new_events WHERE type NOT LIKE 'Seen%';
	SELECT gate() FROM new_events WHERE type LIKE '%after'
$$, after => es_safe_position());
SELECT es_create_projection('counted', mode => 'async', tables => '{counted}', script => $$
	INSERT INTO counted AS c SELECT type, 1 FROM new_events ON CONFLICT (type) DO UPDATE SET n = c.n + 1;
	SELECT gate() FROM new_events WHERE type LIKE '%projected'
$$);
});
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker'};
my %worker_killers = (
	'the worker is killed' => sub { kill_process($node, $_[0]) },
	'the worker is terminated' => sub { query("SELECT pg_terminate_backend($_[0])") },
	'the server is killed' => sub { $node->stop('immediate'); $node->start },
);
my $round = 0;
for my $killer (sort keys %worker_killers)
{
	for my $phase (qw(before after projected timer))
	{
		my $type = 'alarm ' . ++$round . " $phase";
		my $gate = Session->new($node);

		$gate->query('SELECT pg_advisory_lock(1)');
		query($phase eq 'timer' ? "SELECT es_schedule(clock_timestamp(), 'T-1', '$type', key => 't')" :
			"SELECT es_append('T-1', '$type')");
		$node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_locks l JOIN ($worker) w USING (pid) WHERE locktype = 'advisory' AND NOT granted")
		  or die "the worker does not come to $phase";
		$worker_killers{$killer}->(query($worker));
		$gate->quit;
		comes("SELECT count(*) = 1 FROM effects WHERE type = 'Seen $type'", "$killer in phase $phase: it is done all the same");
	}
}
comes(q{SELECT bool_and(lag = 0) FROM (SELECT lag FROM es.subscriptions UNION ALL SELECT lag FROM es.projections) l}, 'all is done in the end');
is(query(q{SELECT type, count(*) FROM es.events WHERE stream IN ('T-1', 'Effect-1') GROUP BY type HAVING count(*) > 1}), '',
	'no timer fired twice, no event was appended twice');
is(query(q{SELECT count(*) FROM es.events WHERE stream = 'Effect-1'}), $round, 'nor not at all');
is(query(q{SELECT position FROM effects GROUP BY position HAVING count(*) > 1}), '', 'no effect twice');
is(query(q{SELECT * FROM (SELECT type, count(*) AS n FROM es.events GROUP BY type) e FULL JOIN counted c USING (type, n) WHERE e.n IS NULL OR c.n IS NULL}),
	'', 'the projection counted every event once');
is(query('SELECT count(*) FROM es.scheduled'), 0, 'no timer is left');

$node->stop;
done_testing();
