# A captured table is restored from a dump without making events, goes on being
# captured after it, and a logical subscriber gets each event once.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE TABLE customer (id int PRIMARY KEY, name text);
	INSERT INTO customer VALUES (1, 'ann'), (2, 'bob');
	SELECT es_capture('customer', 'Customer', 'id');
	UPDATE customer SET name = 'anna' WHERE id = 1;
	DELETE FROM customer WHERE id = 2;
});
my $events = q{SELECT position, stream, version, type, data FROM es.events ORDER BY position};
my $before = $node->safe_psql('source', $events);

# Would fail: triggers that are put in place before the rows.
my $dump = $node->basedir . '/dump';
$node->safe_psql('postgres', 'CREATE DATABASE target');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('source') ], 'dump');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('target'), $dump ], 'restore');
is($node->safe_psql('target', $events), $before, 'the restore makes no events');
$node->safe_psql('target', q{INSERT INTO customer VALUES (3, 'cy')});
is( $node->safe_psql('target', q{SELECT version, type, data FROM es_read('Customer-3')}),
	'1|Created|{"id": 3, "name": "cy"}', 'and what comes later is captured');
my (undef, undef, $stderr) = $node->psql('target', 'TRUNCATE customer');
like($stderr, qr/its rows are captured as events/, 'TRUNCATE is refused');

# Table and log both go to a subscriber that captures, too: what arrives is
# captured where it was written, and nowhere else.
$node->safe_psql('source', q{
	CREATE PUBLICATION everything FOR TABLE customer, es.events WITH (publish = 'insert, update, delete');
});
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$subscriber->safe_psql('postgres', q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE TABLE customer (id int PRIMARY KEY, name text);
	SELECT es_capture('customer', 'Customer', 'id');
});
my $connection = $node->connstr('source') =~ s{'}{''}gr;
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($node, 's');
$node->safe_psql('source', q{INSERT INTO customer VALUES (4, 'dan'); UPDATE customer SET name = 'dana' WHERE id = 4});
$node->wait_for_catchup('s', 'replay', $node->lsn('write'));
is($subscriber->safe_psql('postgres', $events), $node->safe_psql('source', $events), 'the subscriber has the same events, each once');
is($subscriber->safe_psql('postgres', 'SELECT * FROM customer ORDER BY id'), "1|anna\n4|dana", 'and the rows');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

$subscriber->stop;
$node->stop;
done_testing();
