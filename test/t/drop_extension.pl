# DROP EXTENSION refuses while there is a store; with CASCADE the events stay,
# and es_upgrade_store() puts the guard back.

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
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

sub sqlstate
{
	my ($sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : '00000';
}

my $apply = q{CREATE FUNCTION apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_set(state, '{n}', to_jsonb(event.version)) $$};

query('CREATE EXTENSION eventsourcing; SELECT es_create_store(); SELECT es_create_store($$Other "store"$$)');
query($apply);
query(q{SELECT es_create_aggregate('A', 'apply(jsonb, es_event)');
	SELECT es_append_events('A-1', '[{"type": "X"}, {"type": "Y"}, {"type": "Z"}]');
	SET eventsourcing.store = 'Other "store"'; SELECT es_append('A-1', 'Other')});
my $events = query('SELECT md5(string_agg(e::text, chr(10) ORDER BY position)) FROM es.events e');

# A session that lives through it all.
my $session = Session->new($node);
is($session->query(q{SELECT state FROM es_load('A-1')}), '{"n": 3}', 'a session at work');

is(sqlstate('DROP EXTENSION eventsourcing'), '2BP01', 'DROP EXTENSION refuses');
is(sqlstate('UPDATE es.events SET version = 7'), 'ZE005', 'and has left the guard in place');
is(sqlstate('DROP FUNCTION es_guard()'), '2BP01', 'DROP FUNCTION of the guard refuses, too');
is($session->query(q{SELECT es_append('A-2', 'X')}), 1, 'appends go on');
query(q{SELECT es_append('A-3', 'X')});
$events = query('SELECT md5(string_agg(e::text, chr(10) ORDER BY position)) FROM es.events e');

query('DROP EXTENSION eventsourcing CASCADE');
is( query('SELECT md5(string_agg(e::text, chr(10) ORDER BY position)) FROM es.events e'),
	$events, 'CASCADE keeps every event');
is(query('SELECT count(*) FROM "Other ""store""".events'), 1, 'of every store');
is(query('SELECT count(*) FROM es.streams'), 3, 'and the view of streams');
like(($session->query(q{SELECT es_append('A-1', 'X')}))[1], qr/function es_append.* does not exist/,
	'without the extension nothing appends');

query('CREATE EXTENSION eventsourcing');
query(q{SELECT es_upgrade_store('es'); SELECT es_upgrade_store('Other "store"')});
is(sqlstate('UPDATE es.events SET version = 7'), 'ZE005', 'es_upgrade_store() brings the guard back: UPDATE');
is(sqlstate('TRUNCATE es.events'), 'ZE005', 'TRUNCATE');
is( sqlstate(q{INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (9, 9, now(), 'A-9', 'X', '{}')}),
	'ZE005', 'INSERT');
is(sqlstate('UPDATE "Other ""store""".events SET version = 7'), 'ZE005', 'in every store');
is(query(q{SELECT es_append('A-1', 'X', expected_version => 3)}), 4, 'appends go on where they were');
is($session->query(q{SELECT es_append('A-1', 'X', expected_version => 4)}), 5, 'also in a session that lived through it');

# The function went with the type of its argument; its name is still in the definition.
is(sqlstate(q{SELECT es_load('A-1')}), '42883', 'an apply function that went with CASCADE is missed');
query($apply);
is(query(q{SELECT state FROM es_load('A-1')}), '{"n": 5}', 'until it is made again');
is($session->query(q{SELECT state FROM es_load('A-1')}), '{"n": 5}', 'also in a session that lived through it');

# ... and definitions that are changed are noticed again.
query(q{SELECT es_create_aggregate('A', 'apply(jsonb, es_event)', initial => '{"new": true}')});
is($session->query(q{SELECT state FROM es_load('A-1')}), '{"n": 5, "new": true}', 'a changed definition is noticed');
is(query('DROP EXTENSION IF EXISTS nothing; SELECT count(*) FROM es_read_all()'), 7, 'a reader by position gets all');

$session->quit;
$node->stop;
done_testing();
