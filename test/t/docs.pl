# Every block of SQL in README.md and docs/*.md runs, file by file, in a fresh
# database.
#
#   ```sql               has to succeed
#   ```sql fails ZE001   has to end with that SQLSTATE
#
# Would fail: an example that was not kept true.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('docs');
$node->init;
$node->start;

foreach my $file ('README.md', sort glob 'docs/*.md')
{
	my $text = PostgreSQL::Test::Utils::slurp_file($file);
	my ($script, @wanted) = ('');

	while ($text =~ /^```sql(?: fails (\w{5}))?\n(.*?)^```$/gms)
	{
		my ($sqlstate, $block) = ($1, $2);
		my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);

		$script .= defined $sqlstate
		  ? "\\set ON_ERROR_STOP off\n$block\n\\echo ::$line :LAST_ERROR_SQLSTATE\n\\set ON_ERROR_STOP on\n"
		  : "$block\n\\echo ::$line ok\n";
		push @wanted, "::$line " . ($sqlstate // 'ok');
	}
	next if !@wanted;

	$node->safe_psql('postgres', 'CREATE DATABASE docs');
	my ($stdout, $stderr);
	$node->psql('docs', "SET client_min_messages = error;\n$script",
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my %seen = map { $_ => 1 } split /\n/, $stdout;
	foreach my $mark (@wanted)
	{
		my ($line) = $mark =~ /(\d+)/;
		ok($seen{$mark}, "$file, block at line $line") or diag($stderr);
		last if !$seen{$mark};
	}
	$node->safe_psql('postgres', 'DROP DATABASE docs');
	my $roles = $node->safe_psql('postgres',
		"SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper");
	$node->safe_psql('postgres', "DROP ROLE $roles") if $roles ne '';
}

$node->stop;
done_testing();
