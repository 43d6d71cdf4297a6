# Compares a history with the log.  Knows nothing of servers, so that it can be
# tested with histories that are made up.
#
# The log is a list of events in the order of their positions, each [position,
# stream, version, type, op, p, k, amount]; op, p and k are empty for an event
# that no client recorded.

package Chaos::Checker;

use strict;
use warnings;

use Chaos::History;

# Returns what is wrong, a list of sentences.
sub check
{
	my ($history, $log) = @_;

	return (
		(map { "a client met: $_" } @{ $history->{bad} }),
		(map { "$_ was prepared, and is gone" } grep { !$history->{swept}{$_} } sort keys %{ $history->{gone} }),
		check_log($log),
		check_operations($history, $log),
		(map { check_reader($_, $history->{reads}{$_}, $log) } sort keys %{ $history->{reads} }),
		check_subscription($history, $log),
		check_leases($history),
		check_looks($history, $log));
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
		if ($id eq '')
		{
			push @problems, "$stream/$version at $position has lost its data" if $type ne 'Echoed';
			next;
		}
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

# What one consumer has leased nobody gets before the lease ends, unless it was
# given back or the clock was set meanwhile.
sub check_leases
{
	my ($history) = @_;
	my (@problems, %last);

	for my $fetch (sort { $a->{t1} <=> $b->{t1} } @{ $history->{fetches} })
	{
		my ($before, $after) = @$fetch{qw(t0 t1)};
		for (@{ $fetch->{events} })
		{
			my ($position, $stream, $version) = @$_;
			my $other = $last{$position};
			$last{$position} = $fetch;
			next unless $other;

			# Of two that ran at once, either may have been the first.
			my $lease = Chaos::History::LEASE - 0.02;
			next if $after >= $other->{t0} + $lease || $other->{t1} >= $before + $lease;
			next if grep { $_ >= $other->{t0} && $_ <= $after } @{ $history->{nacks}{$stream} // [] };
			next if grep { $_->[0] <= $after && $_->[1] >= $other->{t0} } @{ $history->{clocks} };
			push @problems, "$stream/$version in fetch $fetch->{fetch} was leased by $other->{fetch}";
		}
	}
	return @problems;
}

# Who looks at a stream sees it as it was at one moment between the question and
# the answer: no version later than what had been asked for, none before what had
# been acknowledged.  That holds for who looks by a conflict or a refusal, too.
sub check_looks
{
	my ($history, $log) = @_;
	my $streams = streams($history->{ops}, $log);
	my @problems;

	for my $look (@{ $history->{looks} })
	{
		my $stream = $streams->{ $look->{stream} };
		my @range = range($stream, $look->{t0}, $look->{t1});
		@range = map { $_ > $look->{to} ? $look->{to} : $_ } @range if $look->{to} ne '';
		my $version = $look->{version};
		my $what = "$look->{who} at $look->{t1} saw $look->{stream}/$version";
		if ($version < $range[0] || $version > $range[1])
		{
			push @problems, "$what, which was at $range[0] to $range[1]";
			next;
		}
		next unless @{ $look->{state} };
		my $state = "@{ $look->{state} }";
		my @fold = $look->{stream} =~ /^S-/ ? map { state_of_s($stream, $version, $_) } 1, 10 : $stream->{balance}[$version];
		push @problems, "$what as ($state), which is ($fold[0])" unless grep { $_ eq $state } @fold;
	}
	for my $no (@{ $history->{refused} })
	{
		my $stream = $streams->{ $no->{stream} };
		my ($from, $to) = range($stream, $no->{t0}, $no->{t1});
		push @problems, "$no->{who} at $no->{t1} was refused $no->{amount} of $no->{stream}, which at version $from to $to had more"
		  unless grep { ($stream->{balance}[$_] || 0) < $no->{amount} } $from .. $to;
	}
	for my $id (sort keys %{ $history->{ops} })
	{
		my $op = $history->{ops}{$id};
		next unless $op->{conflict};
		my ($name, $expected) = @{ $op->{parts}[0] }{qw(stream expected)};
		my ($from, $to) = range($streams->{$name}, $op->{t0}, $op->{conflict});
		push @problems, "$id failed, because $name was not at $expected, where it was at $from to $to"
		  if $expected == -1 ? $from > 0 : $from == $to && $to == $expected;
	}
	return @problems;
}

# Of each stream: from when on it can have had each version, and from when on it
# must have had it; and what its events make.
sub streams
{
	my ($ops, $log) = @_;
	my %streams;

	for (@$log)
	{
		my ($position, $name, $version, $type, $id, $p, $k, $amount) = @$_;
		my $stream = $streams{$name} //= { can => [0], must => [0], n => [0], sum => [0], last => [''], balance => [''] };
		my $op = $ops->{$id};
		push @{ $stream->{can} }, $op ? $op->{t0} : 0;
		push @{ $stream->{must} }, $op && defined $op->{t1} ? $op->{t1} : 9e99;
		my $counts = $type eq 'E';
		push @{ $stream->{n} }, $stream->{n}[-1] + $counts;
		push @{ $stream->{sum} }, $stream->{sum}[-1] + ($counts ? $k || 0 : 0);
		push @{ $stream->{last} }, $counts ? $version : $stream->{last}[-1];
		push @{ $stream->{balance} },
		    $type eq 'Deposited' ? ($stream->{balance}[-1] || 0) + $amount
		  : $type eq 'Withdrawn' ? ($stream->{balance}[-1] || 0) - $amount
		  :                        $stream->{balance}[-1];
	}

	# Who has a version has those before it.
	for my $stream (values %streams)
	{
		for my $times (@$stream{qw(can must)})
		{
			for (my $i = $#$times - 1; $i >= 0; $i--)
			{
				$times->[$i] = $times->[ $i + 1 ] if $times->[ $i + 1 ] < $times->[$i];
			}
		}
	}
	return \%streams;
}

# The versions that a stream can have had at a moment between two times.
sub range
{
	my ($stream, $t0, $t1) = @_;

	return (0, 0) unless $stream;
	return (last_before($stream->{must}, $t0), last_before($stream->{can}, $t1));
}

sub last_before
{
	my ($times, $time) = @_;
	my ($low, $high) = (0, $#$times);

	while ($low < $high)
	{
		my $middle = int(($low + $high + 1) / 2);
		if ($times->[$middle] < $time) { $low = $middle; }
		else { $high = $middle - 1; }
	}
	return $low;
}

sub state_of_s
{
	my ($stream, $version, $step) = @_;
	my $n = $stream->{n}[$version];

	return $n ? join ' ', $n * $step, $stream->{sum}[$version], $stream->{last}[$version] : '';
}

1;
