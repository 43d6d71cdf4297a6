# Reads by position and remembers the last one.
#
#   pos  reader position stream version

package Chaos::Reader;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Time::HiRes qw(sleep);

# category: '' for all
sub step
{
	my ($self) = @_;

	sleep 0.005 unless $self->read_on;
	return;
}

# Reads what comes next, and returns how much that was.
sub read_on
{
	my ($self) = @_;
	my $last = ${ $self->{memory} };
	my $category = $self->{category} eq '' ? '' : ", category => '$self->{category}'";
	my $sql = "SELECT position, stream, version FROM es_read_all($last, 200$category)";
	my $result = $self->try($sql);

	return 0 if $result->{state} ne '00000';
	for (@{ $result->{rows} })
	{
		my ($position, $stream, $version) = split /\|/;
		$self->record('pos', $self->{reader}, $position, $stream, $version);
		${ $self->{memory} } = $position;
	}
	return scalar @{ $result->{rows} };
}

1;
