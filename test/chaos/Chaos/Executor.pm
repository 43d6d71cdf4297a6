# Sends commands to a decider.  What it records is what an appender does;
# conflicts are none of a command's errors.
#
#   no  executor time-before time-after stream amount     there was less than that

package Chaos::Executor;

use strict;
use warnings;
use parent -norequire, 'Chaos::Appender';

use constant ACCOUNTS => 8;

sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $stream = 'Acct-' . (1 + $random->below(ACCOUNTS));
	my $command = $random->pick(qw(deposit deposit withdraw withdraw withdraw));
	my $amount = 1 + $random->below(50);

	$self->{n}++;
	my $op = { id => "$self->{name}.$self->{n}", parts => [ { stream => $stream, count => 1, expected => '' } ] };
	my $before = Chaos::Worker::now();
	$self->invoke($op);
	my $result = $self->try("SELECT es_execute('$stream', '$command', '{\"op\": \"$op->{id}\", \"p\": 0, \"k\": 1, \"amount\": $amount}')",
		allowed => 'P0B01', $random->one_in(300) ? (sabotage => 0.001) : ());
	$self->conclude($op, Chaos::Appender::outcome($result), @{ $result->{rows} });
	$self->record('no', $self->{name}, $before, Chaos::Worker::now(), $stream, $amount) if $result->{state} eq 'P0B01';
	Time::HiRes::sleep(0.002 * $random->below(5));
	return;
}

1;
