# Projections, handlers and subscriptions with filters, at random: of every mode
# and granularity, created before, within and behind a history, which is appended
# in transactions of all sorts; they are run, fetched from, acknowledged, paused,
# rebuilt, reset and dropped in any order, and fail on the way.  In the end read
# models and deliveries are what plain SQL makes of the log, and what each fetch
# returns is looked at on the spot.
#
# ES_SEED=n begins with that seed; script/test --seconds N goes on for longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '-E', 'UTF8' ]);
$node->append_conf('postgresql.conf', "log_statement = all\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eventsourcing;' . slurp_file('test/lib/consumers_reference.sql'));

sub pick { return $_[ rand @_ ] }
sub maybe { return rand() < $_[0] }
sub literal { return q{'} . $_[0] =~ s/'/''/gr . q{'} }
sub texts { return 'ARRAY[' . join(',', map { literal($_) } @_) . ']::text[]' }

my @streams = ((map { ("A-$_", "B-$_") } 1 .. 4), 'A', 'AB-1', 'A-1-1', 'a-1', "A'-1", 'B-', 'A.-1');
my @categories = (qw(A A A B B AB a A.), "A'", 'A-1', 'None');
my @types = ('X', 'X', 'Y', 'Y', 'Z', 'W', 'D', 'x', 'X,Y', '{X}');
my @tags = ('red', 'red', 'blue', 'blue', 'Red', 'red,blue', '');

# One round: what is there, and what has become of it.
my ($session, $other, $other_open, $fetches, @bad, %count, %consumers, %held, $clock, $next, $gone);

# One statement.  It may fail for that reason, if one is given, and for no other.
# Returns what it printed, or undef.
sub run
{
	my ($sql, $may_fail) = @_;
	return if $gone;
	my ($out, $err) = eval { $session->query($sql) };

	($gone, $err) = (1, $@) if $@;
	my ($error) = $err =~ /^(?:psql:\S+ )?(ERROR:.*|.*psql has gone.*|.*timed out.*)/ms;
	return $out unless defined $error;
	$count{failed}++;
	push @bad, "$sql\n$err" unless defined $may_fail && $error =~ $may_fail;
	run('ROLLBACK') if $sql =~ /^BEGIN/;
	return;
}

sub named
{
	my %kinds = map { $_ => 1 } @_;
	return pick(grep { $kinds{ $consumers{$_}{kind} } } sort keys %consumers);
}

sub events
{
	my @events;
	for (1 .. 1 + rand(maybe(.1) ? 150 : 4))
	{
		my $tags = maybe(.5) ? '' : ', "tags": [' . join(', ', map { '"' . pick(@tags) . '"' } 1 .. rand 4) . ']';
		push @events, '{"type": "' . pick(@types) . '", "data": {' . pick('"drop": 1', '') . '}' . $tags . '}';
	}
	return literal('[' . join(', ', @events) . ']');
}

sub filter
{
	my %filter;
	$filter{types} = texts(map { pick(@types, 'None') } 0 .. rand 3) if maybe(.6);
	$filter{category} = literal(pick(@categories)) if maybe(.5);
	$filter{tags} = texts(map { pick(@tags) } 1 .. rand 3) if maybe(.4);
	return %filter;
}

# What is to be known of a consumer, as SQL.
sub note_consumer
{
	my ($name, $kind, $after, %filter) = @_;
	return 'INSERT INTO reference.consumers VALUES ('
	  . join(', ', literal($name), literal($kind), map({ $filter{$_} // 'NULL' } qw(category types tags)), $after) . ')';
}

sub end_other
{
	return unless $other_open;
	$other_open = 0;
	$other->query(pick('COMMIT', 'COMMIT', 'ROLLBACK'));
	return;
}

# As of the last event; nothing is open when it is asked for.
my $head = '(SELECT coalesce(max(position), 0) FROM es.events)';

sub create_projection
{
	my $name = 'p' . $next++;
	my ($mode, $granularity) = (pick('inline', 'async', 'async'), pick(qw(event stream batch)));
	my %filter = maybe(.7) ? (types => texts(map { pick(@types) } 0 .. rand 3)) : ();
	my $replay = pick('true', 'true', 'false');

	end_other();
	my $made = run("BEGIN; CREATE TABLE reference.m_$name (stream text COLLATE \"C\" PRIMARY KEY, events text NOT NULL); "
		  . "SELECT es_create_projection('$name', reference.script('$name'), '{reference.m_$name}', "
		  . join(', ', map { "$_ => $filter{$_}" } keys %filter, ()) . (%filter ? ', ' : '')
		  . "mode => '$mode', granularity => '$granularity', replay => $replay); "
		  . note_consumer($name, 'projection', $replay eq 'true' ? 0 : $head, %filter) . '; COMMIT', qr/trapped/);
	$consumers{$name} = { kind => $mode, whole => $replay eq 'true' } if defined $made;
	return;
}

sub create_handler
{
	my $name = 'h' . $next++;
	my %filter = filter();
	my $after = pick(0, 0, $head);

	end_other();
	run("BEGIN; CREATE TABLE reference.m_$name (stream text COLLATE \"C\" PRIMARY KEY, events text NOT NULL); "
		  . "SELECT es_create_handler('$name', reference.script('$name'), after => $after, max_attempts => " . pick(1, 2, 5)
		  . join('', map { ", $_ => $filter{$_}" } sort keys %filter) . '); ' . note_consumer($name, 'handler', $after, %filter) . '; COMMIT');
	$consumers{$name} = { kind => 'handler' };
	return;
}

sub create_subscription
{
	my $name = 's' . $next++;
	my %filter = filter();
	my $after = pick(0, 0, $head);

	end_other();
	run("BEGIN; SELECT es_create_subscription('$name', after => $after, max_attempts => " . pick(1, 2, 5)
		  . join('', map { ", $_ => $filter{$_}" } sort keys %filter) . '); ' . note_consumer($name, 'subscription', $after, %filter) . '; COMMIT');
	$consumers{$name} = { kind => 'subscription' };
	return;
}

sub fetch
{
	my ($name, $consumer, $max_count, $lease) = @_;
	$fetches++;
	run("INSERT INTO reference.delivered SELECT f.ordinality, $fetches, '$name', '$consumer', f.position, f.stream, f.version, f.type "
		  . "FROM es_fetch('$name', '$consumer', $max_count, '$lease') WITH ORDINALITY f");
	my $wrong = run("SELECT reference.check_fetch($fetches, $max_count)");
	push @bad, "fetch $fetches: $wrong" if $wrong;
	$held{$name}{$consumer} = [ split /\n/, run("SELECT position FROM reference.delivered WHERE batch = $fetches ORDER BY n") // '' ];
	$count{delivered} += @{ $held{$name}{$consumer} };
	return;
}

sub ack
{
	my ($name, $consumer, @positions) = @_;
	my $list = '{' . join(',', @positions) . '}';
	my $left = run("BEGIN; WITH a AS MATERIALIZED (SELECT es_ack('$name', '$consumer', '$list') AS n), "
		  . "d AS (INSERT INTO reference.done SELECT '$name', unnest('$list'::bigint[]) FROM a ON CONFLICT DO NOTHING RETURNING 1) "
		  . 'SELECT (SELECT n FROM a) - (SELECT count(*) FROM d); COMMIT', qr/ZE013/);
	push @bad, "$left too many acknowledged of $list, $name, $consumer" if $left;
	return;
}

my %action;

sub action
{
	my ($action) = @_;

	$count{$action}++;
	return $action{$action}->();
}

%action = (
	append => sub {
		my @appends = map { 'SELECT es_append_events(' . literal(pick(@streams)) . ', ' . events() . ')' } 0 .. (maybe(.7) ? 0 : rand 3);
		return run($appends[0], qr/ZE009/) if @appends == 1 && maybe(.7);
		run('BEGIN; ' . join('; ', @appends) . '; ' . pick('COMMIT', 'COMMIT', 'ROLLBACK'), qr/ZE009/);
	},
	append_open => sub {
		return end_other() if $other_open;
		$other->query('BEGIN; SELECT es_append_events(' . literal(pick('A-', 'B-', 'C-') . 'open') . ', ' . events() . ')');
		$other_open = 1;
	},
	run_all => sub { run('CALL es_run()') },
	run_one => sub {
		my $name = named('async', 'handler');
		run("CALL es_run('$name')") if defined $name;
	},
	fetch => sub {
		my $name = named('subscription');
		fetch($name, pick('c1', 'c2', 'c3'), int(1 + rand pick(3, 30)), pick('1s', '1min', '1h')) if defined $name;
	},
	answer => sub {
		my $name = pick(sort keys %held) // return;
		my $consumer = pick(sort keys %{ $held{$name} });
		my @positions = @{ $held{$name}{$consumer} } or return;

		# the first of them, or some in any order; the rest is kept for later, or forgotten
		my @chosen = maybe(.5) ? @positions : maybe(.5) ? splice(@{[@positions]}, 0, 1 + rand @positions) : grep { maybe(.6) } @positions;
		ack($name, $consumer, @chosen) if @chosen;
		run("SELECT es_nack('$name', '$consumer', " . pick(@positions) . ", 'no', " . pick('NULL', "'0s'", "'1h'") . ', ' . pick('false', 'false', 'true') . ')',
			qr/ZE013/) if maybe(.4);
		delete $held{$name}{$consumer} if maybe(.3);
		delete $held{$name} unless %{ $held{$name} };
	},
	clock => sub {
		$clock += pick(1, 10, 600, 4000);
		run("SET eventsourcing.clock_offset = '${clock}s'");
	},
	trap => sub {
		my $name = named(qw(inline async async handler handler)) // return;
		return run("INSERT INTO reference.traps SELECT '$name', s, 1 + coalesce((SELECT max(version) FROM es.events WHERE stream = s), 0) FROM (VALUES ("
			  . literal(pick(@streams)) . ')) v (s)') if $consumers{$name}{kind} eq 'inline' || maybe(.2);
		action('append') for 1 .. 1 + rand 3;
		run("INSERT INTO reference.traps SELECT '$name', stream, version FROM reference.pending('$name') ORDER BY random() LIMIT " . pick(1, 1, 3));
		run("CALL es_run('$name')") if maybe(.7);
	},
	mend => sub { run('DELETE FROM reference.traps WHERE ' . pick('true', 'random() < .5')) },
	path => sub { run('SET eventsourcing.log_path = ' . pick('auto', 'spi')) },
	unpark => sub {
		my $name = named('handler', 'subscription');
		run("SELECT es_unpark('$name'" . pick('', ', ' . literal(pick(@streams))) . ')') if defined $name;
	},
	pause => sub {
		my $name = named('inline', 'async') // return;
		end_other();
		run("SELECT es_pause_projection('$name')");
	},
	resume => sub {
		my $name = named('inline', 'async') // return;
		end_other();
		run("SELECT es_resume_projection('$name')", qr/trapped/);
	},
	rebuild => sub {
		my $name = named('inline', 'async') // return;
		end_other();
		my $rebuilt = run("CALL es_rebuild('$name', " . int(1 + rand pick(5, 300)) . ')', qr/trapped/);
		return unless defined $rebuilt;
		my $types = delete $consumers{$name}{next_types};
		run('UPDATE reference.consumers SET after = 0' . (defined $types ? ", types = $types" : '') . " WHERE name = '$name'");
		$consumers{$name}{whole} = 1;
	},
	alter => sub {
		my $name = named('inline', 'async') // return;
		my @new = map { pick(@types) } 1 .. rand 4;
		end_other();
		run("SELECT es_alter_projection('$name', types => " . texts(@new) . ', granularity => ' . pick("'event'", "'stream'", "'batch'", 'NULL') . ', rebuild => true)');
		$consumers{$name}{next_types} = @new ? texts(@new) : 'NULL';
	},
	reset => sub {
		my $name = named('handler', 'subscription') // return;
		my $after = run("SELECT (random() * $head)::bigint");
		end_other();
		run("BEGIN; SELECT es_reset_subscription('$name', $after); UPDATE reference.consumers SET after = $after WHERE name = '$name'; "
			  . ($consumers{$name}{kind} eq 'handler' ? "DELETE FROM reference.m_$name" : "DELETE FROM reference.done WHERE name = '$name'") . '; COMMIT');
		delete $held{$name};
	},
	drop => sub {
		my $name = named(qw(inline async handler subscription)) // return;
		end_other();
		run("BEGIN; DELETE FROM reference.consumers WHERE name = '$name'; DELETE FROM reference.done WHERE name = '$name'; "
			  . ($consumers{$name}{kind} =~ /async|inline/ ? "SELECT es_drop_projection('$name')" : "SELECT es_drop_subscription('$name')")
			  . ($consumers{$name}{kind} ne 'subscription' ? "; DROP TABLE reference.m_$name" : '') . '; COMMIT');
		delete $held{$name};
		delete $consumers{$name};
	},
	create_projection => \&create_projection,
	create_handler => \&create_handler,
	create_subscription => \&create_subscription);
my @actions = (('append') x 12, ('append_open') x 4, ('run_all') x 6, ('run_one') x 3, ('fetch') x 12, ('answer') x 12, ('clock') x 3, ('trap') x 3,
	sort keys %action);

# Lets everything come to its end.
sub settle
{
	my ($what) = @_;
	my $unfinished;

	for (1 .. 60)
	{
		$clock += 4000;
		run("SET eventsourcing.clock_offset = '${clock}s'");
		run("SELECT es_unpark(name) FROM es.subscriptions; SELECT es_resume_projection(name) FROM es.projections WHERE state <> 'running'; CALL es_run()");
		foreach my $name (grep { $consumers{$_}{kind} eq 'subscription' } sort keys %consumers)
		{
			fetch($name, 'last', 1000, '1h');
			ack($name, 'last', @{ $held{$name}{last} }) if @{ $held{$name}{last} };
		}
		$unfinished = run('SELECT reference.unfinished()');
		last if @bad || !$unfinished;
	}
	push @bad, "$what: not finished: $unfinished" if $unfinished;
	return;
}

sub check
{
	my ($what) = @_;
	foreach my $name (grep { $consumers{$_}{kind} ne 'subscription' } sort keys %consumers)
	{
		my $wrong = run("SELECT reference.check_model('$name')");
		push @bad, "$what: $wrong" if $wrong;
		next if $consumers{$name}{kind} eq 'handler' || !$consumers{$name}{whole};
		$wrong = run("SELECT * FROM es_verify_projection('$name')");
		push @bad, "$what, es_verify_projection(): $wrong" if $wrong;
	}
	my $wrong = run('SELECT reference.check_done()');
	push @bad, "$what: $wrong" if $wrong;
	return;
}

sub round
{
	my ($seed, $actions) = @_;

	note("seed $seed");
	srand($seed);
	%consumers = %held = ();
	($fetches, $clock, $next, $other_open) = (0, 0, 0, 0);
	($session, $other) = (Session->new($node), Session->new($node));
	$session->query('\set VERBOSITY verbose');
	run("SET search_path = public; SET client_min_messages = error; SET statement_timeout = '100s'; SELECT setseed($seed / 1e9)");
	run(q{SELECT es_drop_store('es', true) WHERE es_store_exists('es'); SELECT es_create_store();
		SELECT format('DROP TABLE reference.%I', relname) FROM pg_class WHERE relnamespace = 'reference'::regnamespace AND relname ~ '^m_.*[0-9]$' \gexec
		TRUNCATE reference.consumers, reference.traps, reference.delivered, reference.done});
	action('append') for 1 .. rand 30;
	run(q{SELECT es_rename_type('W', 'Z'), es_create_upcaster('D', 1, 'reference.lift(jsonb)')});
	create_projection() for 0 .. rand 4;
	create_handler() for 0 .. rand 2;
	create_subscription() for 0 .. rand 2;
	for (1 .. $actions)
	{
		my $action = pick(@actions);
		action($action);
		last if @bad;
	}
	end_other();
	run('DELETE FROM reference.traps');
	settle('in the end') unless @bad;
	check('in the end') unless @bad;
	foreach my $name (@bad ? () : grep { $consumers{$_}{kind} =~ /inline|async/ } sort keys %consumers)
	{
		run("CALL es_rebuild('$name', " . int(1 + rand pick(5, 300)) . ')');
		my $types = delete $consumers{$name}{next_types};
		run('UPDATE reference.consumers SET after = 0' . (defined $types ? ", types = $types" : '') . " WHERE name = '$name'");
		$consumers{$name}{whole} = 1;
	}
	check('rebuilt') unless @bad;
	$count{events} += run("SELECT count(*) FROM es.events") // 0;
	$_->quit foreach $session, $other;
	return;
}

my $seed = $ENV{ES_SEED} // 1;
my $rounds = 0;
my $until = time + ($ENV{ES_TEST_SECONDS} // 0);
do { round($seed++, 120) } while (!@bad && (++$rounds < 3 || time < $until));

is(join("\n", @bad), '', 'read models and deliveries are what plain SQL has') or diag('seed ' . ($seed - 1));
note("$rounds rounds; " . join ', ', map { "$_: $count{$_}" } sort keys %count);
cmp_ok($count{$_} // 0, '>', 0, "there were $_") foreach 'failed', 'delivered';
$node->stop;
done_testing();
