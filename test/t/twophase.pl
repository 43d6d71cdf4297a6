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
		  SET lock_timeout = '100ms'; SELECT es_append('B-1', 'Z', expected_version => 0)});
	like($stderr, qr/ERROR:  55P03/, "its versions are taken after crash $crash");
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
