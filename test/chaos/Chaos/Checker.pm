# Compares a history with the log.  Knows nothing of servers, so that it can be
# tested with histories that are made up.
#
# The log is a list of events in the order of their positions, each [position,
# stream, version, type, op, p, k]; the last three are empty for an event that no
# client recorded.

package Chaos::Checker;

use strict;
use warnings;

# Returns what is wrong, a list of sentences.
sub check
{
	my ($history, $log) = @_;

	return (
		(map { "a client met: $_" } @{ $history->{bad} }),
		check_log($log),
		check_operations($history, $log),
		(map { check_reader($_, $history->{reads}{$_}, $log) } sort keys %{ $history->{reads} }),
		check_subscription($history, $log));
}

# Versions are 1 to n, positions unique and growing with them.
sub check_log
{
	my ($log) = @_;
	my (@problems, %version);
	my $last = 0;

	for (@$log)
	{
		my ($position, $stream, $version, $type) = @$_;
		push @problems, "position $position comes after $last" if $position <= $last;
		$last = $position;
		my $before = $version{$stream} // 0;
		push @problems, "$stream/$version at position $position comes after version $before" if $version != $before + 1;
		$version{$stream} = $version;
		push @problems, "$stream/$version was rolled back, and is there" if $type eq 'Never';
	}
	return @problems;
}

# What was acknowledged is there, at the version that was told; what failed is
# not; what nobody knows is there whole or not at all; and what was acknowledged
# before another began stands before it.
sub check_operations
{
	my ($history, $log) = @_;
	my $ops = $history->{ops};
	my (@problems, %stored, %first);
	my $latest = [ 0, '' ];

	for (@$log)
	{
		my ($position, $stream, $version, $type, $id, $p, $k) = @$_;
		next if $id eq '';
		my $where = "$id ($stream/$version at $position)";
		my $op = $ops->{$id};
		if (!$op)
		{
			push @problems, "$where was never asked for";
			next;
		}
		push @problems, "$where failed, and is there" if $op->{outcome} eq 'fail';
		my $part = $op->{parts}[$p];
		push @problems, "$where should be in $part->{stream}" if $part->{stream} ne $stream;

		# Events of one append follow each other.
		my $first = $version - $k + 1;
		$first{"$id $p"} //= $first;
		push @problems, "$where is not where the append began, at $first{\"$id $p\"}" if $first{"$id $p"} != $first;
		push @problems, "$where is there twice" if $stored{$id}{$p}{$k}++;
		push @problems, "$where was told version $part->{version}"
		  if defined $part->{version} && $part->{version} != $first + $part->{count} - 1;
		push @problems, "$where expected version $part->{expected}"
		  if $part->{expected} ne '' && $part->{expected} >= 0 && $part->{expected} != $first - 1;
		push @problems, "$where expected that there are events" if $part->{expected} eq '-1' && $first == 1;

		push @problems, "$where was acknowledged before $latest->[1] began, which stands before it"
		  if defined $op->{t1} && $op->{t1} < $latest->[0];
		$latest = [ $op->{t0}, $where ] if $op->{t0} > $latest->[0];
	}

	for my $id (sort keys %$ops)
	{
		my $op = $ops->{$id};
		my @there = map { scalar keys %{ $stored{$id}{$_} // {} } } 0 .. $#{ $op->{parts} };
		my @asked = map { $_->{count} } @{ $op->{parts} };
		my $whole = "@there" eq "@asked";
		push @problems, "$id was acknowledged, and of (@asked) events (@there) are there" if $op->{outcome} eq 'ok' && !$whole;
		push @problems, "$id is there in part: (@there) of (@asked)"
		  if $op->{outcome} eq 'unknown' && !$whole && grep { $_ } @there;
	}
	return @problems;
}

# A reader gets every event (of its category, if its name has one behind a
# colon) once, in order, and no other.  It has to have read to the end.
sub check_reader
{
	my ($reader, $reads, $log) = @_;
	my ($category) = $reader =~ /:(.+)/;
	my @expected = grep { !defined $category || $_->[1] =~ /^\Q$category\E(?:-|$)/ } @$log;
	my $n = 0;

	for my $read (@$reads)
	{
		my $want = $expected[$n] ? "@{ $expected[$n] }[0 .. 2]" : 'nothing';
		return "reader $reader got @$read as number $n, where the log has $want" if "@$read" ne $want;
		$n++;
	}
	return $n == @expected ? () : "reader $reader got $n of " . scalar @expected . " events";
}

# Consumers get every event at least once; none after it was acknowledged; and
# none before the one before it in its stream was acknowledged, except along
# with it.
sub check_subscription
{
	my ($history, $log) = @_;
	return () unless @{ $history->{fetches} };
	my (@problems, %delivered, %ack_sent, %acked);

	for my $ack (@{ $history->{acks} })
	{
		for (@{ $ack->{positions} })
		{
			$ack_sent{$_} = $ack->{t0} if $ack->{outcome} ne 'fail' && $ack->{t0} < ($ack_sent{$_} // 9e99);
			$acked{$_} = $ack->{t1} if $ack->{outcome} eq 'ok' && $ack->{t1} < ($acked{$_} // 9e99);
		}
	}

	my (%position, %event);
	for (@$log)
	{
		$position{"$_->[1]/$_->[2]"} = $_->[0];
		$event{ $_->[0] } = "$_->[1]/$_->[2]";
	}
	for my $fetch (@{ $history->{fetches} })
	{
		my %here;
		for (@{ $fetch->{events} })
		{
			my ($position, $stream, $version) = @$_;
			my $what = "$stream/$version in fetch $fetch->{fetch}";
			push @problems, "$what is not in the log" if ($event{$position} // '') ne "$stream/$version";
			push @problems, "$what had been acknowledged before" if $acked{$position} && $acked{$position} < $fetch->{t0};
			my $previous = $position{ "$stream/" . ($version - 1) };
			push @problems, "$what was delivered while the one before it was not done"
			  if $version > 1 && !($here{ $previous // 0 } || ($previous && ($ack_sent{$previous} // 9e99) < $fetch->{t1}));
			$here{$position} = $delivered{$position} = 1;
		}
	}
	push @problems, map { "$_->[1]/$_->[2] at $_->[0] was never delivered" } grep { !$delivered{ $_->[0] } } @$log;
	return @problems;
}

1;
