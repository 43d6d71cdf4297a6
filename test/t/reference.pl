# docs/reference.md is what the catalog and src/errors.h say: every function,
# type, relation, setting and SQLSTATE, as it is now.
#
# Would fail: a function, relation, setting or error that is missing there, or
# that was changed since; script/reference writes it anew.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eventsourcing; SELECT es_create_store()');

my ($reference, $error);
{
	local %ENV = $node->_get_env(PGDATABASE => 'postgres');
	IPC::Run::run([ $^X, 'script/lib/reference.pl' ], '>', \$reference, '2>', \$error);
}
is($error, '', 'every function has its place in the reference');

my $there = slurp_file('docs/reference.md');
ok($there eq $reference, 'docs/reference.md is up to date')
  or diag(difference($there, $reference), 'Run script/reference, and read what it wrote.');

# Every SQLSTATE of ours that is raised anywhere is one that errors.h explains.
my %used;
for my $file (glob 'src/*.sql src/*.c')
{
	my $text = slurp_file($file);

	$used{$_} = $file for $text =~ /'(ZE\d\d\d)'/g, map { lc } $text =~ /ERRCODE_(ES_\w+)/g;
}
cmp_ok(scalar keys %used, '>', 0, 'there are SQLSTATEs in the sources');
is_deeply([ grep { $reference !~ /`$_`/ } sort keys %used ], [], 'each of them is in the reference');

# The lines that are in one of the two only.
sub difference
{
	my %count;
	my ($was, $is) = map { [ split /\n/ ] } @_;

	$count{$_}++ for @$is;
	$count{$_}-- for @$was;
	return map { "$_\n" } (map { "- $_" } grep { $count{$_} < 0 } @$was), (map { "+ $_" } grep { $count{$_} > 0 } @$is);
}

$node->stop;
done_testing();
