# Reads what the clients recorded.

package Chaos::History;

use strict;
use warnings;

sub new
{
	my ($class) = @_;

	return bless { ops => {}, reads => {}, fetches => [], acks => [], met => {}, bad => [] }, $class;
}

# A line that a client which was killed did not end is none.
sub load
{
	my ($self, @paths) = @_;

	for my $path (@paths)
	{
		open my $file, '<', $path or die "$path: $!";
		while (my $line = <$file>)
		{
			chomp $line or next;
			$self->add(split /\t/, $line);
		}
	}
	return $self;
}

sub add
{
	my ($self, $what, @fields) = @_;

	if ($what eq 'inv')
	{
		my ($id, $time, @parts) = @fields;
		my @split = map { [ split /:/, $_, -1 ] } @parts;
		$self->{ops}{$id} = { t0 => $time, outcome => 'unknown',
			parts => [ map { { stream => $_->[0], count => $_->[1], expected => $_->[2] } } @split ] };
	}
	elsif ($what eq 'res')
	{
		my ($id, $time, $outcome, @versions) = @fields;
		my $op = $self->{ops}{$id};
		$op->{outcome} = $outcome;
		if ($outcome eq 'ok')
		{
			$op->{t1} = $time;
			$op->{parts}[$_]{version} = $versions[$_] for 0 .. $#versions;
		}
	}
	elsif ($what eq 'pos')
	{
		my ($reader, @event) = @fields;
		push @{ $self->{reads}{$reader} }, \@event;
	}
	elsif ($what eq 'get')
	{
		my ($consumer, $fetch, $t0, $t1, @events) = @fields;
		push @{ $self->{fetches} },
		  { consumer => $consumer, fetch => $fetch, t0 => $t0, t1 => $t1, events => [ map { [ split /:/ ] } @events ] };
	}
	elsif ($what eq 'ack')
	{
		my ($consumer, $t0, $t1, $outcome, @positions) = @fields;
		push @{ $self->{acks} }, { t0 => $t0, t1 => $t1, outcome => $outcome, positions => \@positions };
	}
	elsif ($what eq 'met')
	{
		/(.+):(.+)/ and $self->{met}{$1} += $2 for @fields;
	}
	elsif ($what eq 'bad')
	{
		push @{ $self->{bad} }, "@fields";
	}
	else
	{
		die "not a line of history: $what @fields\n";
	}
	return;
}

1;
