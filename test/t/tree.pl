# What the tree says of itself is so: the map of modules in docs/design.md, the
# archive's META.json, what CHANGELOG.md calls released, and rules that every file
# of C keeps.
#
# Would fail: a module that the map lacks, or that is gone; a purpose that was
# changed in one place; a version test outside of compat.h; an unfinished spot; a
# version that was released and isn't kept, or was edited since.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $design = slurp_file('docs/design.md');
my %source;

foreach my $file (glob('src/*.c src/*.h src/*.sql'))
{
	my ($module) = $file =~ m{([^/]+)\.\w+$};
	my $text = slurp_file($file);

	# .c comes first in the list, and what stands there counts
	$source{$module} //= purpose($text);
	unlike($text, qr/\b(TODO|FIXME|XXX)\b/, "$file is finished");
	unlike($text, qr/^#\s*(el)?if.*PG_VERSION_NUM/m, "$file leaves versions of PostgreSQL to compat.h")
	  if $file ne 'src/compat.h';
}

my %map = $design =~ /^\| `(\w+)` \| ([A-Z].*?\S*) \|$/mg;
is_deeply(\%map, \%source, 'docs/design.md has every module, with what its first comment says');

my $meta = decode_json(slurp_file('META.json'));
my ($control) = slurp_file('eventsourcing.control') =~ /^default_version\s*=\s*'(.*?)'/m;

foreach my $key (qw(name version abstract maintainer license provides meta-spec))
{
	ok($meta->{$key}, "META.json has what PGXN requires: $key");
}
like($meta->{version}, qr/^\d+\.\d+\.\d+$/, 'its version is a semantic one');
is($meta->{'meta-spec'}{version}, '1.0.0', 'its specification');
is_deeply([ keys %{ $meta->{provides} } ], ['eventsourcing'], 'it provides the extension');
foreach my $provided (values %{ $meta->{provides} })
{
	is($provided->{version}, $control, 'its version is that of the control file');
	ok(-e $provided->{$_}, "its $_ is there") foreach qw(file docfile);
}
my $changes = slurp_file('CHANGELOG.md');
like($changes, qr/^## \Q$control\E /m, 'CHANGELOG.md has the version');

# Every version that was released has its script where test/t/upgrade.pl starts from.
foreach my $version ($changes =~ /^## (\S+) (?!\(unreleased\))/mg)
{
	my $released = "test/releases/eventsourcing--$version.sql";
	ok(-e $released, "$released is there") or next;
	ok(slurp_file($released) eq slurp_file(($ENV{TESTDIR} || '.') . "/eventsourcing--$version.sql"), "$version is as it was released")
	  if $version eq $control;
}

done_testing();

# The first paragraph of the comment at the head of a file.
sub purpose
{
	my ($text) = @_;
	my ($purpose) = $text =~ m{\A/\*-*\n \*\n \* \S+\n \*\t+(.*?)\n \*(?:\n|-)}s;

	($purpose) = $text =~ m{\A/\* (.*?) \*/} if !defined $purpose;
	return defined $purpose ? $purpose =~ s/\n \*\s+/ /gr =~ s/ +/ /gr : undef;
}
