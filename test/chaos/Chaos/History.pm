# Reads what the clients recorded.

package Chaos::History;

use strict;
use warnings;

# s: nobody else gets for so long what a consumer has fetched
use constant LEASE => 0.3;

sub new
{
	my ($class) = @_;

	return bless { ops => {}, reads => {}, fetches => [], acks => [], nacks => {}, gone => {}, swept => {}, clocks => [], looks => [], refused => [], met => {}, bad => [] }, $class;
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
		$op->{outcome} = 'ok' if $outcome eq 'later';
		$op->{conflict} = $time if $outcome eq 'fail' && "@versions" eq 'ZE001';
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
	elsif ($what eq 'gone' || $what eq 'swept')
	{
		$self->{$what}{ $fields[0] } = 1;
	}
	elsif ($what eq 'nack')
	{
		my ($consumer, $time, $stream) = @fields;
		push @{ $self->{nacks}{$stream} }, $time;
	}
	elsif ($what eq 'clock')
	{
		push @{ $self->{clocks} }, \@fields;
	}
	elsif ($what eq 'look')
	{
		my ($who, $t0, $t1, $stream, $to, $version, @state) = @fields;
		push @{ $self->{looks} }, { who => $who, t0 => $t0, t1 => $t1, stream => $stream, to => $to // '', version => $version, state => \@state };
	}
	elsif ($what eq 'no')
	{
		my ($who, $t0, $t1, $stream, $amount) = @fields;
		push @{ $self->{refused} }, { who => $who, t0 => $t0, t1 => $t1, stream => $stream, amount => $amount };
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
