# Schedules events, and cancels some of them.  What it records is what an
# appender does, except that the event comes later.

package Chaos::Timer;

use strict;
use warnings;
use parent -norequire, 'Chaos::Appender';

use Time::HiRes qw(sleep);

sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $delay = $random->below(1500);

	$self->{n}++;
	my $op = { id => "$self->{name}.$self->{n}", parts => [ { stream => 'Timer-' . $random->below(5), count => 1, expected => '' } ] };
	$self->invoke($op);
	my $result = $self->try("SELECT es_schedule(clock_timestamp() + '$delay milliseconds', '$op->{parts}[0]{stream}', 'Fired', "
		  . "'{\"op\": \"$op->{id}\", \"p\": 0, \"k\": 1}', '$op->{id}')", $random->one_in(50) ? (sabotage => 0.0005) : ());
	my $outcome = Chaos::Appender::outcome($result);

	# Not there to be cancelled: it was appended, or never scheduled.
	if ($outcome ne 'fail' && $random->one_in(3))
	{
		sleep 0.001 * $random->below(1500);
		my $cancelled = $self->try("SELECT es_cancel('$op->{id}')", $random->one_in(20) ? (sabotage => 0.0005) : ());
		$outcome = 'unknown' if Chaos::Appender::outcome($cancelled) eq 'unknown';
		$outcome = 'fail' if $cancelled->{state} eq '00000' && $cancelled->{rows}[0] eq 't';
	}
	$self->conclude($op, $outcome eq 'ok' ? 'later' : $outcome);
	sleep 0.001 * $random->below(100);
	return;
}

1;
