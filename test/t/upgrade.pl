# ALTER EXTENSION UPDATE and es_upgrade_store() leave what CREATE EXTENSION and
# es_create_store() make, and the store at work, with sessions and a worker in it.
#
# Two versions that never were, 0.8 and 0.9, are made out of the present one here,
# with their update scripts: functions that are new, changed and dropped, tables
# that get a column and an index.  From each version that was released, whose
# install script stays in test/releases, it goes to the present one, too.
#
# Would fail: anything that the install script has and an update script forgot; a
# layout that es_upgrade_store() leaves; a session or worker that an update stops;
# an event that is handled twice or not at all.
use strict;
use warnings;

use File::Copy;
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Catalog;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Session;
use Test::More;

my ($current) = slurp_file('eventsourcing.control') =~ /^default_version = '(.*)'/m;
my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('upgrade');
$node->init;
if ($node->pg_version < 18 && system("postgres --describe-config | grep -q '^extension_destdir'") != 0)
{
	plan skip_all => 'this PostgreSQL takes extensions from its own folder only';
}

# Where the server finds these versions.
my $scripts;
my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
if ($node->pg_version >= 18)
{
	$scripts = "$folder/extension";
	$node->append_conf('postgresql.conf', "extension_control_path = '$folder:\$system'");
}
else
{
	$scripts = "$folder$sharedir/extension";
	$node->append_conf('postgresql.conf', "extension_destdir = '$folder'");
}
make_path($scripts);
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'eventsourcing'
eventsourcing.databases = 'postgres'
eventsourcing.naptime = '1s'
));
$node->start;

sub write_script { my ($version, $text) = @_; append_to_file("$scripts/eventsourcing--$version.sql", $text); }

# Changes a script in a place that is there once.
sub change
{
	my ($script, $from, $to) = @_;
	my $at = index $$script, $from;
	die "not once in the script: $from" if $at < 0 || index($$script, $from, $at + 1) >= 0;
	substr($$script, $at, length $from) = $to;
}

# A function's declaration, with its comment.
sub declaration
{
	my ($script, $name) = @_;
	$$script =~ /^(CREATE FUNCTION \@extschema\@\.$name\(.*?\nCOMMENT ON FUNCTION \@extschema\@\.$name\(.*?;\n)/ms or die "no $name";
	return $1;
}
sub replaced { my $text = declaration(@_); $text =~ s/^CREATE/CREATE OR REPLACE/; return $text; }

# The present one knows how to come from layout 0.
my $built = slurp_file(($ENV{TESTDIR} || '.') . "/eventsourcing--$current.sql");
my $new = $built;
change(\$new, "    RAISE EXCEPTION 'event store \"%\" has layout %, which", q{    IF layout = 0 THEN
        EXECUTE format('ALTER TABLE %I.aggregates ADD COLUMN snapshots_kept int NOT NULL DEFAULT 2', name);
        EXECUTE format('CREATE INDEX deliveries_retry_idx ON %I.deliveries (subscription, retry_at) WHERE retry_at IS NOT NULL', name);
        RETURN;
    END IF;
    RAISE EXCEPTION 'event store "%" has layout %, which});

my $v9 = $new;
change(\$v9, declaration(\$new, 'es_diff'), '');
change(\$v9, "IF level NOT IN ('reader', 'writer', 'consumer') THEN", "IF level NOT IN ('reader', 'consumer') THEN");
$v9 .= q{CREATE FUNCTION @extschema@.es_old() RETURNS int LANGUAGE sql AS 'SELECT 1';};

my $v8 = $v9;
change(\$v8, ",\n            snapshots_kept int NOT NULL DEFAULT 2", '');
$v8 =~ s/ *CREATE INDEX deliveries_retry_idx ON .*?;\n//s or die 'no deliveries_retry_idx';
change(\$v8, 'store (layout) VALUES (1)', 'store (layout) VALUES (0)');
change(\$v8, 'newest CONSTANT int := 1', 'newest CONSTANT int := 0');
change(\$v8, declaration(\$new, 'es_upgrade_layout'), '');

# the library is where it was, also if files are looked for in this folder
my $control = slurp_file('eventsourcing.control');
change(\$control, "'\$libdir/eventsourcing'", "'eventsourcing'");
append_to_file("$scripts/eventsourcing.control", $control);
write_script($current, $new);
write_script('0.9', $v9);
write_script('0.8', $v8);
write_script('0.8--0.9', replaced(\$new, 'es_create_store_tables')
	  . declaration(\$new, 'es_upgrade_layout') . replaced(\$new, 'es_upgrade_store'));
# without the function that is new, for now
my $forgetful = replaced(\$new, 'es_grant') . "DROP FUNCTION \@extschema\@.es_old();\n";
write_script("0.9--$current", $forgetful);

sub fresh
{
	my ($db, $version) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
	$node->safe_psql($db, "CREATE EXTENSION eventsourcing VERSION '$version'; SELECT es_create_store()");
}

sub error
{
	my ($db, $sql) = @_;
	my (undef, undef, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\n$sql");
	return $stderr;
}

fresh('fresh', $current);
my $wanted = Catalog::describe($node, 'fresh');
cmp_ok(length $wanted, '>', 100000, 'there is much to compare');
sub differences { return Catalog::compare($wanted, Catalog::describe($node, $_[0])); }

# The comparison finds what an update script forgot.
fresh('forgetful', '0.9');
$node->safe_psql('forgetful', q{ALTER EXTENSION eventsourcing UPDATE; SELECT es_upgrade_store()});
like(differences('forgetful'), qr/^- member\|function public.es_diff/m, 'a function that an update forgot is seen');
write_script("0.9--$current", declaration(\$new, 'es_diff'));

# From 0.9, where the layout is the same: under load.
fresh('postgres', '0.9');
isnt(differences('postgres'), '', 'an old version is another one');
$node->safe_psql('postgres', q{
	CREATE TABLE handled (position bigint, stream text);
	CREATE TABLE counts (stream text PRIMARY KEY, n bigint);
	CREATE TABLE totals (stream text PRIMARY KEY, n bigint);
	SELECT es_create_handler('h', 'INSERT INTO handled SELECT position, stream FROM new_events');
	SELECT es_create_projection('c', 'INSERT INTO counts SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = counts.n + 1', '{counts}');
	SELECT es_create_projection('t', 'INSERT INTO totals SELECT stream, 1 FROM new_events ON CONFLICT (stream) DO UPDATE SET n = totals.n + 1', '{totals}', mode => 'async');
	SELECT es_create_aggregate('A', rules => '{"X": {"$inc": {"n": 1}}}', snapshot_every => 3);
	SELECT es_create_subscription('s', after => 0);
});
my $session = Session->new($node);
is($session->query(q{SELECT es_append('A-1', 'X') FROM generate_series(1, 5)}), "1\n2\n3\n4\n5", 'a session appends');
is($session->query(q{SELECT * FROM es_load('A-1')}), '5|{"n": 5}', 'and loads');
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventsourcing worker'};
ok($node->poll_query_until('postgres', 'SELECT (SELECT count(*) FROM handled) = 5 AND (SELECT sum(n) FROM totals) = 5'), 'the worker is at work');
my $pid = $node->safe_psql('postgres', $worker);

my $update = Session->new($node);
$update->query('BEGIN; ALTER EXTENSION eventsourcing UPDATE');
is($session->query(q{SELECT es_append('A-2', 'X')}), 1, 'appends go on while the other version is installed');
$update->query('SELECT es_upgrade_store()');
$update->query('COMMIT');
$update->quit;
is($session->query(q{SELECT es_append('A-1', 'X', expected_version => 5)}), 6, 'the session goes on');
is($session->query(q{SELECT * FROM es_load('A-1')}), '6|{"n": 6}', 'loads as well');
is($session->query(q{SELECT path FROM es_diff('{"a": 1}', '{"a": 2}')}), 'a', 'and has what is new');
ok($node->poll_query_until('postgres', 'SELECT (SELECT count(*) FROM handled) = 7 AND (SELECT sum(n) FROM totals) = 7'), 'so does the worker');
ok($node->poll_query_until('postgres', "SELECT EXISTS ($worker AND pid <> $pid)"), 'which has started anew');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT position) FROM handled'), 7, 'nothing was handled twice');
is($node->safe_psql('postgres', 'SELECT sum(n) FROM counts'), 7, 'nothing was missing inline');
is($node->safe_psql('postgres', q{SELECT count(*) FROM es_fetch('s', 'c')}), 7, 'the subscription goes on');
is($node->safe_psql('postgres', q{SELECT * FROM es_verify() WHERE problem <> 'a setting breaks a promise'}), '', 'es_verify() finds nothing');
$node->safe_psql('postgres', q{SELECT es_drop_projection('c'); SELECT es_drop_projection('t')});
is(differences('postgres'), '', "0.9 updated is $current");
is($node->safe_psql('postgres', 'SELECT es_upgrade_store()'), '', 'a store is upgraded twice');
is(differences('postgres'), '', 'to no effect');

# From 0.8, with tables of another layout, and the update by way of 0.9.
fresh('layout', '0.8');
$node->safe_psql('layout', q{SET session_replication_role = replica;
	ALTER TABLE es.events DISABLE TRIGGER es_guard_insert;
	INSERT INTO es.events SELECT nextval('es.events_position_seq'), n, now(), 'A-1', 'X', '{}' FROM generate_series(1, 10) n;
	ALTER TABLE es.events ENABLE TRIGGER es_guard_insert});
like(error('layout', q{SELECT es_append('A-1', 'X')}), qr/ 55000: .*layout 0.*es_upgrade_store\('es'\)/s, 'an old layout is refused');
is($node->safe_psql('layout', 'ALTER EXTENSION eventsourcing UPDATE'), '', 'the extension is updated');
like(error('layout', q{SELECT es_append('A-1', 'X')}), qr/ 55000: .*es_upgrade_store\('es'\)/s, 'the store is not yet');
$node->safe_psql('layout', 'SELECT es_upgrade_store()');
is($node->safe_psql('layout', q{SELECT es_append('A-1', 'X', expected_version => 10)}), 11, 'then it is at work');
is(differences('layout'), '', "0.8 updated is $current");

# A newer layout tells a session that is at work, and an older version leaves it alone.
$node->safe_psql('postgres', 'UPDATE es.store SET layout = 2');
like(($session->query(q{SELECT es_append('A-1', 'X')}))[1], qr/layout 2/, 'a session sees a newer layout');
like(error('postgres', 'SELECT es_upgrade_store()'), qr/ 55000: .*layout 2/, 'which nobody takes back');
$session->quit;

# What was released, and the present one as if it had been and nothing had changed
# since: compared with the present one as it is, without that step from layout 0.
unlink "$scripts/eventsourcing--$current.sql" or die $!;
write_script($current, $built);
fresh('as_built', $current);
$wanted = Catalog::describe($node, 'as_built');
write_script('0.9.9', $built);
write_script("0.9.9--$current", "-- nothing\n");
copy($_, $scripts) or die "$_: $!" foreach glob('src/updates/*.sql');
foreach my $version ('0.9.9', map { /--(.*)\.sql$/ } sort glob('test/releases/eventsourcing--*.sql'))
{
	next if $version eq $current;
	copy("test/releases/eventsourcing--$version.sql", $scripts) or die $! if $version ne '0.9.9';
	(my $db = "from_$version") =~ tr/./_/;
	fresh($db, $version);
	$node->safe_psql($db, 'ALTER EXTENSION eventsourcing UPDATE; SELECT es_upgrade_store()');
	is(differences($db), '', "$version updated is $current");
}

$node->stop;
done_testing();
