# A server process that dies, and all the others with it.

package Crash;

use strict;
use warnings;

use Exporter 'import';

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
	$node->poll_query_until('postgres', "SELECT count(*) = 1 AND max(pid) <> $before FROM ($checkpointer) c")
	  or die 'the server does not recover';
	return;
}

1;
