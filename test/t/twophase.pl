# A prepared transaction that appended holds the safe position and its versions,
# also across a crash, until somebody decides about it.

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
$node->append_conf('postgresql.conf', 'fsync = on');
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

sub read_all
{
	return query(q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_read_all()});
}

query('CREATE EXTENSION eventsourcing; SELECT es_create_store()');
query(q{SELECT es_append('A-1', 'X')});
query(q{BEGIN; SELECT es_append('B-1', 'X'); SAVEPOINT s; SELECT es_append('B-1', 'Y'); RELEASE s; PREPARE TRANSACTION 'commit me'});
query(q{BEGIN; SELECT es_append('C-1', 'X'); PREPARE TRANSACTION 'not me'});
query(q{SELECT es_append('D-1', 'X')});

my $held = query('SELECT es_safe_position()');
is(read_all(), 'A-1/1', 'a prepared transaction holds the safe position');

for my $crash (1 .. 2)
{
	$node->stop('immediate');
	$node->start;

	is(query('SELECT es_safe_position()'), $held, "the same after crash $crash");
	is(read_all(), 'A-1/1', "a reader stops before it after crash $crash");
	is(query('SELECT gid FROM es.open_appends ORDER BY holds_at'),
		"commit me\nnot me", "es.open_appends names the holders after crash $crash");
	query("SELECT es_append('D-$crash', 'Y', expected_version => @{[ 2 - $crash ]})");

	my (undef, undef, $stderr) = $node->psql('postgres',
		q{\set VERBOSITY sqlstate
		  SET lock_timeout = '100ms'; SELECT es_append('B-1', 'Z', expected_version => 0);
		  \set VERBOSITY default
		  SELECT es_append('B-1', 'Z');
		  SET lock_timeout = 0; SET statement_timeout = '100ms'; SELECT es_append_events('B-1', '[{"type": "Z"}]')},
		on_error_stop => 0);
	like($stderr, qr/ERROR:  55P03/, "its versions are taken after crash $crash");
	like($stderr, qr/due to lock timeout\n.*CONTEXT:.*append to stream "B-1"/s, 'the error says to which stream');
	like($stderr, qr/due to statement timeout\n.*CONTEXT:.*append to stream "B-1"/s, 'so it does when it is another time-out');
}

# Who waits for it goes on with what it left.
my $waiter = Session->new($node);
$waiter->send(q{SELECT es_append('C-1', 'Z')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted})
  or die 'nobody waits';
query(q{ROLLBACK PREPARED 'not me'});
is($waiter->result, 1, 'the version of the one that was rolled back');
is(read_all(), 'A-1/1', 'the other one still holds');

query(q{COMMIT PREPARED 'commit me'});
is(read_all(), 'A-1/1 B-1/1 B-1/2 D-1/1 D-1/2 D-2/1 C-1/1', 'everything, in order');
is(query('SELECT es_safe_position() = es_head_position()'), 't', 'and nothing is held');
is(query('SELECT count(*) FROM es.open_appends'), 0, 'nor shown as a holder');
is(query('SELECT count(*) FROM es_verify()'), 0, 'es_verify() finds nothing');

# What an append does besides commits with it, or not at all: read model, snapshot,
# timer, acknowledgement.
query(q{
	CREATE TABLE totals (stream text PRIMARY KEY, n int);
	SELECT es_create_projection('totals', 'INSERT INTO totals SELECT stream, 1 FROM new_events
		ON CONFLICT (stream) DO UPDATE SET n = totals.n + 1', '{totals}', types => '{Counted}');
	SELECT es_create_aggregate('S', rules => '{"Counted": {"$inc": {"n": 1}}}', snapshot_every => 2);
	SELECT es_create_subscription('s', 'S');
	SELECT es_append_events('S-1', '[{"type": "Counted"}, {"type": "Counted"}, {"type": "Counted"}]');
	SELECT es_fetch('s', 'c')});

sub besides
{
	return query(q{
		SELECT (SELECT n FROM totals WHERE stream = 'S-1'), (SELECT max(version) FROM es.snapshots WHERE stream = 'S-1'),
			   (SELECT version || ' ' || state FROM es_load('S-1')), (SELECT count(*) FROM es.timers),
			   (SELECT leased FROM es.subscriptions WHERE name = 's'), (SELECT state FROM es.projections)});
}
my $before = '3|3|3 {"n": 3}|0|3|running';
is(besides(), $before, 'before');
foreach my $end ('ROLLBACK', 'COMMIT')
{
	query(q{BEGIN;
		SELECT es_append_events('S-1', '[{"type": "Counted"}, {"type": "Counted"}, {"type": "Counted"}]', 3);
		SELECT es_schedule('3000-01-01', 'S-1', 'Counted', key => 'later');
		SELECT es_ack('s', 'c', ARRAY(SELECT position FROM es.events WHERE stream = 'S-1' AND version = 1));
		PREPARE TRANSACTION 'besides'});
	is(besides(), $before, "prepared: $end");
	$node->stop('immediate');
	$node->start;
	is(besides(), $before, "prepared, and a crash: $end");
	query("$end PREPARED 'besides'");
	is(besides(), $end eq 'COMMIT' ? '6|6|6 {"n": 6}|1|2|running' : $before, "$end PREPARED after the crash");
}
is(query(q{SELECT count(*) FROM es_verify_projection('totals')}), 0, 'the read model is what the events make');
is(query('SELECT count(*) FROM es_verify()'), 0, 'es_verify() finds nothing');

# A crash right after COMMIT PREPARED.
query(q{BEGIN; SELECT es_append('E-1', 'X'); PREPARE TRANSACTION 'e'});
query(q{COMMIT PREPARED 'e'});
$node->stop('immediate');
$node->start;
is(query(q{SELECT es_stream_version('E-1')}), 1, 'COMMIT PREPARED is durable');
is(query('SELECT es_safe_position() >= es_head_position()'), 't', 'and holds nothing');

$waiter->quit;
$node->stop;
done_testing();
