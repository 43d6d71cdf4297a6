# Appends to a store that is dropped and made anew all the time.  What a session
# remembers of the last one must not count in the next: an append that expects
# what the client was told would leave a gap there, which is looked for.

package Chaos::Nomad;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Time::HiRes qw(sleep);

# 3F000, 42P01, 42704: there is no such store now; 42710, 42P06: there is one;
# 23505: the catalogs tell of two who make it at once
my $CHANGING = '3F000 42P01 42704 42710 42P06 42P07 23505 55000 55006 ZE001';

sub step
{
	my ($self) = @_;
	my $random = $self->{random};

	return if $self->try(q{SET eventsourcing.store = 'side'})->{state} ne '00000';
	if ($self->{keeper})
	{
		my $begun = $self->try('BEGIN')->{state} eq '00000';
		$self->try(q{SELECT es_drop_store('side', true)}, allowed => $CHANGING) if $begun;
		$self->try('ROLLBACK') if $begun && $random->one_in(4);
		$self->try('COMMIT') if $begun;
		$self->try(q{SELECT es_create_store('side')}, allowed => $CHANGING);
		sleep 0.001 * $random->below(600);
		return;
	}

	sleep 0.002 * $random->below(5);
	my $stream = 'S-' . $random->below(5);
	my $told = $self->{told}{$stream} // 0;
	my $expected = $random->pick('NULL', $told, $told, $told, 0);
	my $in_block = $random->one_in(3) && $self->try('BEGIN')->{state} eq '00000';
	my $result = $self->try("SELECT es_append('$stream', 'E', expected_version => $expected)", allowed => $CHANGING);
	$self->{told}{$stream} = $result->{state} eq '00000' ? $result->{rows}[0] : 0;
	$self->try($random->pick('COMMIT', 'ROLLBACK')) if $in_block;
	return;
}

1;
