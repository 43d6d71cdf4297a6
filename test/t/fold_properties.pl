# Random histories, with changes of everything that a fold depends on in between:
# at every version, load with snapshots = load without = fold in plain SQL, by
# rules and by an apply function, in whatever session, and after a restore.
#
# ES_SEED=n runs that history alone; ES_TEST_SECONDS=n goes on with further ones
# for so long.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

use constant STEPS => 40;
my $until = time + ($ENV{ES_TEST_SECONDS} // 0);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', q{
	SET check_function_bodies = off;    -- the store comes later
	CREATE EXTENSION eventsourcing;

	-- Three ways to fold, each as rules and in SQL.
	CREATE TABLE folds (variant int, rules jsonb);
	INSERT INTO folds VALUES
		(1, '{"Added":  {"$inc": {"sum": "$.n", "count": 1}},
		      "Scaled": {"$mul": {"sum": "$.f"}},
		      "Put":    {"$set": {"last": "$.value"}, "$addToSet": {"seen": "$.value"}},
		      "Gone":   {"$unset": "last"},
		      "Noted":  {"$push": {"notes": "$.text"}}}'),
		(2, '{"Added":  {"$push": {"list": {"$each": ["$.n"], "$slice": -5}}},
		      "Scaled": {"$set": {"factor": "$.f"}},
		      "Put":    {"$merge": {"box": "$"}},
		      "Gone":   {"$unset": ["box", "factor"]},
		      "Noted":  {"$inc": {"notes": 1}}}'),
		(3, '{"Added":  {"$max": {"most": "$.n"}, "$min": {"least": "$.n"}},
		      "Put":    {"$set": {"at.value": "$.value", "at.version": "$$version"}},
		      "Scaled": {"$push": {"words": "$.f"}},
		      "Gone":   {"$pull": {"words": {"$gt": 1}}}}');

	CREATE FUNCTION number(value jsonb) RETURNS numeric IMMUTABLE LANGUAGE sql AS $$ SELECT coalesce((value #>> '{}')::numeric, 0) $$;
	CREATE FUNCTION plain(state jsonb, variant int, type text, data jsonb, version bigint) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		CASE variant::text || type
			WHEN '1Added' THEN RETURN state || jsonb_build_object('sum', number(state->'sum') + number(data->'n'), 'count', number(state->'count') + 1);
			WHEN '1Scaled' THEN RETURN state || jsonb_build_object('sum', number(state->'sum') * number(data->'f'));
			WHEN '1Put' THEN RETURN CASE WHEN data ? 'value' THEN state || jsonb_build_object('last', data->'value', 'seen',
				CASE WHEN EXISTS (SELECT FROM jsonb_array_elements(coalesce(state->'seen', '[]')) e WHERE e = data->'value') THEN state->'seen'
				     ELSE coalesce(state->'seen', '[]') || jsonb_build_array(data->'value') END) ELSE state END;
			WHEN '1Gone' THEN RETURN state - 'last';
			WHEN '1Noted' THEN RETURN state || jsonb_build_object('notes', coalesce(state->'notes', '[]') || jsonb_build_array(data->'text'));
			WHEN '2Added' THEN RETURN state || jsonb_build_object('list', (
				SELECT jsonb_agg(e ORDER BY i) FROM (SELECT e, i, max(i) OVER () AS n
					FROM jsonb_array_elements(coalesce(state->'list', '[]') || jsonb_build_array(data->'n')) WITH ORDINALITY a (e, i)) a WHERE i > n - 5));
			WHEN '2Scaled' THEN RETURN state || jsonb_build_object('factor', data->'f');
			WHEN '2Put' THEN RETURN state || jsonb_build_object('box', coalesce(state->'box', '{}') || data);
			WHEN '2Gone' THEN RETURN state - 'box' - 'factor';
			WHEN '2Noted' THEN RETURN state || jsonb_build_object('notes', number(state->'notes') + 1);
			WHEN '3Added' THEN RETURN state
				|| CASE WHEN state ? 'most' AND number(state->'most') >= number(data->'n') THEN '{}' ELSE jsonb_build_object('most', data->'n') END
				|| CASE WHEN state ? 'least' AND number(state->'least') <= number(data->'n') THEN '{}' ELSE jsonb_build_object('least', data->'n') END;
			WHEN '3Put' THEN RETURN state || jsonb_build_object('at', coalesce(state->'at', '{}')
				|| CASE WHEN data ? 'value' THEN jsonb_build_object('value', data->'value') ELSE '{}' END || jsonb_build_object('version', version));
			WHEN '3Scaled' THEN RETURN state || jsonb_build_object('words', coalesce(state->'words', '[]') || jsonb_build_array(data->'f'));
			WHEN '3Gone' THEN RETURN CASE WHEN state ? 'words' THEN state || jsonb_build_object('words', (
				SELECT coalesce(jsonb_agg(e ORDER BY i), '[]') FROM jsonb_array_elements(state->'words') WITH ORDINALITY a (e, i) WHERE number(e) <= 1)) ELSE state END;
			ELSE RETURN state;
		END CASE;
	END
	$$;
	CREATE FUNCTION plain_step(state jsonb, initial jsonb, variant int, type text, data jsonb, version bigint) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		-- without data: an upcaster dropped it
		RETURN CASE WHEN data IS NULL THEN coalesce(state, initial) ELSE plain(coalesce(state, initial), variant, type, data, version) END;
	END $$;
	CREATE AGGREGATE plain_fold(initial jsonb, variant int, type text, data jsonb, version bigint) (sfunc = plain_step, stype = jsonb);

	-- What the definitions are now, told the fold in plain SQL.
	CREATE TABLE now_is (initial jsonb, variant int, upcasters text[], renamed boolean);
	CREATE FUNCTION lift(data jsonb, schema int, upcasters text[]) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		-- each adds its number, and one of them drops what is unlucky
		WHILE schema <= cardinality(upcasters) LOOP
			data := CASE WHEN number(data->'n') <> 13 THEN data || jsonb_build_object('n', number(data->'n') + upcasters[schema]::numeric) END;
			schema := schema + 1;
		END LOOP;
		RETURN data;
	END $$;
	CREATE FUNCTION expected(name text) RETURNS TABLE (version bigint, state jsonb) STABLE LANGUAGE sql AS $$
		SELECT 0, n.initial FROM now_is n
		UNION ALL
		SELECT e.version, plain_fold(n.initial, n.variant, t.type,
				CASE t.type WHEN 'Added' THEN lift(e.data, coalesce((e.metadata->>'$schema')::int, 1), n.upcasters) ELSE e.data END,
				e.version) OVER (ORDER BY e.version)
		  FROM es.events e, now_is n, LATERAL (SELECT CASE WHEN e.type = 'Increased' AND n.renamed THEN 'Added' ELSE e.type END AS type) t
		 WHERE e.stream = name
	$$;

	-- Where loads at the versions in question, or a replay of them, are not as expected.
	CREATE FUNCTION wrong(name text, v bigint, w bigint) RETURNS SETOF text LANGUAGE sql AS $$
		WITH x AS MATERIALIZED (SELECT * FROM expected(name))
		SELECT format('%s at %s: %s, expected %s', name, x.version, l, x.state)
		  FROM x, es_load(name, to_version => x.version) l
		 WHERE x.version BETWEEN v AND w AND (l.version <> x.version OR l.state::text <> x.state::text)
		UNION ALL
		SELECT format('%s as of version %s: %s, expected %s at %s', name, e.version, l, x.state, x.version)
		  FROM es.events e, es_load(name, as_of => e.recorded_at) l, x
		 WHERE e.stream = name AND e.version IN (v, w)
		   AND x.version = (SELECT max(version) FROM es.events WHERE stream = name AND recorded_at <= e.recorded_at)
		   AND (l.version <> x.version OR l.state::text <> x.state::text)
		UNION ALL
		SELECT format('%s replayed at %s: %s and %s, expected %s and %s', name, r.version, r.state_before, r.state_after, x.state, y.state)
		  FROM es_replay(name, v, w) r JOIN x ON x.version = r.version - 1 JOIN x y ON y.version = r.version
		 WHERE r.state_before::text <> x.state::text OR r.state_after::text <> y.state::text
	$$;
});

my (%total, $seed);

sub chance { return rand() < $_[0]; }
sub pick { return $_[ int rand @_ ]; }

sub event
{
	my $number = pick(0, 1, '-2', '2.50', '0.005', '1e20', '9223372036854775807', 13, int rand 1000);
	my $value = pick(qw(null true 1 1.0 "x" "y" [1] {"a":1}), $number, '"' . 'z' x (rand(30) ** 2) . '"');
	my $type = pick(qw(Added Added Added Increased Scaled Put Put Gone Noted Other));
	my $data = '{}';

	$data = qq({"n": $number}) if $type eq 'Added' || $type eq 'Increased';
	$data = '{"f": ' . pick(0, 1, '0.5', '1.10', '-1') . '}' if $type eq 'Scaled';
	$data = qq({"value": $value}) if $type eq 'Put' && chance(0.8);
	$data = qq({"text": $value}) if $type eq 'Noted';
	return qq({"type": "$type", "data": $data});
}

# SQL that appends the same events to a stream of either kind.
sub append
{
	my ($count) = @_;
	my $number = int rand 2;
	my $events = '[' . join(', ', map { event() } 1 .. $count) . ']';

	return join ' ', map { "SELECT es_append_events('$_-$number', '$events');" } qw(R F);
}

# SQL that makes a definition be something else.
sub change
{
	my ($now) = @_;
	my $kind = pick(qw(fold fold fold upcaster upcaster rename));

	if ($kind eq 'rename' && !$now->{renamed})
	{
		$now->{renamed} = 1;
		return q{SELECT es_rename_type('Increased', 'Added'); UPDATE now_is SET renamed = true;};
	}
	if ($kind eq 'upcaster')
	{
		my $step = int rand(1 + $now->{upcasters});
		my $add = int rand 10;
		my $sql = 'CREATE OR REPLACE FUNCTION lift_' . ($step + 1) . '(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$'
		  . "SELECT CASE WHEN number(data->'n') <> 13 THEN data || jsonb_build_object('n', number(data->'n') + $add) END \$\$;";

		if ($step == $now->{upcasters})
		{
			$now->{upcasters}++;
			$sql .= sprintf "SELECT es_create_upcaster('Added', %d, 'lift_%d(jsonb)');", $step + 1, $step + 1;
		}
		return $sql . sprintf 'UPDATE now_is SET upcasters[%d] = %d;', $step + 1, $add;
	}

	my $variant = pick(1, 2, 3);
	my $initial = pick('{}', '{}', '{"kept": [1.50]}', '{"sum": 1, "notes": 5}');
	$initial = '{}' if $initial =~ /notes/ && $variant == 1;
	my $options = sprintf "initial => '%s', snapshot_every => %d, code_version => %d", $initial, pick(1, 2, 3, 5, 10), pick(1, 2);
	return qq{
		UPDATE now_is SET variant = $variant, initial = '$initial';
		SELECT es_create_aggregate('R', rules => (SELECT rules FROM folds WHERE variant = $variant), $options);
		CREATE OR REPLACE FUNCTION apply_f(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS \$\$
			BEGIN RETURN plain(state, $variant, event.type, event.data, event.version); END \$\$;
		SELECT es_create_aggregate('F', 'apply_f(jsonb, es_event)', $options);};
}

# Something that must not matter to any state.
sub nothing
{
	my $category = pick('R', 'F');

	return pick(
		sprintf(q{SELECT es_alter_aggregate('%s', snapshot_every => %d, snapshots_kept => %d);}, $category, int rand 6, 1 + int rand 4),
		"SELECT es_alter_aggregate('$category', code_version => " . int(rand 5) . ');',
		"SELECT es_snapshot('$category-" . int(rand 2) . q{');},
		"SELECT es_drop_snapshots('$category');",
		'SELECT 1;');
}

sub look
{
	my $sql = '';

	foreach my $category (qw(R F))
	{
		my $stream = "$category-" . int rand 2;
		my ($from, $window) = (rand, int rand 10);

		$sql .= "SELECT wrong('$stream', v, v + $window) FROM (SELECT floor($from * (es_stream_version('$stream') + 1))::bigint AS v) v;";
	}
	return $sql;
}

sub run
{
	my ($session, $sql, $what) = @_;
	my ($out, $err) = $session->query($sql);
	my @wrong = grep { / expected / } split /\n/, $out;

	return if $err eq '' && !@wrong;
	$total{wrong}++;
	diag("seed $seed, $what: $err\n" . join("\n", @wrong[ 0 .. ($#wrong < 2 ? $#wrong : 2) ]) . "\n$sql");
	return;
}

my $everything = 'SELECT wrong(stream, 0, version) FROM es.streams';

sub history
{
	my %now = (upcasters => 0, renamed => 0);
	my @sessions;

	srand($seed);
	$node->safe_psql('postgres', q{
		SET client_min_messages = warning;
		DROP FUNCTION IF EXISTS lift_1, lift_2, lift_3, lift_4, lift_5, lift_6, lift_7, lift_8, lift_9, lift_10 CASCADE;
		TRUNCATE now_is;
		INSERT INTO now_is VALUES ('{}', 1, '{}', false);
		SELECT es_create_store();});
	@sessions = map { Session->new($node) } 1 .. 2;
	do { run($sessions[0], change(\%now), 'definition'); } until query('SELECT count(*) FROM es.aggregates') > 0 || $total{wrong};

	for my $step (1 .. STEPS)
	{
		my $session = pick(@sessions);
		my $dice = rand;
		my %before = %now;

		if ($dice < 0.4)
		{
			run($session, append(chance(0.7) ? 1 + int rand 2 : 1 + int rand 15) . look(), "step $step, append");
		}
		elsif ($dice < 0.6)
		{
			run($session, nothing() . look(), "step $step, nothing");
		}
		elsif ($dice < 0.8)
		{
			run($session, 'BEGIN;' . change(\%now) . 'COMMIT;' . look(), "step $step, change");
		}
		elsif ($dice < 0.9)
		{
			run($session, 'BEGIN;' . append(5) . change(\%now) . append(10) . nothing() . look() . 'ROLLBACK;' . look(),
				"step $step, rolled back");
			%now = %before;
		}
		else
		{
			run($session, 'BEGIN;' . append(5) . 'SAVEPOINT s;' . change(\%now) . append(10) . look() . 'ROLLBACK TO s;' . look() . append(5) . 'COMMIT;',
				"step $step, rolled back in part");
			%now = %before;
		}
		# the other session has old things in its caches
		run(pick(@sessions), look(), "after step $step");
	}

	foreach my $session (@sessions)
	{
		run($session, $everything, 'with snapshots');
		run($session, "SET eventsourcing.use_snapshots = off;$everything", 'without');
	}
	$_->quit for @sessions;

	# all that is kept is good, and can be used where it is restored to
	my $usable = q{SELECT count(*) FROM es.snapshots s WHERE s.fingerprint = es_fingerprint(split_part(s.stream, '-', 1))};
	my $wrong = q{SELECT count(*) FROM es.snapshots s CROSS JOIN LATERAL expected(s.stream) x
		WHERE s.fingerprint = es_fingerprint(split_part(s.stream, '-', 1)) AND x.version = s.version AND s.state::text <> x.state::text};
	query("SELECT es_snapshot(stream) FROM es.streams");
	my $kept = query($usable);
	$total{snapshots} += $kept;
	$total{wrong}++ if query($wrong) > 0;
	$total{events} += query('SELECT count(*) FROM es.events');

	# which takes longer than all the rest
	return if $total{restores}++ >= 2;
	query('CREATE DATABASE restored', 'template1');
	$node->command_ok([ 'sh', '-c', 'pg_dump -d "$1" | psql -Xq -v ON_ERROR_STOP=1 -d "$2"', 'sh', $node->connstr('postgres'), $node->connstr('restored') ],
		"seed $seed: dump and restore");
	is(query($usable, 'restored'), $kept, "seed $seed: snapshots are good where they are restored to");
	is(query($everything, 'restored'), '', "seed $seed: and so is every state");
	query('DROP DATABASE restored', 'template1');
	return;
}

sub query
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

my @seeds = defined $ENV{ES_SEED} ? $ENV{ES_SEED} : (1 .. 3);
while (defined($seed = shift @seeds))
{
	$total{wrong} = 0;
	history();
	query(q{SELECT es_drop_store('es', confirm => true)});
	is($total{wrong}, 0, "seed $seed: every state is as expected");
	push @seeds, int rand 1e9 if !@seeds && time < $until;
}
cmp_ok($total{events}, '>', 400, 'there were events') if !defined $ENV{ES_SEED};
cmp_ok($total{snapshots}, '>', 3, 'and snapshots');
note("$total{events} events, $total{snapshots} snapshots at the end");

$node->stop;
done_testing();
