# Compares what a server holds with what its events make, when everything is at
# rest.

package Chaos::Inspect;

use strict;
use warnings;

use Time::HiRes qw(sleep time);

# Queries that must return nothing.
my @queries = (
	'es_verify()' => q{SELECT relation, problem, detail FROM es_verify() WHERE problem <> 'a setting breaks a promise'},
	'open appends' => q{SELECT * FROM es.open_appends},
	'nothing is parked' => q{SELECT subscription, stream, position, attempts, error FROM es.parked LIMIT 10},
	'projections run' => q{SELECT name, state, last_error FROM es.projections WHERE state <> 'running'},
	'es_verify_projection()' => q{SELECT p.name, v.* FROM es.projections p, es_verify_projection(p.name) v LIMIT 10},
	'read model totals' => q{
		SELECT * FROM totals FULL JOIN
		       (SELECT split_part(stream, '-', 1) AS category, count(*) AS n, sum((data->>'amount')::bigint) AS sum
		          FROM es.events WHERE type IN ('Deposited', 'Withdrawn', 'Rare') GROUP BY 1) e USING (category)
		 WHERE (totals.n, totals.sum) IS DISTINCT FROM (e.n, e.sum)},
	'read model latest' => q{
		SELECT * FROM latest FULL JOIN
		       (SELECT stream, max(version) AS version, max(position) AS position, count(*) AS n FROM es.events GROUP BY 1) e USING (stream)
		 WHERE (latest.version, latest.position, latest.n) IS DISTINCT FROM (e.version, e.position, e.n) LIMIT 10},
	'read model counts' => q{
		SELECT * FROM counts FULL JOIN
		       (SELECT stream, count(*) AS n, max(version) AS version, sum(position) AS positions FROM es.events GROUP BY 1) e USING (stream)
		 WHERE (counts.n, counts.version, counts.positions) IS DISTINCT FROM (e.n, e.version, e.positions) LIMIT 10},
	'read model trail' => q{
		SELECT * FROM trail FULL JOIN
		       (SELECT position, stream, version, lag(version) OVER (PARTITION BY stream ORDER BY version) AS previous
		          FROM es.events WHERE type IN ('Deposited', 'Withdrawn')) e USING (position, stream, version)
		 WHERE trail.previous IS DISTINCT FROM e.previous OR trail.position IS NULL OR e.position IS NULL LIMIT 10},
	'effects exactly once' => q{
		SELECT e.position, e.stream, e.version, count(f.n)
		  FROM (SELECT position, stream, version FROM es.events WHERE type IN ('Deposited', 'Withdrawn')) e
		  FULL JOIN effects f USING (position, stream, version)
		 GROUP BY 1, 2, 3 HAVING count(f.n) <> 1 OR e.position IS NULL LIMIT 10},
	'effects in the order of their streams' => q{
		SELECT * FROM (SELECT *, lag(version) OVER (PARTITION BY stream ORDER BY n) AS before FROM effects) f WHERE before >= version LIMIT 10},
	'echoes exactly once' => q{
		SELECT e.position, count(o.position)
		  FROM (SELECT position FROM es.events WHERE type = 'Withdrawn') e
		  FULL JOIN (SELECT (data->>'of')::bigint AS position FROM es.events WHERE type = 'Echoed') o USING (position)
		 GROUP BY 1 HAVING count(o.position) <> 1 OR e.position IS NULL LIMIT 10},
	'balances' => q{
		SELECT * FROM (SELECT stream, version, sum(CASE type WHEN 'Deposited' THEN 1 ELSE -1 END * (data->>'amount')::bigint)
		                                           OVER (PARTITION BY stream ORDER BY version) AS balance
		                 FROM es.events WHERE type IN ('Deposited', 'Withdrawn')) b WHERE balance < 0 LIMIT 10},
	'loads' => q{
		SELECT stream, l.*, e.* FROM (SELECT stream FROM es.streams WHERE stream ~ '^(S|Acct)-' OFFSET 0) s
		 CROSS JOIN LATERAL es_load(stream) l
		  JOIN (SELECT stream, max(version) AS version,
		               CASE WHEN count(*) FILTER (WHERE type = 'E') = 0 THEN '{}' ELSE
		               jsonb_build_object('n', (SELECT (rules #>> '{E,$inc,n}')::int FROM es.aggregates WHERE category = 'S') * count(*) FILTER (WHERE type = 'E'),
		                                  'sum', sum((data->>'k')::bigint) FILTER (WHERE type = 'E'),
		                                  'last', max(version) FILTER (WHERE type = 'E')) END AS state
		          FROM es.events WHERE stream LIKE 'S-%' GROUP BY 1
		         UNION ALL
		        SELECT stream, max(version),
		               jsonb_build_object('balance', sum(CASE type WHEN 'Deposited' THEN 1 ELSE -1 END * (data->>'amount')::bigint))
		          FROM es.events WHERE stream LIKE 'Acct-%' GROUP BY 1) e USING (stream)
		 WHERE (l.version, l.state) IS DISTINCT FROM (e.version, e.state) LIMIT 10},
);

# What breaks a store, and the query above that has to see it.
my @harms = (
	[ 'es_verify()' => q{DELETE FROM es.events WHERE (stream, version) = (SELECT stream, max(version) - 1 FROM es.events GROUP BY stream HAVING max(version) > 2 LIMIT 1)} ],
	[ 'es_verify()' => q{INSERT INTO es.events SELECT position, version + 1, recorded_at, stream, type, data FROM es.events e
		WHERE version = (SELECT max(version) FROM es.events m WHERE m.stream = e.stream) LIMIT 1} ],
	[ 'es_verify()' => q{UPDATE es.events SET position = position + 1000000 WHERE stream = 'S-1' AND version = 1} ],
	[ 'es_verify()' => q{UPDATE es.snapshots SET state = '{"n": -1}'} ],
	[ 'es_verify()' => q{UPDATE es.snapshots SET state = '{"balance": -1}' WHERE stream = (SELECT max(stream) FROM es.snapshots WHERE stream LIKE 'Acct-%')} ],
	[ 'open appends' => q{SELECT es_append('S-1', 'E')} ],
	[ 'read model totals' => q{UPDATE totals SET n = n - 1} ],
	[ 'read model totals' => q{UPDATE totals SET sum = sum + 1 WHERE category = 'Acct'} ],
	[ 'read model totals' => q{DELETE FROM totals WHERE category = 'Acct'} ],
	[ 'read model latest' => q{UPDATE latest SET version = version - 1 WHERE stream = 'S-1'} ],
	[ 'read model latest' => q{DELETE FROM latest WHERE stream = 'S-1'} ],
	[ 'read model latest' => q{INSERT INTO latest VALUES ('S-none', 1, 1, 1)} ],
	[ 'read model counts' => q{DELETE FROM counts WHERE stream = 'S-1'} ],
	[ 'read model counts' => q{UPDATE counts SET n = n + 1, positions = positions + (SELECT position FROM es.events WHERE stream = 'S-1' AND version = 1) WHERE stream = 'S-1'} ],
	[ 'read model counts' => q{UPDATE counts SET positions = positions + 1 WHERE stream = 'S-1'} ],
	[ 'es_verify_projection()' => q{UPDATE counts SET n = n + 1 WHERE stream = 'S-1'} ],
	[ 'read model trail' => q{DELETE FROM trail WHERE position = (SELECT max(position) FROM trail)} ],
	[ 'read model trail' => q{UPDATE trail SET previous = NULL WHERE previous IS NOT NULL} ],
	[ 'es_verify_projection()' => q{UPDATE latest SET n = n + 1 WHERE stream = 'S-1'} ],
	[ 'effects exactly once' => q{INSERT INTO effects (position, stream, version) SELECT position, stream, version FROM effects LIMIT 1} ],
	[ 'effects exactly once' => q{DELETE FROM effects WHERE n = (SELECT max(n) FROM effects)} ],
	[ 'effects exactly once' => q{INSERT INTO effects (position, stream, version) VALUES (0, 'Acct-1', 0)} ],
	[ 'effects in the order of their streams' => q{UPDATE effects SET version = 1000000 - version} ],
	[ 'echoes exactly once' => q{DELETE FROM es.events WHERE position = (SELECT max(position) FROM es.events WHERE type = 'Echoed')} ],
	[ 'echoes exactly once' => q{SELECT es_append('Echo-1', 'Echoed', jsonb_build_object('of', min(position))) FROM es.events WHERE type = 'Withdrawn'} ],
	[ 'nothing is parked' => q{INSERT INTO es.deliveries (subscription, stream, position, parked_at, attempts, company) SELECT 'outside', stream, position, now(), 1, '0' FROM es.events LIMIT 1} ],
	[ 'projections run' => q{UPDATE es.projection_cursors SET failures = 1 WHERE name = 'counts'} ],
	[ 'balances' => q{UPDATE es.events SET data = data || '{"amount": 1000000}' WHERE position = (SELECT max(position) FROM es.events WHERE type = 'Withdrawn')} ],
	[ 'loads' => q{UPDATE es.snapshots s SET state = '{"n": -1}' WHERE version = (SELECT max(version) FROM es.snapshots m WHERE m.stream = s.stream)} ],
);

# Does each harm, within a transaction that is rolled back.  Returns those that
# go unseen.
sub unseen
{
	my ($session) = @_;
	my %query = @queries;
	my @unseen;

	# there may be none by chance
	$session->must(q{SELECT es_drop_snapshots()});
	$session->must(q{SELECT count(es_snapshot(stream)) FROM (SELECT stream FROM es.streams WHERE stream ~ '^(S|Acct)-' OFFSET 0) s});
	for (@harms)
	{
		my ($name, $sql) = @$_;
		$session->must('BEGIN');
		$session->must('SET LOCAL session_replication_role = replica');
		$session->must('ALTER TABLE es.events DISABLE TRIGGER ALL') if $sql =~ /es\.events/;
		$session->must($sql);
		my $result = $session->query($query{$name});
		my $said = grep { !/trigger/ } @{ $result->{rows} };
		$session->must('ROLLBACK');
		push @unseen, "$name does not see: $sql ($result->{message})" if $result->{state} ne '00000' || !$said;
	}
	return @unseen;
}

# Ends what clients left, and has consumers work on all that is there.
# Returns what would not come to rest.
sub settle
{
	my ($server, $session, $consumer, @readers) = @_;

	$_->{session}->connect for $consumer, @readers;
	for my $gid ($session->must(q{SELECT gid FROM pg_prepared_xacts}))
	{
		# nobody knows what came of it, so both is right
		$session->must("$_ PREPARED '$gid'") for $gid =~ /[02468]$/ ? 'COMMIT' : 'ROLLBACK';
	}
	my @forsaken = $session->must(q{SELECT name, failures, retry_at, last_error FROM es.projections
		WHERE state = 'failed' AND (retry_at IS NULL OR retry_at > clock_timestamp() + interval '10 minutes')});
	return "failed, and will not be tried again: @forsaken" if @forsaken;
	$session->must("SELECT es_resume_projection(name) FROM es.projections WHERE state IN ('paused', 'failed')");

	my $deadline = time + 120;
	my $idle = q{SELECT name, position, lag, leased, parked, waiting FROM es.subscriptions WHERE position < es_safe_position() OR leased + waiting > 0
		UNION ALL SELECT name, position, lag, 0, 0, 0 FROM es.projections WHERE mode = 'async' AND position < es_safe_position()
		UNION ALL SELECT 'timers', count(*), 0, 0, 0, 0 FROM es.scheduled HAVING count(*) > 0};
	while (1)
	{
		$session->connect and $session->query('CALL es_run()');
		$consumer->step;
		my @left = $session->must($idle);
		last unless @left;
		return "did not come to rest: @left" if time > $deadline;
		sleep 0.01;
	}
	for my $reader (@readers)
	{
		1 while $reader->read_on;
	}
	return ();
}

# The log as Chaos::Checker wants it.
sub events
{
	my ($session) = @_;

	return [
		map { [ split /\|/, $_, -1 ] } $session->must(q{
			SELECT position, stream, version, type, data->>'op', data->>'p', data->>'k', data->>'amount' FROM es.events ORDER BY position})
	];
}

sub check
{
	my ($server, $session) = @_;
	my @problems;

	for (my $i = 0; $i < @queries; $i += 2)
	{
		my $result = $session->query($queries[ $i + 1 ]);
		push @problems, "$queries[$i]: $result->{state} $result->{message}" if $result->{state} ne '00000';
		push @problems, map { "$queries[$i]: $_" } @{ $result->{rows} };
	}

	# The store that came and went, if it is there.
	$session->must(q{SET eventsourcing.store = 'side'});
	if ($session->must(q{SELECT to_regclass('side.events') IS NOT NULL}) eq 't')
	{
		push @problems, map { "es_verify() of the store that came and went: $_" }
		  $session->must(q{SELECT relation, problem, detail FROM es_verify() WHERE problem <> 'a setting breaks a promise'});
	}
	$session->must('RESET eventsourcing.store');

	# Load with snapshots equals load without.
	my $loads = q{SELECT stream, l.* FROM (SELECT stream FROM es.streams WHERE stream ~ '^(S|Acct)-' OFFSET 0) s, es_load(stream) l ORDER BY 1};
	my $with = $session->must($loads);
	$session->must('SET eventsourcing.use_snapshots = off');
	push @problems, 'loads without snapshots differ from those with' if $session->must($loads) ne $with;
	$session->must('RESET eventsourcing.use_snapshots');

	my $amcheck = qx($server->{bin}/pg_amcheck -h @{[ $server->socket_dir ]} -p 5432 -U postgres -d postgres --heapallindexed --parent-check 2>&1);
	push @problems, "pg_amcheck: $amcheck" if $amcheck ne '' || $? != 0;
	return @problems;
}

1;
