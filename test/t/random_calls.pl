# Every function of the extension with random arguments, names that exist and
# nasty ones: whatever is called, the server stays up, no internal error shows,
# nothing leaks that the server would warn of, and the store is whole afterwards.
#
# ES_SEED=n begins with that seed instead of the same one each time;
# script/test --seconds N goes on for longer, with a new seed each round.

use strict;
use warnings;

use FindBin;
use List::Util qw(sum);
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "log_statement = all\nmax_stack_depth = 2MB");
$node->start;

# A store with something of everything.  Run again when calls have dropped some.
my @fill = split /;;\n/, <<'END';
SELECT es_create_store();;
CREATE ROLE someone;;
CREATE TABLE model (stream text PRIMARY KEY, n numeric);;
CREATE TABLE copies (position bigint PRIMARY KEY, stream text, data jsonb);;
CREATE TABLE captured (id int PRIMARY KEY, note text, n numeric);;
CREATE FUNCTION apply(state jsonb, event es_event) RETURNS jsonb IMMUTABLE LANGUAGE sql
	AS $$ SELECT state || jsonb_build_object('last', event.type, 'version', event.version) $$;;
CREATE FUNCTION decide(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE sql
	AS $$ SELECT CASE command WHEN 'go' THEN jsonb_build_array(jsonb_build_object('type', 'X', 'data', payload))
		WHEN 'nothing' THEN '[]' ELSE payload END $$;;
CREATE FUNCTION lift(data jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT data || '{"lifted": true}' $$;;
SELECT es_create_aggregate('A', rules => '{"X": {"$inc": {"n": "$.n"}}, "Y": {"$push": {"l": "$"}}, "Z": {"$set": {"z": "$$version"}}}', snapshot_every => 3);;
SELECT es_create_aggregate('B', 'apply(jsonb, es_event)', snapshot_every => 2);;
SELECT es_create_decider('A', 'decide(jsonb, text, jsonb)');;
SELECT es_create_upcaster('Y', 1, 'lift(jsonb)');;
SELECT es_create_projection('p', 'INSERT INTO model SELECT stream, version FROM new_events ON CONFLICT (stream) DO UPDATE SET n = EXCLUDED.n', '{model}');;
SELECT es_create_projection('q', 'INSERT INTO copies SELECT position, stream, data FROM new_events', '{copies}', mode => 'async', granularity => 'batch');;
SELECT es_create_subscription('s', 'A');;
SELECT es_create_subscription('r', tags => '{red}', max_attempts => 1);;
SELECT es_create_handler('h', 'SELECT 1 / n::int FROM new_events, jsonb_to_record(data) AS d (n numeric)', backoff => '0', max_attempts => 2);;
SELECT es_capture('captured', 'Captured', 'id');;
SELECT es_append('A-' || i % 3, (ARRAY['X', 'Y', 'Z'])[1 + i % 3], jsonb_build_object('n', i), tags => '{red}') FROM generate_series(1, 20) i;;
SELECT es_append('B-1', 'X', '{"n": 1}', event_id => '00000000-0000-0000-0000-000000000001');;
SELECT es_schedule('2000-01-01', 'A-1', 'X', '{"n": 1}', 'timer');;
INSERT INTO captured VALUES (1, 'a', 1) ON CONFLICT (id) DO UPDATE SET n = captured.n + 1;;
CALL es_run();;
SELECT count(*) FROM es_fetch('s', 'c', 3, '1 minute');;
END

$node->safe_psql('postgres', 'CREATE EXTENSION eventsourcing');
$node->safe_psql('postgres', $_) foreach @fill;

# name, kind, names, types and number of defaults of the arguments
my @functions = map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql(
	'postgres', q{
	SELECT proname, prokind, pronargdefaults,
		   array_to_string(proargnames[1:pronargs], ','),
		   array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY u (t, i) ORDER BY i), ',')
	  FROM pg_proc p
	  JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing'
	 WHERE prorettype <> 'trigger'::regtype AND 'internal'::regtype <> ALL (proargtypes)
	 ORDER BY 1});
cmp_ok(@functions, '>', 60, 'the extension has functions to call');

# What the reference doesn't name is called by others of ours, and may break a
# store if it isn't; so may what is there to remove it.
my $reference = slurp_file('docs/reference.md');
my %undo = map { $_->[0] => 1 } grep { $reference !~ /\b$_->[0]\b/ } @functions;
$undo{$_} = 1 foreach qw(es_drop_store);

sub pick { return $_[ rand @_ ] }

my @text = ("''", "'es'", "'A'", "'A-1'", "'B-2'", "'-'", "'A-'", "'-1'", q{'$all'}, "'X'", "'p'", "'s'", "'c'",
	"repeat('x', 600)", "repeat('y', 3000) || '-1'", "E'\\n'", q{'"'}, "'''; DROP TABLE model'", "'%s%n'", "U&'\\+01F600-1'");
my @json = ("'null'", "'{}'", "'[]'", "'1'", q{'"a"'}, "'[1, {}, null]'", q{'[{"type": "X"}]'}, q{'{"n": 3}'}, q{'{"n": "x"}'},
	q{'{"n": -1e130000}'}, q{'[{"type": "X", "data": {"n": 1e400}}]'}, q{'[{"type": null}]'}, q{'[{"type": "X", "tags": "red"}]'},
	q{'{"X": {"$set": {"a.b.c": "$.x"}}}'}, q{'{"X": {"$inc": null}}'}, q{'{"X": {"$pull": {"l": {}}}, "Y": {"$mul": {"n": 2}}}'},
	q{'{"X": [{"$push": {"a": {"$event": 1}}}]}'}, "(repeat('[', 3000) || repeat(']', 3000))",
	q{'{"$schema": 7}'}, q{'{"stream": "A-1", "version": 8, "type": "X", "types": [1]}'},
	q{'[{"stream": "I-1", "version": 1, "type": "X", "recorded_at": "2020-01-01"}]'},
	q{'[{"id": 7, "source": "a", "type": "X", "specversion": "1.0"}]'});

# What an argument of that name takes.
my %valid = (
	after => [ 0, 3, 10 ], category => [ "'A'", "'B'", "'Captured'" ], command => [ "'go'", "'nothing'", "'other'" ],
	condition => ["'(state->>''n'')::int > 3'", "'state ? ''last'''"], consumer => [ "'c'", "'d'" ],
	event_id => ["'00000000-0000-0000-0000-000000000001'"], expected_version => [ 'NULL', -1, 0, 1 ],
	events => [ q{'[{"type": "X", "data": {"n": 1}}, {"type": "Y", "metadata": {"$schema": 2}}]'} ],
	granularity => [ "'event'", "'stream'", "'batch'" ], key => [ "'id'", "'timer'" ], kind => [ "'metadata'", "'tags'", "'data'" ],
	level => [ "'reader'", "'writer'", "'consumer'" ], mode => [ "'inline'", "'async'" ], name => [ "'p'", "'q'", "'s'", "'h'", "'r'", "'es'" ],
	original => ["'model'"], positions => [ "'{1}'", "'{1,2,3}'" ], position => [ 1, 5, 9 ], projection => [ "'p'", "'q'" ], role => ["'someone'"],
	rules => [ q{'{"X": {"$inc": {"n": "$.n"}}}'}, q{'{"X": {"$merge": "$"}, "Y": {"$unset": ["n"]}}'} ],
	script => [ "'INSERT INTO model SELECT stream, version FROM new_events ON CONFLICT (stream) DO NOTHING'", "'SELECT 1 FROM new_events'" ],
	state => [ q{'{"n": 1, "l": [1, 2]}'} ], store => ["'es'"], stream => [ "'A-1'", "'A-2'", "'B-1'", "'New-' || random()" ],
	subscription => [ "'s'", "'r'", "'h'" ], table => ["'captured'"], tables => [ "'{model}'", "'{copies}'" ], tags => ["'{red}'"],
	type => [ "'X'", "'Y'" ], types => [ "'{X}'", "'{X,Y}'" ], apply => ["'apply(jsonb, es_event)'"],
	decide => ["'decide(jsonb, text, jsonb)'"], fn => ["'lift(jsonb)'"], from_schema => [ 1, 2 ], timeout => ["'10 ms'"]);

# A value of a type; of a name, often one that makes sense.
sub value
{
	my ($type, $name) = @_;

	return '(' . pick(@{ $valid{$name} }) . ")::$type" if $name && $valid{$name} && rand() < .75;
	return "NULL::$type" if rand() < .1;
	if ($type =~ /^(.*)\[\]$/)
	{
		my $of = $1;
		return pick("'{}'::$type", "ARRAY[[" . value($of) . "]]::$type", "'[5:6]={NULL,NULL}'::$type") if rand() < .3;
		return 'ARRAY[' . join(',', map { value($of) } 0 .. rand 3) . "]::$type";
	}
	return '(' . pick(@text) . ")::$type" if $type eq 'text' || $type eq 'name';
	return '(' . pick(@json) . ")::$type" if $type eq 'jsonb';
	return '(' . pick(0, 1, -1, 2, 7, 100, 2147483647, -2147483648) . ')::int' if $type eq 'integer';
	return pick(0, 1, -1, 2, 7, 2147483648, '9223372036854775807', '-9223372036854775808', -2) =~ s/.*/'$&'::bigint/r if $type eq 'bigint';
	return pick('true', 'false') if $type eq 'boolean';
	return pick("'0'", "'1 ms'", "'-1 day'", "'178000000 years'", "'1 month -3 s'") . '::interval' if $type eq 'interval';
	return pick("'infinity'", "'-infinity'", 'now()', "'4713-01-01 BC'", "'294276-12-31'") . "::$type" if $type =~ /^timestamp/;
	return "'00000000-0000-0000-0000-00000000000" . int(rand 3) . "'::uuid" if $type eq 'uuid';
	return pick("'es.events'", "'pg_class'", "'model'", "'es.snapshots'", "'es.events_position_seq'", "'es.streams'", '0', '987654321') . '::regclass'
	  if $type eq 'regclass';
	return pick("'lower(text)'", "'apply(jsonb, es_event)'", "'es_project()'", '0', '987654321') . '::regprocedure' if $type eq 'regprocedure';
	return 'ROW(' . join(',', map { value(@$_) } [ 'bigint', '' ], [ 'text', 'stream' ], [ 'bigint', '' ], [ 'text', 'type' ],
		[ 'jsonb', '' ], [ 'jsonb', '' ], [ 'uuid', '' ], [ 'text[]', '' ], [ 'timestamptz', '' ]) . ')::es_event' if $type =~ /es_event$/;
	die "no values for the type $type";
}

sub call
{
	my ($function, $kind, $defaults, $names, $types) = @{ $_[0] };
	my @names = split /,/, $names;
	my @types = split /,/, $types;
	my $needed = @types - $defaults;
	my @arguments;

	foreach my $i (0 .. $#types)
	{
		next if $i >= $needed && rand() < .6;
		push @arguments, qq{"$names[$i]" => } . value($types[$i], $names[$i]);
	}
	my $call = "$function(" . join(', ', @arguments) . ')';
	return "CALL $call" if $kind eq 'p';
	return "BEGIN; SELECT es_append('A-1', 'X', '{\"n\": 1}'); SELECT * FROM $call; ROLLBACK" if $undo{$function} || rand() < .3;
	return "SELECT * FROM $call";
}

my ($session, @bad, %called, %worked);

# One statement; what must not come of it is noted.
sub run
{
	my ($sql) = @_;
	my (undef, $err) = eval { $session->query($sql) };

	$err = $@ if $@;
	push @bad, "$sql\n$err"
	  if $err =~ /ERROR:  XX|FATAL|PANIC|server closed|psql has gone|timed out|WARNING.*(leak|detected|not closed)/;
	return $err;
}

sub round
{
	my ($seed, $calls) = @_;

	note("seed $seed");
	srand($seed);
	$session = Session->new($node);
	run(q{\set VERBOSITY verbose});
	run("SET statement_timeout = '2s'; SET lock_timeout = '1s'; SET client_min_messages = warning");
	foreach my $i (1 .. $calls)
	{
		# every function comes about, however few the calls
		my $function = $i <= @functions ? $functions[ $i - 1 ] : pick(@functions);
		my $err = run(call($function));

		last if @bad;
		$called{ $function->[0] }++;
		$worked{ $function->[0] }++ if $err !~ /ERROR/;
		run('ROLLBACK') if $err =~ /ERROR/;
		run('SET eventsourcing.log_path = ' . pick('auto', 'spi')) if rand() < .02;
		run($_) foreach $i % 200 ? () : @fill;
	}
	$session->quit;
	return;
}

my $seed = $ENV{ES_SEED} // 1;
my $until = time + ($ENV{ES_TEST_SECONDS} // 0);
do { round($seed++, 1000) } while (!@bad && time < $until);

is(join("\n", @bad), '', 'no call ends the server, or in an internal error, or leaks');
is($node->safe_psql('postgres', q{SELECT relation, problem, detail FROM es_verify() WHERE detail !~ '^fsync'}), '', 'the store is whole');
is($node->safe_psql('postgres', q{SELECT stream FROM es.events GROUP BY stream HAVING max(version) <> count(*) OR min(version) <> 1}),
	'', 'the versions of every stream are 1 to n');
my @never = sort grep { !$worked{$_} } keys %called;
note(sprintf 'of %d calls %d ended without an error', map { sum(values %$_) } \%called, \%worked);
note("never without an error: @never");
cmp_ok(@never, '<', @functions / 4, 'most functions have done what they are for');

# Nothing that a call left behind keeps the server from its work.
is($node->safe_psql('postgres', q{SELECT es_append('After-' || random(), 'X')}), 1, 'events can be appended');
$node->stop;
done_testing();
