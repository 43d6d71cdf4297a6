# What subscriptions and timers have promised hangs on no session: calls that are
# part of a prepared transaction, across a crash, and another time zone.
#
# Would fail: a lease that is lost or counts before its transaction has committed;
# a timer that fires though it was cancelled; a time that was kept as text.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'America/New_York'");
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

sub fetch
{
	my ($consumer, $offset) = @_;
	return query(qq{SET eventsourcing.clock_offset = '@{[ $offset // 0 ]}';
		SELECT string_agg(position || '/' || attempt, ' ' ORDER BY position) FROM es_fetch('mail', '$consumer', lease => '1 hour')});
}

sub counts { return query('SELECT position, leased, waiting, parked FROM es.subscriptions'); }

# Runs a call beside the prepared transaction and says what it waited for.
sub waits_for_prepared
{
	my ($sql, $prepared_end, $name) = @_;
	my $session = Session->new($node);

	$session->send($sql);
	ok( $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'}),
		"$name waits for the prepared transaction");
	query($prepared_end);
	my $result = $session->result;
	$session->quit;
	return $result;
}

sub crash { $node->stop('immediate'); $node->start; return; }

query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');
# All at once: a crash makes a gap in the positions.
query(q{SELECT es_create_subscription('mail', types => '{X}'); SELECT es_append(s, 'X') FROM unnest('{A-1,B-1,A-1}'::text[]) s});

#
# es_fetch: other consumers wait to see what it has left
#
query(q{BEGIN; SELECT es_fetch('mail', 'one', 1, lease => '1 hour'); PREPARE TRANSACTION 'fetch'});
crash();
is(counts(), '0|0|0|0', 'what a prepared es_fetch leases is not leased yet');
is( waits_for_prepared(q{SELECT position FROM es_fetch('mail', 'two', 2, lease => '1 hour')}, q{COMMIT PREPARED 'fetch'}, 'es_fetch'),
	'2', 'a prepared es_fetch that commits has its event');
is(query(q{SELECT es_ack('mail', 'one', '{1}')}), 1, 'which can be acknowledged');

query(q{BEGIN; SELECT es_fetch('mail', 'one', lease => '1 hour'); PREPARE TRANSACTION 'fetch'});
is( waits_for_prepared(q{SELECT position, attempt FROM es_fetch('mail', 'two', 2, lease => '1 hour')}, q{ROLLBACK PREPARED 'fetch'}, 'es_fetch'),
	'3|1', 'one that rolls back leaves it to others, unattempted');

#
# es_ack, es_nack: nobody takes over what is being acknowledged
#
query(q{BEGIN; SELECT es_ack('mail', 'two', '{2,3}'); PREPARE TRANSACTION 'ack'});
crash();
is(counts(), '1|2|0|0', 'what a prepared es_ack has done is leased still');
is(fetch('three', '2h'), '', 'and not taken over, though the lease has run out');
query(q{ROLLBACK PREPARED 'ack'});
is(fetch('three', '2h'), '2/2 3/2', 'but when it has rolled back');

query(q{BEGIN; SELECT es_ack('mail', 'three', '{2}'); PREPARE TRANSACTION 'ack'});
crash();
query(q{COMMIT PREPARED 'ack'});
is(counts(), '2|1|0|0', 'one that commits counts');
query(q{BEGIN; SELECT es_nack('mail', 'three', 3, 'failed', park => true); PREPARE TRANSACTION 'nack'});
crash();
is(counts(), '2|1|0|0', 'a prepared es_nack parks nothing yet');
query(q{COMMIT PREPARED 'nack'});
is(query('SELECT position, attempts, error FROM es.parked'), '3|2|failed', 'one that commits does');
query(q{SELECT es_unpark('mail')});

#
# Timers
#
query(q{SELECT es_schedule(clock_timestamp() + '1 hour', 'T-' || n, 'Due', key => 'timer ' || n) FROM generate_series(1, 2) n});
query(qq{BEGIN; SELECT es_cancel('timer $_'); PREPARE TRANSACTION 'cancel $_'}) for 1, 2;
crash();
is(query('SELECT count(*) FROM es.scheduled'), 2, 'a prepared es_cancel has not cancelled yet');
my $run = Session->new($node);
$run->send(q{SET eventsourcing.clock_offset = '2h'; CALL es_run()});
query(q{COMMIT PREPARED 'cancel 1'});
query(q{ROLLBACK PREPARED 'cancel 2'});
$run->result;
$run->quit;
query(q{SET eventsourcing.clock_offset = '2h'; CALL es_run()});
is(query(q{SELECT stream, version FROM es.events WHERE type = 'Due'}), 'T-2|1', 'the timer that was cancelled does not fire, the other does once');
is(query('SELECT count(*) FROM es.scheduled'), 0, 'and none is left');

query(q{BEGIN; SELECT es_schedule(clock_timestamp() + '1 hour', 'T-3', 'Due', key => 'timer 3'); PREPARE TRANSACTION 'schedule'});
crash();
query(q{SET eventsourcing.clock_offset = '2h'; CALL es_run()});
query(q{COMMIT PREPARED 'schedule'});
is(query(q{SELECT es_stream_version('T-3')}), 0, 'a prepared es_schedule does not fire');
query(q{SET eventsourcing.clock_offset = '2h'; CALL es_run()});
is(query(q{SELECT es_stream_version('T-3')}), 1, 'but when it has committed');

#
# Another time zone, of the server and of each session
#
is(fetch('one'), '3/1', 'fetched in one time zone');
query(q{SELECT es_schedule(clock_timestamp() + '1 hour', 'Z-1', 'Due', key => 'zone')});
my $times = q{SELECT extract(epoch FROM leased_until) FROM es.leases UNION ALL SELECT extract(epoch FROM at) FROM es.scheduled ORDER BY 1};
my $before = query($times);
$node->append_conf('postgresql.conf', "timezone = 'Pacific/Kiritimati'");
# not restart(), which starts it past the wrapper of script/check
$node->stop;
$node->start;
is(query('SHOW timezone'), 'Pacific/Kiritimati', 'the server has another time zone');
is(query($times), $before, 'times are what they were');
for my $zone ('Pacific/Kiritimati', 'Pacific/Pago_Pago')
{
	local $ENV{PGTZ} = $zone;
	is(fetch('two', '50min'), '', "$zone: a lease is good for its hour");
	query(q{SET eventsourcing.clock_offset = '50min'; CALL es_run()});
	is(query(q{SELECT es_stream_version('Z-1')}), 0, "$zone: a timer is not due before its time");
}
is(fetch('two', '61min'), '3/2', 'and the lease no longer than that');
query(q{SET eventsourcing.clock_offset = '61min'; CALL es_run()});
is(query(q{SELECT es_stream_version('Z-1')}), 1, 'nor the timer later');

$node->stop;
done_testing();
