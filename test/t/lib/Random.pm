# Random numbers that a seed repeats.

package Random;

use strict;
use warnings;

use Test::More;

# The seed of this run, which it tells; SEED repeats one.
sub seed
{
	my $seed = $ENV{SEED} // time % 100_000;
	note("seed $seed (set SEED to repeat)");
	return $seed;
}

# A generator of our own, so that a seed means the same everywhere: a function of
# n that returns a number from 0 to n - 1.
sub generator
{
	my ($state) = @_;
	return sub { $state = ($state * 1103515245 + 12345) % 2**31; return ($state >> 16) % $_[0]; };
}

1;
