# A server process that dies, and all the others with it.

package Crash;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(kill_process);

# Kills a server process, given by its number or by a query for it, and waits until
# the server has started all of them anew.  A session that gets in is no sign of
# that: the server lets some in until it has noticed.
sub kill_process
{
	my ($node, $victim) = @_;
	my $checkpointer = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
	my ($before, $pid) = split /\|/, $node->safe_psql('postgres', "SELECT ($checkpointer), ($victim)");

	kill('KILL', $pid) or die "there is no process $victim";
	# Not by poll_query_until(), which dies where a psql that does not get in has
	# gone before it is handed the query.
	my $query = "SELECT count(*) = 1 AND max(pid) <> $before FROM ($checkpointer) c";
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $query ], '<', '/dev/null', '>', \my $out, '2>', \my $err);
		return if $out eq "t\n";
		select(undef, undef, undef, 0.1);
	}
	die 'the server does not recover';
}

1;
