# Every block of SQL in README.md and docs/*.md runs, file by file, in a fresh
# database, and says what the page says that it says.
#
#   ```sql               has to succeed
#   ```sql fails ZE001   has to end with that SQLSTATE
#   ```text              right behind it: is in its output as psql shows
#                        it, or the message of the error
#
# Would fail: an example that was not kept true; a link to a file or a heading
# that is gone.
use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('docs');
$node->init;
# a page sets up replication
$node->append_conf('postgresql.conf', "wal_level = logical\ntimezone = 'UTC'");
$node->start;

foreach my $file ('README.md', sort glob('docs/*.md'), sort glob('examples/*.md examples/*/*.md monitoring/*.md'))
{
	my $text = PostgreSQL::Test::Utils::slurp_file($file);

	check_links($file, $text);
  SKIP:
	{
		skip "$file needs pgTAP", 1
		  if $text =~ /^CREATE EXTENSION pgtap/m && !$node->safe_psql('postgres',
			"SELECT name FROM pg_available_extensions WHERE name = 'pgtap'");
		run_blocks($file, $text);
	}
}

$node->stop;
done_testing();

sub check_links
{
	my ($file, $text) = @_;
	my @dead = grep { !-e dirname($file) . "/$_" }
	  map { s/#.*//r } grep { !/^(https?|mailto):|^#/ } $text =~ /\]\(([^)\s]+)\)/g;

	is("@dead", '', "$file links to what is there");

	my @lost;
	foreach my $link ($text =~ /\]\(([^)\s:]*#[^)\s]+)\)/g)
	{
		my ($page, $anchor) = split /#/, $link;
		my $target = $page eq '' ? $file : dirname($file) . "/$page";
		push @lost, $link if -e $target && !grep { $_ eq $anchor } anchors($target);
	}
	is("@lost", '', "$file links to headings that are there");
}

# The anchors that GitHub gives to a page's headings.
sub anchors
{
	my ($file) = @_;
	my $text = PostgreSQL::Test::Utils::slurp_file($file) =~ s/^```.*?^```$//gmsr;

	return map { lc =~ s/[^\w\- ]//gr =~ tr/ /-/r } $text =~ /^#+ +(.*?) *$/mg;
}

sub run_blocks
{
	my ($file, $text) = @_;
	my ($script, @blocks) = ("SET client_min_messages = error;\n\\pset format aligned\n\\pset tuples_only off\n");

	while ($text =~ /^```sql(?: fails (\w{5}))?\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?/gms)
	{
		my ($sqlstate, $block, $output) = ($1, $2, $3);
		my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);

		$script .= "\\echo ::begin $line\n";
		$script .= defined $sqlstate
		  ? "\\set ON_ERROR_STOP off\n$block\n\\echo ::end $line :LAST_ERROR_SQLSTATE\n\\set ON_ERROR_STOP on\n"
		  : "$block\n\\echo ::end $line ok\n";
		push @blocks, { line => $line, wanted => $sqlstate // 'ok', output => $output };
	}
	return if !@blocks;

	$node->safe_psql('postgres', 'CREATE DATABASE docs');
	my ($stdout, $stderr);
	$node->psql('docs', $script, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	foreach my $block (@blocks)
	{
		my ($line, $output) = ($block->{line}, $block->{output});
		my ($got, $result) = $stdout =~ /^::begin $line$(.*?)^::end $line (\w+)$/ms;

		is($result, $block->{wanted}, "$file, block at line $line") or diag($stderr);
		last if !defined $result;
		unlike($got, qr/^ *not ok/m, "$file, block at line $line: its tests") if $got =~ /^ *(not )?ok /m;
		next if !defined $output;
		$got = $stderr =~ s/^psql:.*?: (?=ERROR)//gmr if $result ne 'ok';
		ok(index(plain($got), plain($output)) >= 0, "$file, block at line $line: its output")
		  or diag("wanted:\n$output\ngot:\n$got");
	}
	$node->safe_psql('postgres', 'DROP DATABASE docs');
	my $roles = $node->safe_psql('postgres',
		"SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper");
	$node->safe_psql('postgres', "DROP ROLE $roles") if $roles ne '';
}

# Without the spaces at the ends of lines, and without empty lines.
sub plain
{
	my ($output) = @_;

	return join "\n", grep { $_ ne '' } map { s/\s+$//r } split /\n/, $output;
}
