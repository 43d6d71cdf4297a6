# Logical replication of the log into another database's store: events arrive
# past the guard, users stay outside of it, what reads by position goes up to the
# publisher's watermark, and the copy can take over.
#
# Would fail: a reader on the subscriber that takes in an event before one of a lower
# position has arrived, or a watermark before the events below it, also during the
# first copy; one that never gets to an event; a position used twice after take-over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->start;

sub sqlstate
{
	my ($sql) = @_;
	my (undef, undef, $stderr) = $subscriber->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : '00000';
}

$_->safe_psql('postgres', q{CREATE EXTENSION eventsourcing; SELECT es_create_store();
	SELECT es_create_aggregate('A', rules => '{"X": {"$inc": {"n": 1}}}')})
  for $publisher, $subscriber;

# A reader of the copy, from before anything has arrived.
my $reader = Session->new($subscriber);
is($reader->query('SELECT count(*) FROM es_read_all()'), 0, 'an empty copy');

# Some before the subscription, which are copied, and some after.
$publisher->safe_psql('postgres', q{SELECT es_append_events('A-1', '[{"type": "X"}, {"type": "X"}]');
	CREATE PUBLICATION events FOR TABLE es.events});
my $connstr = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION events CONNECTION '$connstr' PUBLICATION events");
$subscriber->wait_for_subscription_sync($publisher, 'events');
$publisher->safe_psql('postgres', q{
	SELECT es_append('A-1', 'X', '{"n": 3}', expected_version => 2, event_id => '00000000-0000-0000-0000-000000000001', tags => '{a,b}');
	SELECT es_append('A-2', 'X');
	BEGIN; SELECT es_append('A-3', 'X'); SAVEPOINT s; SELECT es_append('A-3', 'Never'); ROLLBACK TO s; SELECT es_append('A-3', 'Y'); COMMIT;
	BEGIN; SELECT es_append('A-4', 'Never'); ROLLBACK;
	DO $$ BEGIN PERFORM es_append('A-1', 'Never', expected_version => 0); EXCEPTION WHEN SQLSTATE 'ZE001' THEN PERFORM es_append('A-6', 'X'); END $$;
	BEGIN; SELECT es_append('A-5', 'X'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'});
$publisher->wait_for_catchup('events');

my $events = q{SELECT md5(string_agg(e::text, ',' ORDER BY position)), count(*) FROM es.events e};
is($subscriber->safe_psql('postgres', $events), $publisher->safe_psql('postgres', $events), 'every event arrives as it is');
is($subscriber->safe_psql('postgres', q{SELECT * FROM es_load('A-1')}), '3|{"n": 3}', 'and is folded there');

is(sqlstate('UPDATE es.events SET version = 7'), 'ZE005', 'the guard refuses users: UPDATE');
is(sqlstate('DELETE FROM es.events'), 'ZE005', 'DELETE');
is(sqlstate('TRUNCATE es.events'), 'ZE005', 'TRUNCATE');
is( sqlstate(q{INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (99, 1, now(), 'A-9', 'X', '{}')}),
	'ZE005', 'INSERT');
is(sqlstate(q{SET session_replication_role = replica; DELETE FROM es.events}), 'ZE005', 'DELETE as a replica');

# Nobody must get a position from its sequence, nor be told that there is nothing
# to read.
is(sqlstate(q{SELECT es_append('A-1', 'X')}), '55000', 'a copy does not append by mistake');
is(sqlstate(q{SELECT count(*) FROM es_read_all()}), '55000', 'nor is it read by position without a watermark');
is(sqlstate(q{SELECT es_safe_position()}), '55000', 'nor has it a safe position');
like(($reader->query('SELECT count(*) FROM es_read_all()'))[1], qr/which is a logical subscriber/, 'not for one who began before either');

# A watermark, which the publisher has from the first call on.
my $count = q{SELECT count(*) FROM es.watermark};
$publisher->safe_psql('postgres', 'CALL es_run()');
is($publisher->safe_psql('postgres', $count), 0, 'es_run() keeps none that nobody wants');
is($publisher->safe_psql('postgres', 'SELECT es_advance_watermark() = es_head_position()'), 't', 'it is at the head, where nothing is open');
$publisher->safe_psql('postgres', 'ALTER PUBLICATION events ADD TABLE es.watermark');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION events REFRESH PUBLICATION');
ok($subscriber->poll_query_until('postgres', q{SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'both tables are copied');
my $all = q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_read_all()};
my $first = 'A-1/1 A-1/2 A-1/3 A-2/1 A-3/1 A-3/2 A-6/1 A-5/1';
is($reader->query($all), $first, 'a copy with a watermark is read by position, also by one who had been refused');
$reader->quit;

# Everything that works after commit runs there up to it.
$subscriber->safe_psql('postgres', q{
	CREATE TABLE totals (stream text PRIMARY KEY, n bigint, positions bigint[]);
	SELECT es_create_projection('totals', 'INSERT INTO totals SELECT stream, 1, ARRAY[position] FROM new_events
		ON CONFLICT (stream) DO UPDATE SET n = totals.n + 1, positions = totals.positions || excluded.positions', '{totals}', mode => 'async');
	CREATE TABLE handled (position bigint);
	SELECT es_create_handler('handler', 'INSERT INTO handled SELECT position FROM new_events');
	SELECT es_create_subscription('s')});
my $fetch = q{SELECT count(es_ack('s', 'c', ARRAY[position])) FROM es_fetch('s', 'c', 1000)};

# What has been taken in by everybody, and what is there.
sub taken_in
{
	$subscriber->safe_psql('postgres', 'CALL es_run()');
	$subscriber->safe_psql('postgres', q{SELECT (SELECT sum(n) FROM totals), (SELECT count(*) FROM handled),
		(SELECT count(*) FROM es_read_all()), (SELECT count(*) FROM es.events)});
}

sub advance
{
	$publisher->safe_psql('postgres', 'SELECT es_advance_watermark()');
	$publisher->wait_for_catchup('events');
}
is(taken_in(), '8|8|8|8', 'projection and handler take in what is there');
is($subscriber->safe_psql('postgres', $fetch), 8, 'so does a subscription');
$subscriber->safe_psql('postgres', 'CREATE TABLE kept AS TABLE es.watermark; SET session_replication_role = replica; DELETE FROM es.watermark');
is(sqlstate(q{SELECT es_safe_position()}), '55000', 'not once the watermark is lost');
is(sqlstate(q{CALL es_wait('totals', es_head_position() + 1000, '0 s')}), 'ZE010', 'which is nothing that a time-out needs');
$subscriber->safe_psql('postgres', 'SET session_replication_role = replica; INSERT INTO es.watermark TABLE kept');

# Open transactions on the publisher hold lower positions.
my $open = Session->new($publisher);
$open->query(q{BEGIN; SELECT es_append('B-1', 'X')});
$publisher->safe_psql('postgres', q{BEGIN; SELECT es_append('B-2', 'X'); PREPARE TRANSACTION 'q'});
$publisher->safe_psql('postgres', q{SELECT es_append('B-3', 'X')});
advance();
is(taken_in(), '8|8|8|9', 'an event above an open transaction has arrived, and is not taken in');
is($subscriber->safe_psql('postgres', $fetch), 0, 'nor fetched');
$open->query('COMMIT');
$open->quit;
$publisher->wait_for_catchup('events');
is(taken_in(), '8|8|8|10', 'nor both, before the watermark says so');
advance();
is(taken_in(), '9|9|9|10', 'a prepared transaction holds the third one still');
$publisher->safe_psql('postgres', q{COMMIT PREPARED 'q'});
$publisher->safe_psql('postgres', 'CALL es_run()');
$publisher->wait_for_catchup('events');
is(taken_in(), '11|11|11|11', 'es_run() on the publisher advances the watermark, and all are taken in');
is($subscriber->safe_psql('postgres', $fetch), 3, 'also by the subscription');
is($subscriber->safe_psql('postgres', $all), "$first B-1/1 B-2/1 B-3/1", 'in the order of positions');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM totals WHERE n <> cardinality(ARRAY(SELECT DISTINCT unnest(positions)))}), 0, 'each once');
$subscriber->safe_psql('postgres', q{CALL es_wait('totals', es_head_position())});
is($subscriber->safe_psql('postgres', q{SELECT es_safe_position() = es_head_position()}), 't', 'and es_wait() knows that the head is reached');

# A rebuild, and a snapshot from before.
$subscriber->safe_psql('postgres', q{CALL es_rebuild('totals')});
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM es_verify_projection('totals')}), 0, 'a rebuild there goes up to it, too');
$open = Session->new($subscriber);
$open->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM es.events');
$publisher->safe_psql('postgres', q{SELECT es_append('B-1', 'X')});
advance();
is($open->query('SELECT count(*) FROM es_read_all()'), 11, 'an old snapshot does not see what has arrived');
is($open->query('SELECT es_safe_position() < (SELECT position FROM es.events ORDER BY position DESC LIMIT 1) + 1'), 't', 'and is told of no higher safe position');
$open->quit;

# What belongs to where events are appended.
is(sqlstate(q{SELECT es_create_projection('inline', 'INSERT INTO handled SELECT position FROM new_events', '{handled}')}),
	'55000', 'an inline projection is refused');
is(sqlstate(q{SELECT es_advance_watermark()}), '55000', 'so is advancing the watermark');
is($subscriber->safe_psql('postgres', q{SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'}),
	'', 'es_verify() finds nothing there');

# Positions that were drawn and rolled back lie above the watermark.
$publisher->safe_psql('postgres', q{BEGIN; SELECT es_append('B-4', 'X'); ROLLBACK});
is($publisher->safe_psql('postgres', 'SELECT es_advance_watermark() = es_head_position() AND es_safe_position() > es_head_position()'),
	't', 'the watermark is the position of an event');

# A first copy in which the watermark is ahead of the events.
$subscriber->safe_psql('postgres', 'CREATE DATABASE second');
$subscriber->safe_psql('second', 'CREATE EXTENSION eventsourcing; SELECT es_create_store()');
my $lock = Session->new($subscriber);
$lock->query('\\c second');
$lock->query('BEGIN; LOCK TABLE es.events IN SHARE MODE');
$subscriber->safe_psql('second', "CREATE SUBSCRIPTION second CONNECTION '$connstr' PUBLICATION events");
ok($subscriber->poll_query_until('second', q{SELECT srsubstate = 'r' FROM pg_subscription_rel WHERE srrelid = 'es.watermark'::regclass}),
	'its watermark comes first');
(undef, undef, my $stderr) = $subscriber->psql('second', q{SELECT es_safe_position()});
like($stderr, qr/first copy .* is not complete/, 'which says nothing before the events are there');
$lock->query('COMMIT');
$lock->quit;
ok($subscriber->poll_query_until('second', q{SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'they come');
is($subscriber->safe_psql('second', 'SELECT count(*) FROM es_read_all()'), 12, 'then all are read');
$subscriber->safe_psql('second', 'DROP SUBSCRIPTION second');

# It takes over.
my $head = $publisher->safe_psql('postgres', 'SELECT es_head_position()');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION events; SELECT es_repair_sequence()');
is($subscriber->safe_psql('postgres', q{SELECT es_append('A-1', 'X', expected_version => 3)}), 4, 'when it has taken over it appends');
cmp_ok($subscriber->safe_psql('postgres', 'SELECT es_head_position()'), '>', $head, 'after the last position');
is( $subscriber->safe_psql('postgres', q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_read_all()}),
	"$first B-1/1 B-2/1 B-3/1 B-1/2 A-1/4", 'and is read by position');
is(taken_in(), '13|13|13|13', 'projection and handler go on');
is($subscriber->safe_psql('postgres', q{SELECT es_append('A-1', 'X', '{"n": 3}', event_id => '00000000-0000-0000-0000-000000000001')}),
	3, 'an id that came from there is known');
is($subscriber->safe_psql('postgres', q{SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'}),
	'', 'es_verify() finds nothing');

# Decoding passes over a rebuild, and goes on with what the read model holds.
$subscriber->safe_psql('postgres', q{
	CREATE TABLE seen (stream text, doc text);
	SELECT es_create_projection('seen', 'INSERT INTO seen SELECT stream, data ->> ''doc'' FROM new_events', '{seen}', types => '{Long}');
	SELECT es_append('Long-1', 'Long', (SELECT jsonb_build_object('doc', string_agg(md5(i::text), '')) FROM generate_series(1, 300) i))});
$subscriber->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('all_tables', 'test_decoding')});
$subscriber->safe_psql('postgres', q{CALL es_rebuild('seen')});
$subscriber->safe_psql('postgres', q{
	SELECT es_append('Long-2', 'Long', (SELECT jsonb_build_object('doc', string_agg(md5(i::text), '')) FROM generate_series(1, 300) i))});
my $decoded = $subscriber->safe_psql('postgres', q{SELECT data FROM pg_logical_slot_get_changes('all_tables', NULL, NULL)
	WHERE data LIKE 'table %.rebuild\_%' OR data LIKE 'table public.seen%'});
unlike($decoded, qr/rebuild_\d/, 'the tables that a rebuild fills are not decoded');
like($decoded, qr/^table public.seen: INSERT: stream\[text\]:'Long-2' doc\[text\]:'[0-9a-f]{9600}'$/, 'the read model is');
$subscriber->safe_psql('postgres', q{SELECT pg_drop_replication_slot('all_tables')});

$subscriber->stop;
$publisher->stop;
done_testing();
