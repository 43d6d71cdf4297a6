# Fetches from a subscription with others, acknowledges, gives back, forgets.
#
#   get  consumer fetch time-before time-after position:stream:version ...
#   ack  consumer time-before time-after ok|fail|unknown position ...
#   nack consumer time-before stream

package Chaos::Consumer;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Chaos::History;
use Time::HiRes qw(sleep);

# drain: acknowledge everything
sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $count = 1 + $random->below(100);
	my $fetch = "$self->{name}." . ++$self->{n};
	my $before = Chaos::Worker::now();
	my $lease = $self->{drain} ? '60 seconds' : Chaos::History::LEASE . ' seconds';
	my $result = $self->try("SELECT position, stream, version FROM es_fetch('outside', '$self->{name}', $count, '$lease')",
		$self->{drain} || !$random->one_in(300) ? () : (sabotage => 0.001));
	my $after = Chaos::Worker::now();

	return 0 if $result->{state} ne '00000';
	my @rows = map { [ split /\|/ ] } @{ $result->{rows} };
	if (!@rows)
	{
		sleep 0.005;
		return 0;
	}
	$self->record('get', $self->{name}, $fetch, $before, $after, map { join ':', @$_ } @rows);
	sleep 0.001 * $random->below(400) if !$self->{drain} && $random->one_in(20);
	return scalar @rows if !$self->{drain} && $random->one_in(50);

	# One fails: what is behind it in its stream goes back, too.
	if (!$self->{drain} && $random->one_in(8))
	{
		my $bad = $rows[ $random->below(scalar @rows) ];
		$self->record('nack', $self->{name}, Chaos::Worker::now(), $bad->[1]);
		$self->try("SELECT es_nack('outside', '$self->{name}', $bad->[0], 'not today')", allowed => 'ZE013');
		@rows = grep { $_->[1] ne $bad->[1] || $_->[0] < $bad->[0] } @rows;
		return 1 unless @rows;
	}

	my $positions = join ',', map { $_->[0] } @rows;
	$before = Chaos::Worker::now();
	$result = $self->try("SELECT es_ack('outside', '$self->{name}', '{$positions}')", allowed => 'ZE013',
		$self->{drain} || !$random->one_in(300) ? () : (sabotage => 0.001));
	my $outcome = $result->{state} eq '00000' ? 'ok' : $result->{state} =~ /^(?:lost|hang)$/ ? 'unknown' : 'fail';
	$self->record('ack', $self->{name}, $before, Chaos::Worker::now(), $outcome, map { $_->[0] } @rows);
	return scalar @rows;
}

1;
