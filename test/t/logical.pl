# Logical replication of the log into another database's store: events arrive
# past the guard, users stay outside of it, and the copy can take over.

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

# Its sequence of positions stands where it stood: nobody must get a position
# from it, nor be told that there is nothing to read.
is(sqlstate(q{SELECT es_append('A-1', 'X')}), '55000', 'a copy does not append by mistake');
is(sqlstate(q{SELECT count(*) FROM es_read_all()}), '55000', 'nor is it read by position');
is(sqlstate(q{SELECT es_safe_position()}), '55000', 'nor has it a safe position');

like(($reader->query('SELECT count(*) FROM es_read_all()'))[1], qr/the sequence of positions .* is behind its log/,
	'not by one who began before either');
$reader->quit;

# It takes over.
my $head = $publisher->safe_psql('postgres', 'SELECT es_head_position()');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION events; SELECT es_repair_sequence()');
is($subscriber->safe_psql('postgres', q{SELECT es_append('A-1', 'X', expected_version => 3)}), 4, 'when it has taken over it appends');
cmp_ok($subscriber->safe_psql('postgres', 'SELECT es_head_position()'), '>', $head, 'after the last position');
is( $subscriber->safe_psql('postgres', q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_read_all()}),
	'A-1/1 A-1/2 A-1/3 A-2/1 A-3/1 A-3/2 A-6/1 A-5/1 A-1/4', 'and is read by position');
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
