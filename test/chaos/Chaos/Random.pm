# A generator of our own, so that a seed means the same everywhere.

package Chaos::Random;

use strict;
use warnings;

sub new
{
	my ($class, $seed) = @_;
	my $self = bless { state => $seed % 2**31 }, $class;

	$self->below(2) for 1 .. 5;
	return $self;
}

# A number from 0 to n - 1.
sub below
{
	my ($self, $n) = @_;

	$self->{state} = ($self->{state} * 1103515245 + 12345) % 2**31;
	return ($self->{state} >> 12) % $n;
}

# One in n.
sub one_in { return $_[0]->below($_[1]) == 0; }

sub pick { my ($self, @list) = @_; return $list[ $self->below(scalar @list) ]; }

1;
