# What a fetch and an acknowledgement cost does not depend on what was done
# before, nor on what waits elsewhere: counted in pages, not in time.
#
# Would fail: bookkeeping that keeps a trace of what is done; a statement that
# reads all that waits, or all that is left of the log.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Statistics as they are when nobody has had the time to make some.
$node->append_conf('postgresql.conf', "autovacuum = off\nsynchronous_commit = off\nwal_writer_delay = 10s");
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

# How many pages a SELECT touches, in a session that has its plans.  What is dead
# is marked as such only when the commit that made it so is on disk: so that is
# waited for.
sub pages
{
	my ($sql, $before) = @_;
	my $plan = query(
		q{SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', ''); RESET synchronous_commit; } .
		($before // '') . "$sql; $sql; EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) $sql");

	query(q{SELECT es_ack(subscription, 'b', positions) FROM es.leases WHERE consumer = 'b'});
	$plan =~ /Buffers: shared hit=(\d+)(?: read=(\d+))?/ or die $plan;
	return $1 + ($2 // 0);
}

query(q{
CREATE EXTENSION eventsourcing;
SELECT es_create_store();
SELECT es_append('Stuck-1', 'X');
SELECT count(es_append('A-' || g % 20000, 'T' || g % 4)) FROM generate_series(1, 60000) g;
SELECT es_create_subscription('all');
SELECT es_create_subscription('types', types => '{T1,T3}');
SELECT es_create_subscription('rare', types => '{X}');

CREATE PROCEDURE consume(subscription text, batches int) LANGUAGE plpgsql AS $$
DECLARE
	done bigint[];
BEGIN
	FOR i IN 1 .. batches LOOP
		SELECT array_agg(position) INTO done FROM es_fetch(subscription, 'a', 100);
		COMMIT;
		EXIT WHEN done IS NULL;
		PERFORM es_ack(subscription, 'a', done);
		COMMIT;
	END LOOP;
END
$$});

# One stream is stuck, with some events behind it.
query(q{
SELECT es_fetch('all', 'a', 1);
SELECT es_nack('all', 'a', 1, 'poison', park => true);
SELECT count(es_append('Stuck-1', 'X')) FROM generate_series(1, 1000);
});
my $fetch = q{SELECT position FROM es_fetch('%s', 'b', 100)};
my $early = pages(sprintf $fetch, 'all');
query(q{CALL consume('all', 400)});
my $late = pages(sprintf $fetch, 'all');
cmp_ok($late, '<', $early + 100, "a fetch touches no more pages after 40,000 events ($early, then $late)");
is(query(q{SELECT count(*) FROM es.deliveries WHERE subscription = 'all' AND parked_at IS NULL}), 0, 'what is done leaves no row');
query(q{CALL consume('all', 1000)});
is(query(q{SELECT (SELECT count(*) FROM es.deliveries WHERE subscription = 'all'), (SELECT count(DISTINCT stream) FROM es.deliveries)}),
	'1001|1', 'in the end there is but the stuck stream');
is(query('SELECT count(*) FROM es.leases'), 0, 'and nothing is leased');
my $idle = pages(sprintf $fetch, 'all');
cmp_ok($idle, '<', 300, "asking in vain costs little ($idle)");

# Much waits: 200 streams, each behind its first event.
query(q{
SELECT es_create_subscription('waiting', after => es_safe_position());
SELECT count(es_append_events('W-' || g, (SELECT jsonb_agg(jsonb_build_object('type', 'T1')) FROM generate_series(1, 200))))
  FROM generate_series(1, 200) g;
SELECT count(*) FROM es_fetch('waiting', 'a', 40000);
SELECT es_nack('waiting', 'a', position, 'not now', '1 day')
  FROM (SELECT min(position) AS position FROM es.events WHERE stream LIKE 'W-%' GROUP BY stream) e;
});
is(query(q{SELECT waiting FROM es.subscriptions WHERE name = 'waiting'}), '40000', 'all that waits is a row');
query(q{
SELECT count(es_append('W-7', 'T1')) FROM generate_series(1, 100);
SELECT count(es_append('New-' || g, 'T1')) FROM generate_series(1, 300) g;
});
my $beside = pages(sprintf $fetch, 'waiting');
cmp_ok($beside, '<', 3000, "others go on beside 40,000 that wait ($beside)");
my $due = pages(q{SELECT position FROM es_fetch('waiting', 'b', 50)}, "SET eventsourcing.clock_offset = '2d'; ");
cmp_ok($due, '<', 6000, "what is due is found among them ($due)");

# Filters, with all of the log still to come.
my $types = pages(sprintf $fetch, 'types');
cmp_ok($types, '<', 600, "a filter does not read what is left of the log ($types)");
my $rare = query(q{SELECT count(*), max(position) > 60000 FROM es_fetch('rare', 'b', 100)});
is($rare, '100|t', 'a rare type is found in one call');

$node->stop;
done_testing();
