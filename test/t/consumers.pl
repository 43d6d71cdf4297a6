# A history of subscriptions and handlers while appenders of all sorts are at
# work: consumers that crash, stall, fail and come back, a worker that is
# terminated.  Checked against what the store promises.
#
# Would fail: an event that is skipped, delivered before the one in front of it
# is done, delivered to two consumers at a time, or done twice; a handler whose
# effect is lost, doubled or out of order.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Random;
use Test::More;

use constant {
	APPENDERS => 8,
	CONSUMERS => 3,    # of each subscription
	STREAMS => 40,
};

# script/test --full
my $events_wanted = $ENV{ES_TEST_FULL} ? 100_000 : 5_000;
my $seed = Random::seed();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
log_statement = none
log_min_messages = log
max_connections = 60
max_prepared_transactions = 20
shared_preload_libraries = 'eventsourcing'
eventsourcing.databases = 'postgres'
));
$node->start;

sub query { return $node->safe_psql('postgres', @_); }

#
# What happens is written down by those who do it: a delivery in the transaction
# that fetches, an acknowledgement in the one that acknowledges, both numbered
# from one sequence.  A fetch takes its numbers while it has the subscription's
# lock, so their order is that of what happened.
#
query(q{
CREATE EXTENSION eventsourcing;
SELECT es_create_store();
CREATE SEQUENCE numbers;
CREATE TABLE delivered (n bigint, batch bigint, subscription text, consumer text, stream text, version bigint,
	position bigint, attempt int, leased_until timestamptz, fetched_at timestamptz);
CREATE TABLE acked (n bigint, batch bigint, subscription text, position bigint);
CREATE TABLE nacked (n bigint, batch bigint, subscription text, stream text, position bigint);
CREATE TABLE unparked (n bigint, subscription text);
CREATE TABLE happened (what text);
CREATE TABLE finished ();

CREATE FUNCTION dice(percent float8) RETURNS boolean LANGUAGE sql AS 'SELECT random() * 100 < percent';

CREATE PROCEDURE consume(subscription text, me text) LANGUAGE plpgsql AS $$
DECLARE
	this_batch bigint;
	event record;
	done bigint[];
	failed text[];
	found bigint;
	positions bigint[];
	done_now bigint;
	one_by_one boolean := false;
	finishing boolean;
BEGIN
	LOOP
		finishing := EXISTS (SELECT FROM finished);
		this_batch := nextval('numbers');
		INSERT INTO delivered
		SELECT nextval('numbers'), this_batch, subscription, me, d.stream, d.version, d.position, d.attempt,
			   d.leased_until, clock_timestamp()
		  FROM es_fetch(subscription, me, 1 + (random() * 60)::int,
						CASE WHEN dice(30) THEN interval '20 ms' ELSE interval '1 second' END) d;
		GET DIAGNOSTICS found = ROW_COUNT;
		IF found > 0 AND dice(4) THEN
			ROLLBACK;
			INSERT INTO happened VALUES ('fetch rolled back');
			COMMIT;
			CONTINUE;
		END IF;
		COMMIT;

		IF found = 0 THEN
			EXIT WHEN finishing AND EXISTS
				(SELECT FROM es.subscriptions s WHERE s.name = subscription AND leased + waiting + parked = 0);
			IF finishing OR dice(20) THEN
				INSERT INTO unparked SELECT nextval('numbers'), subscription WHERE es_unpark(subscription) > 0;
				COMMIT;
			END IF;
			PERFORM pg_sleep(0.002);
			COMMIT;
			CONTINUE;
		END IF;

		IF dice(3) THEN
			INSERT INTO happened VALUES ('consumer crashed');
			COMMIT;
			PERFORM pg_terminate_backend(pg_backend_pid());
		END IF;
		IF dice(5) THEN
			PERFORM pg_sleep(0.05);
			COMMIT;
		END IF;

		-- the work
		done := '{}';
		failed := '{}';
		FOR event IN SELECT * FROM delivered d WHERE d.batch = this_batch ORDER BY n LOOP
			CONTINUE WHEN event.stream = ANY (failed);
			IF NOT dice(2) THEN
				done := done || event.position;
				CONTINUE;
			END IF;
			failed := failed || event.stream;
			BEGIN
				PERFORM es_nack(subscription, me, event.position, 'failed', CASE WHEN dice(50) THEN interval '1 ms' END, dice(20));
				INSERT INTO nacked VALUES (nextval('numbers'), this_batch, subscription, event.stream, event.position);
			EXCEPTION WHEN SQLSTATE 'ZE013' THEN
				INSERT INTO happened VALUES ('nack came too late');
			END;
			COMMIT;
		END LOOP;

		-- All at once or one by one.  What another took over and finished is done,
		-- and does not count: then it takes one by one to know which that is.
		WHILE cardinality(done) > 0 LOOP
			positions := CASE WHEN one_by_one OR dice(10) THEN done[:1] ELSE done END;
			BEGIN
				done_now := es_ack(subscription, me, positions);
				one_by_one := one_by_one OR done_now <> cardinality(positions);
				IF done_now = cardinality(positions) THEN
					INSERT INTO acked SELECT nextval('numbers'), this_batch, subscription, p FROM unnest(positions) p;
				ELSIF done_now > 0 THEN
					RAISE SQLSTATE 'XX999';
				END IF;
				done := done[cardinality(positions) + 1:];
			EXCEPTION
				WHEN SQLSTATE 'ZE013' THEN
					INSERT INTO happened VALUES ('ack came too late');
					done := done[cardinality(positions) + 1:];
				WHEN SQLSTATE 'XX999' THEN
					INSERT INTO happened VALUES ('another did a part');
			END;
			IF dice(5) THEN
				ROLLBACK;
				INSERT INTO happened VALUES ('ack rolled back');
			END IF;
			COMMIT;
		END LOOP;
		one_by_one := false;
	END LOOP;
END
$$;

SELECT es_create_subscription(name, category, types, tags, max_attempts => 4, backoff => '1 ms', max_backoff => '10 ms')
  FROM (VALUES ('all', NULL, NULL::text[], NULL::text[]), ('category', 'Order', NULL, NULL),
			   ('types', NULL, '{T1,T3}', NULL), ('tags', NULL, NULL, '{x}')) s (name, category, types, tags);

-- handlers: one that fails now and then, one that appends
CREATE TABLE effects (n bigserial, position bigint, stream text, version bigint);
CREATE FUNCTION fail_sometimes() RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN IF random() < .02 THEN RAISE 'not now'; END IF; END $$;
SELECT es_create_handler('effect', $$
	INSERT INTO effects (position, stream, version) SELECT position, stream, version FROM new_events;
	SELECT fail_sometimes() FROM new_events
$$, backoff => '1 ms', max_backoff => '10 ms', max_attempts => 1000000);
SELECT es_create_handler('saga', $$
	SELECT es_append('Saga-' || stream, 'Seen', jsonb_build_object('position', position)) FROM new_events;
	SELECT fail_sometimes() FROM new_events
$$, types => '{T2}', backoff => '1 ms', max_backoff => '10 ms', max_attempts => 1000000);
});

#
# The appenders
#
sub operation
{
	my ($id, $rand) = @_;
	my $stream = ($rand->(2) ? 'Order-' : 'Cart-') . (1 + $rand->(STREAMS));
	my $count = 1 + $rand->(16);
	my $tags = $rand->(3) ? '' : q(, 'tags', ARRAY['x']);
	my $append = "SELECT es_append_events('$stream', (SELECT jsonb_agg(jsonb_build_object("
	  . "'type', 'T' || (k % 4), 'data', jsonb_build_object('op', '$id')$tags)) FROM generate_series(1, $count) k));\n";
	my $sleep = 'SELECT pg_sleep(' . ($rand->(20) / 1000) . ");\n";
	my $kind = $rand->(10);

	return $append if $kind < 5;
	return "BEGIN;\n$append${sleep}COMMIT;\n" if $kind < 7;
	return "BEGIN;\n$append${sleep}ROLLBACK;\n" if $kind < 8;
	return "BEGIN;\nSAVEPOINT s;\n$append${sleep}ROLLBACK TO s;\n${append}COMMIT;\n" if $kind < 9;
	return "BEGIN;\n${append}PREPARE TRANSACTION '$id';\n$sleep" . ($rand->(3) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$id';\n";
}

my @runs;

sub start
{
	my ($name, @command) = @_;
	my %run = (name => $name, err => '');
	$run{run} = IPC::Run::start(\@command, '<', \undef, '>', \$run{out}, '2>', \$run{err});
	push @runs, \%run;
	return;
}

# What has to be started again when its connection is lost.
sub start_again_and_again
{
	my ($name, @sql) = @_;
	start($name, 'sh', '-c', 'test=$1; shift; while kill -0 $test; do psql -XAtq -v ON_ERROR_STOP=1 "$@"; status=$?; [ $status = 2 ] || exit $status; done',
		'sh', $$, '-d', $node->connstr('postgres'), map { ('-c', $_) } @sql);
	return;
}

my $start = time;
my $operations = int($events_wanted / 7 / APPENDERS) + 1;
for my $appender (1 .. APPENDERS)
{
	my $rand = Random::generator($seed * 100 + $appender);
	my $file = "$PostgreSQL::Test::Utils::tmp_check/consumers_$appender.sql";

	append_to_file($file, join '', map { operation("$appender.$_", $rand) } 1 .. $operations);
	start("appender $appender", 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file);
}
my @appenders = splice @runs;
for my $subscription (qw(all category types tags))
{
	start_again_and_again("consumer $_ of $subscription",
		"CALL consume('$subscription', 'consumer-$_')") for 1 .. CONSUMERS;
}
my @consumers = splice @runs;

# The worker is not alone, and has a hard life.
start_again_and_again('runner', q{DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM finished) LOOP CALL es_run(); COMMIT; PERFORM pg_sleep(0.02); END LOOP; END $$});
my @runner = splice @runs;
for my $appender (@appenders)
{
	$appender->{run}->finish;
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker'});
}
query('INSERT INTO finished DEFAULT VALUES');
for my $run (@appenders, @consumers, @runner)
{
	$run->{run}->finish;
	my $errors = join '', $run->{err} =~ /^ERROR.*
/mg;
	is($errors, '', "$run->{name} has no error");
}
query("CALL es_wait('$_', es_safe_position(), '180 seconds')") for qw(saga effect saga);

#
# The history
#
query(q{
CREATE TABLE wanted AS
SELECT s.name AS subscription, e.stream, e.version, e.position,
	   row_number() OVER (PARTITION BY s.name, e.stream ORDER BY e.version) AS rank
  FROM es.events e
  JOIN es.subscriptions s ON s.kind = 'subscription'
	   AND (s.category IS NULL OR split_part(e.stream, '-', 1) = s.category)
	   AND (s.types IS NULL OR e.type = ANY (s.types))
	   AND (s.tags IS NULL OR e.tags @> s.tags);
CREATE INDEX ON delivered (subscription, position);
CREATE INDEX ON acked (subscription, position);
CREATE INDEX ON nacked (batch, stream);
-- in its batch and stream: from which rank on, and when everything before it was done
CREATE TABLE checked AS
SELECT d.*, w.rank, a.n AS acked_n,
	   min(d.n) OVER batch AS batch_n, max(d.fetched_at) OVER batch AS batch_at,
	   row_number() OVER (PARTITION BY d.batch, d.stream ORDER BY d.n) AS batch_index
  FROM delivered d
  JOIN wanted w USING (subscription, stream, version, position)
  LEFT JOIN acked a USING (subscription, position)
WINDOW batch AS (PARTITION BY d.batch, d.stream);
CREATE INDEX ON checked (subscription, stream, rank);
ANALYZE;
});

my $events = query('SELECT count(*) FROM es.events');
my %happened = map { split /\|/ } split /\n/, query('SELECT what, count(*) FROM happened GROUP BY what');
$happened{'delivered again'} = query('SELECT count(*) FROM delivered WHERE attempt > 1');
$happened{'unparked'} = query('SELECT count(*) FROM unparked');
note("$events events, " . query('SELECT count(*) FROM delivered') . ' deliveries in ' . (time - $start) . ' s');
cmp_ok($events, '>=', $events_wanted * .8, 'enough events');
cmp_ok($happened{$_} // 0, '>', 0, "it happened that: $_") or diag(explain(\%happened))
  for 'fetch rolled back', 'consumer crashed', 'ack rolled back', 'ack came too late', 'delivered again', 'unparked';

my %checks = (
	'every event wanted is done' =>
	  q{SELECT * FROM wanted w WHERE NOT EXISTS (SELECT FROM acked a WHERE (a.subscription, a.position) = (w.subscription, w.position))},
	'and done once' => q{SELECT subscription, position FROM acked GROUP BY 1, 2 HAVING count(*) > 1},
	'what is delivered is wanted' =>
	  q{SELECT * FROM delivered d WHERE NOT EXISTS (SELECT FROM wanted w WHERE (w.subscription, w.position) = (d.subscription, d.position))},
	'what is done was delivered' =>
	  q{SELECT * FROM acked a WHERE NOT EXISTS (SELECT FROM delivered d WHERE (d.subscription, d.position, d.batch) = (a.subscription, a.position, a.batch) AND d.n < a.n)},
	# a consumer that lost one acknowledgement may have done later ones
	'what comes between two events of a batch in their stream is done' =>
	  q{SELECT * FROM (SELECT *, lag(rank) OVER (PARTITION BY batch, stream ORDER BY n) AS last FROM checked) c
		 WHERE rank <= last OR EXISTS
			   (SELECT FROM checked b WHERE b.subscription = c.subscription AND b.stream = c.stream
				   AND b.rank > c.last AND b.rank < c.rank AND b.acked_n > c.batch_n)},
	'what comes before a batch in its stream is done' =>
	  q{SELECT * FROM (SELECT subscription, stream, rank, max(acked_n) OVER (PARTITION BY subscription, stream ORDER BY rank
						 RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS done_n, batch_n, batch_index FROM checked) c
		 WHERE batch_index = 1 AND done_n > batch_n},
	'a stream is with one consumer at a time' =>
	  q{WITH batches AS (
			SELECT *, lead(batch_n) OVER w AS next_n, lead(batch_at) OVER w AS next_at
			  FROM (SELECT DISTINCT subscription, stream, batch, batch_n, batch_at FROM checked) b
			WINDOW w AS (PARTITION BY subscription, stream ORDER BY batch_n))
		SELECT * FROM checked c JOIN batches b USING (subscription, stream, batch)
		 WHERE acked_n > next_n
		   AND leased_until > next_at
		   AND NOT EXISTS (SELECT FROM nacked k WHERE k.batch = c.batch AND k.stream = c.stream AND k.position <= c.position AND k.n < next_n)},
	'attempts are counted' =>
	  q{SELECT * FROM (SELECT *, lag(attempt) OVER w AS last, lag(n) OVER w AS last_n FROM delivered
					   WINDOW w AS (PARTITION BY subscription, position ORDER BY n)) d
		 WHERE attempt <> coalesce(last, 0) + 1
		   AND NOT (attempt = 1 AND EXISTS (SELECT FROM unparked u WHERE u.subscription = d.subscription AND u.n > last_n - 2))},
	'nothing is left behind' =>
	  q{SELECT name FROM es.subscriptions WHERE leased + waiting + parked > 0 OR position < (SELECT max(position) FROM es.events)},
	'a handler has an effect for every event' =>
	  q{SELECT * FROM es.events e WHERE NOT EXISTS (SELECT FROM effects f WHERE f.position = e.position)},
	'and one only' => q{SELECT position FROM effects GROUP BY position HAVING count(*) > 1},
	'and for nothing else' => q{SELECT * FROM effects f WHERE NOT EXISTS (SELECT FROM es.events e WHERE (e.position, e.stream, e.version) = (f.position, f.stream, f.version))},
	'in order' => q{SELECT * FROM (SELECT *, lag(version) OVER (PARTITION BY stream ORDER BY n) AS last FROM effects) f WHERE version <> coalesce(last, 0) + 1},
	'a handler that appends does so once' =>
	  q{SELECT * FROM (SELECT * FROM es.events WHERE type = 'T2') e
		 FULL JOIN (SELECT (data->>'position')::bigint AS position, metadata->>'causation_id' AS cause, count(*) AS n, min(stream) AS saga
					  FROM es.events WHERE type = 'Seen' GROUP BY 1, 2) s USING (position)
		 WHERE (n, cause, saga) IS DISTINCT FROM (1, position::text, 'Saga-' || e.stream)},
);
is(query("SELECT * FROM ($checks{$_}) problem LIMIT 5"), '', $_) for sort keys %checks;

$node->stop;
done_testing();
