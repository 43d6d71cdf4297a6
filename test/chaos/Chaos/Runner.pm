# Runs handlers and async projections, as a cron job would.

package Chaos::Runner;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Time::HiRes qw(sleep);

sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $name = $random->pick('', '', "'counts'", "'trail'", "'effects'", "'echo'");

	$self->try("CALL es_run($name)", allowed => '22012 55000', $random->one_in(100) ? (sabotage => 0.01) : ());
	sleep 0.001 * $random->below(50);
	return;
}

1;
