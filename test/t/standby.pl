# A physical standby reads streams, and says clearly what it cannot do; promoted,
# it goes on where the primary was.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

sub error
{
	my ($node, $sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $stderr;
}

$primary->safe_psql('postgres', q{
	CREATE EXTENSION eventsourcing;
	SELECT es_create_store();
	CREATE FUNCTION apply(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN jsonb_set(state, ARRAY[event.type], to_jsonb(event.version));
	END $$;
	SELECT es_create_aggregate('A', 'apply(jsonb, es_event)', snapshot_every => 10);
	SELECT es_create_aggregate('R', rules => '{"X": {"$inc": {"n": 1}}}');
	SELECT es_append_events('A-1', (SELECT jsonb_agg(jsonb_build_object('type', 'T' || n % 3)) FROM generate_series(1, 25) n));
	SELECT es_append('R-1', 'X');
	BEGIN; SELECT es_append('P-1', 'X'); PREPARE TRANSACTION 'p';
	SELECT es_append('A-2', 'X');
});
$primary->wait_for_catchup($standby);

for (
	q{SELECT md5(string_agg(e::text, ',' ORDER BY version)) FROM es_read('A-1') e},
	q{SELECT string_agg(version::text, ',') FROM es_read('A-1', 20, NULL, 3, true)},
	q{SELECT * FROM es_load('A-1')},
	q{SELECT * FROM es_load('A-1', 12)},
	q{SELECT * FROM es_load('R-1')},
	q{SELECT md5(string_agg(r::text, ',' ORDER BY version)) FROM es_replay('A-1') r},
	q{SELECT es_stream_version('A-1')},
	q{SELECT es_head_position()},
	q{SELECT stream, version FROM es.streams ORDER BY stream})
{
	is($standby->safe_psql('postgres', $_), $primary->safe_psql('postgres', $_), "the standby agrees: $_");
}

like(error($standby, q{SELECT es_append('A-1', 'X')}),
	qr/ERROR:  25006: cannot execute es_append\(\) in a read-only transaction/, 'es_append()');
like(error($standby, q{SELECT es_append_events('A-1', '[]')}),
	qr/ERROR:  25006: cannot execute es_append_events\(\) in a read-only transaction/, 'es_append_events()');
like(error($standby, q{SELECT es_create_aggregate('B', 'apply(jsonb, es_event)')}),
	qr/ERROR:  25006: /, 'es_create_aggregate()');
like(error($standby, q{SELECT es_snapshot('A-1')}), qr/ERROR:  25006: /, 'es_snapshot()');
for (q{SELECT es_safe_position()}, q{SELECT * FROM es_read_all()})
{
	like(error($standby, $_), qr/ERROR:  0A000: .*standby.*HINT:  Read by position on the primary/s, $_);
}

# What another session defines comes through to one that has it in its cache.
$primary->safe_psql('postgres', q{SELECT es_create_aggregate('R', rules => '{"X": {"$inc": {"n": 10}}}')});
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT state FROM es_load('R-1')}), '{"n": 10}', 'a changed definition arrives');

# With a watermark the standby is read by position, up to what a prepared transaction holds.
$primary->safe_psql('postgres', 'SELECT es_advance_watermark()');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT es_safe_position()'), 26, 'the safe position of a standby is the watermark');
is($standby->safe_psql('postgres', 'SELECT count(*), max(position) FROM es_read_all()'), '26|26', 'es_read_all() goes up to there');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM es_read_all(26)'), 0, 'and not beyond');

# Promotion
my $events = q{SELECT md5(string_agg(e::text, ',' ORDER BY position)) FROM es.events e};
my $before = $primary->safe_psql('postgres', $events);
my $head = $primary->safe_psql('postgres', 'SELECT es_head_position()');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;

is($standby->safe_psql('postgres', $events), $before, 'nothing is lost by promotion');
is($standby->safe_psql('postgres', 'SELECT gid FROM es.open_appends'), 'p', 'a prepared transaction came along');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM es_read_all()}), 26, 'and holds the safe position');
is($standby->safe_psql('postgres', q{SELECT es_append('A-1', 'X', expected_version => 25)}), 26, 'appends go on');
$standby->safe_psql('postgres', q{COMMIT PREPARED 'p'});
cmp_ok($standby->safe_psql('postgres', q{SELECT position FROM es.events WHERE stream = 'A-1' AND version = 26}),
	'>', $head, 'with positions after those of the old primary');
is($standby->safe_psql('postgres', q{SELECT string_agg(stream, ' ' ORDER BY position) FROM es_read_all(25)}),
	'R-1 P-1 A-2 A-1', 'a reader by position goes on, in order');
is($standby->safe_psql('postgres', q{SELECT es_safe_position() >= es_head_position()}), 't', 'nothing is held');
is($standby->safe_psql('postgres', q{SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'}),
	'', 'es_verify() finds nothing');

$standby->stop;
done_testing();
