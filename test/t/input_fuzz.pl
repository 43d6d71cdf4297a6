# What callers pass in, at random: events in JSON, names of streams, filters,
# conditions.  Plain SQL says what has to come of each; nothing may end the
# server or in an internal error, and the store is whole afterwards.
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
$node->append_conf('postgresql.conf', "log_statement = all\nmax_stack_depth = 2MB");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eventsourcing;' . slurp_file('test/lib/input_reference.sql'));

sub pick { return $_[ rand @_ ] }
sub maybe { return rand() < $_[0] }

#
# Random input
#

my @letters = (('a' .. 'f', '0' .. '9') x 2, '-', '-', ' ', '.', ',', ':', '@', '$', '%', '_', '\\', '"', "'", '{', '}', '(', ')', "\n", "\t",
	"\x{7f}", "\x{e9}", "\x{e9}", "\x{20ac}", "\x{1f600}", "\x{200b}", "\x{fffd}", "\x{202e}");
my @words = ('X', 'Y', 'A', 'B-', 'Captured', 'NULL', 'null', '$schema', '$all', '%s%n', 'es', "''; DROP TABLE x; --", '{a,b}', '/*', '$1');

sub word
{
	return pick(@words) if maybe(.5);
	return '' if maybe(.05);
	my $n = maybe(.1) ? pick(127, 128, 509 .. 514, 600, 3000) : 1 + rand 12;
	return pick(@letters) x $n if maybe(.2);
	return join '', map { pick(@letters) } 1 .. $n;
}

# A word in SQL, or in JSON.
sub literal
{
	my ($word) = @_;
	utf8::encode($word);
	return q{'} . $word =~ s/'/''/gr . q{'};
}

sub string
{
	my ($word) = @_;
	return '"' . $word =~ s{([^ -~]|["\\])}{ord($1) < 0x10000 ? sprintf('\u%04x', ord $1)
		: sprintf('\u%04x\u%04x', 0xd800 + ((ord($1) - 0x10000) >> 10), 0xdc00 + ((ord($1) - 0x10000) & 0x3ff))}ger . '"';
}

sub number { return pick(0, 1, 2, 7, -1, '-0', '0.0', '1.50', 1.5, '1e3', 2147483647, 2147483648, '1e400', '-1e-400', '9' x 40) }

sub json
{
	my ($depth) = @_;
	return pick('null', 'true', 'false', number(), string(word()), string(word())) if !$depth || maybe(.4);
	return '[' . join(',', map { json($depth - 1) } 1 .. rand 4) . ']' if maybe(.4);
	return '{' . join(',', map { string(word()) . ':' . json($depth - 1) } 1 .. rand 4) . '}';
}

sub uuid { return sprintf '%08x-0000-4000-8000-%012x', int rand 2**32, int rand 2**32 }

# Most often an event, sometimes nearly one.
sub event
{
	my %key = (type => string(pick('X', 'Y', maybe(.5) ? word() : 'Z')));
	$key{data} = json(3) if maybe(.8);
	$key{metadata} = pick('null', '{"actor": "me"}', '{' . string(word()) . ':' . json(2) . '}', '{"$schema":' . pick(1, 1, '1.0', 3) . '}') if maybe(.4);
	$key{event_id} = pick('null', map { string($_) } uuid(), '{' . uuid() . '}', uc uuid(), uuid() =~ s/-//gr) if maybe(.3);
	$key{tags} = pick('null', '[]', '[' . join(',', map { string(pick('red', word())) } 0 .. rand 3) . ']') if maybe(.4);
	if (maybe(.04))
	{
		my $key = pick(qw(type data metadata event_id tags), word());
		if (maybe(.3)) { delete $key{$key} }
		else
		{
			$key{$key} = pick(json(2), number(), string(uuid() . '0'), '[["a"], ["b"]]', '[null]', '{"$schema":' . pick(number(), 'null', '"1"') . '}');
		}
	}
	return '{' . join(',', map { string($_) . ':' . $key{$_} } sort keys %key) . '}';
}

sub events
{
	return json(3) if maybe(.02);
	my @events = map { event() } 1 .. pick(0, 1, 1, 1, 2, 3, maybe(.1) ? 60 : 4);
	@events = map { '{"event_id":' . string(uuid()) . ',' . (/^.(.*"type".*)$/s)[0] } grep { /"type"/ && !/"event_id"/ } @events if maybe(.2);
	push @events, pick(@events) if @events && maybe(.03);
	push @events, json(1) if maybe(.02);
	return '[' . join(',', @events) . ']';
}

sub bigint { return 'NULL' if maybe(.1); return "'" . pick(0, 1, 2, 3, 10, 50, -1, '9223372036854775807', '-9223372036854775808') . "'" }
sub texts { return 'NULL' if maybe(.3); return "ARRAY[" . join(',', map { maybe(.03) ? 'NULL' : literal(pick(@_, @_, word())) } 1 .. rand 4) . ']::text[]' }

# What an event has there, or a word.
sub some { return maybe(.2) ? literal(word()) : "(SELECT $_[0] FROM es_read_all(0, NULL) ORDER BY random() LIMIT 1)" }

# A condition over the state of a stream, or what looks like one.
sub condition
{
	my ($depth) = @_;
	my $path = pick(q{state->'n'}, q{state->'l'->0}, q{state#>'{l,-1}'}, q{state->'last'}, q{state}, q{state->'last'->'a'}, q{NULL::jsonb});
	my $text = pick(q{state->>'n'}, q{state->>'last'}, q{state#>>'{l,0}'}, literal(word()));

	if ($depth && maybe(.5))
	{
		return pick('NOT (', '(', '(', 'coalesce(') . condition($depth - 1) . ')' if maybe(.3);
		return '(' . condition($depth - 1) . ') ' . pick('AND', 'OR', 'IS DISTINCT FROM', '<>') . ' (' . condition($depth - 1) . ')';
	}
	return pick("$path IS NULL", "$path = " . literal(json(1)) . '::jsonb', "$path > " . literal(number()), "$path ? " . literal(word()),
		"$path @> " . literal(json(1)) . '::jsonb', "jsonb_typeof($path) = '" . pick(qw(array object number string)) . "'", "$text < " . literal(word()),
		"$text ~ " . literal(word()), "($text)::numeric > 3", "length($text) % 3 = 1", 'version % 3 = 0', 'version > ' . int rand 1150, q{(state#>>'{last,a}')::int > } . int rand 1150, "EXISTS (SELECT FROM jsonb_path_query(state, '\$.**'))",
		'true', 'NULL', '1', ')', 'true) --', 'true; SELECT 1', 'state', literal(word()), '(SELECT true UNION ALL SELECT true)', '/*', word() =~ s/\$//gr =~ s/[^ -~]//gr);
}

#
# The parts.  Each makes one statement that returns '', or what is wrong.
#

my $stream;
my %part = (
	events => sub {
		$stream = pick('E-', 'F-', 'G', 'H-' . pick(@letters) . '-') . int rand 1e9;
		return 'check_events(' . literal($stream) . ', ' . literal(events()) . '::jsonb)';
	},
	import => sub {
		my $other = maybe(.7) ? '{}' : '{' . string(pick(qw(stream version type data recorded_at metadata event_id tags position), word())) . ':'
		  . pick(json(2), number(), map { string($_) } 'infinity', '-infinity', '4713-01-01 BC', '2020-01-01 00:00:00+25', '', word()) . '}';
		return 'check_import(' . literal('I-' . int rand 1e9) . ', ' . literal(events()) . '::jsonb, ' . literal($other) . '::jsonb)';
	},
	name => sub { return 'check_name(' . literal(maybe(.7) ? word() . pick('', '-', '-1', '--') : word()) . ', ' . literal(word()) . ')' },
	read => sub {
		return 'check_read(' . join(', ', some('stream'),
			map({ bigint() } 1 .. 3), pick('true', 'false', 'NULL')) . ')';
	},
	filter => sub {
		return 'check_' . pick(('read_all') x 8, 'subscription', 'projection') . '('
		  . join(', ', bigint(), maybe(.2) ? bigint() : 'NULL', maybe(.5) ? 'NULL' : some('split_part(stream, $$-$$, 1)'), texts('X', 'Y', 'Z'), texts('red')) . ')';
	},
	bisect => sub { return 'check_bisect(' . literal(condition(3)) . ')' });

my ($session, @bad, %ended);

sub run
{
	my ($sql) = @_;
	my ($out, $err) = eval { $session->query($sql) };

	$err = $@ if $@;
	push @bad, "$sql\n$err" if $err ne '';
	return $out;
}

sub round
{
	my ($seed, $statements) = @_;

	note("seed $seed");
	srand($seed);
	$session = Session->new($node);
	run("SET search_path = input, public; SET client_min_messages = error; SET eventsourcing.store = 'fu\"z''z'; SELECT setseed(0); CALL fresh_store()");
	foreach my $i (1 .. $statements)
	{
		my $part = $i <= 60 ? 'events' : (sort keys %part)[ rand keys %part ];
		my $call = $part{$part}->();
		my ($end, $wrong) = split /\|/, run("SELECT * FROM $call") // '', 2;

		push @bad, "$call\n$wrong" if $wrong;
		last if @bad > 5 || !defined $end;
		$ended{$part}{$end}++;
		run('SET eventsourcing.log_path = ' . pick('auto', 'spi')) if $i % 50 == 0;
	}
	my $verified = run('SELECT check_store()');
	push @bad, $verified if $verified;
	$session->quit;
	return;
}

my $seed = $ENV{ES_SEED} // 1;
my $until = time + ($ENV{ES_TEST_SECONDS} // 0);
do { round($seed++, 600) } while (!@bad && time < $until);

is(join("\n", @bad), '', 'all came out as plain SQL has it');
foreach my $part (sort keys %ended)
{
	my %end = %{ $ended{$part} };
	note("$part: " . join ', ', map { "$_: $end{$_}" } sort keys %end);
	cmp_ok($end{'00000'}, '>', 10, "$part: some worked");
	cmp_ok(keys %end, '>', 1, "$part: some were refused");
	is(join(' ', grep { /^(XX|58|57|53|0A)/ } keys %end), '', "$part: for a reason that the caller gave");
}
$node->stop;
done_testing();
