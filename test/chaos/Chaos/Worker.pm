# What all clients have in common: a process with a seed, a connection and a
# history of its own, which works until it is told to stop.

package Chaos::Worker;

use strict;
use warnings;

use Chaos::Random;
use Chaos::Session;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);

# What a server in trouble may say.  Anything else is a finding.
our $TROUBLE = qr/^(?:53...|57P0[1235]|57014|40001|40P01|08...|58030|none|lost|25P02)$/;

# What PostgreSQL itself has no SQLSTATE for when the disk is full.
my $FULL = qr/could not write init file|checkpoint request failed/;

sub now { return clock_gettime(CLOCK_MONOTONIC); }

# name, seed, host, history: a file; the rest is the client's own.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;

	$self->{random} = Chaos::Random->new($args{seed});
	open $self->{file}, '>>', $args{history} or die "$args{history}: $!";
	$self->{session} = Chaos::Session->new(host => $args{host}, options => $args{options});
	return $self;
}

# A line of history, on its way to the disk before anything else is done.
sub record
{
	my ($self, @fields) = @_;

	s/[\t\n]/ /g for @fields;
	syswrite $self->{file}, join("\t", @fields) . "\n";
	return;
}

# Runs a statement; what must not happen is recorded.
sub try
{
	my ($self, $sql, %args) = @_;
	my $result = $self->{session}->query($sql, %args);

	$self->{met}{ $result->{state} }++;
	$result->{message} .= ' while ' . $self->activity if $result->{state} eq 'hang';
	my $allowed = $args{allowed} // '';
	$self->record('bad', $self->{name}, "$result->{state} $result->{message}: " . substr($sql, 0, 200))
	  unless $result->{state} =~ $TROUBLE
	  || $result->{state} eq '00000'
	  || ($result->{state} eq 'XX000' && $result->{message} =~ $FULL)
	  || " $allowed " =~ / \Q$result->{state}\E /;
	return $result;
}

# Who does what, and waits for whom.
sub activity
{
	my ($self) = @_;
	my $session = Chaos::Session->new(host => $self->{host});

	$session->connect or return 'nobody can connect';
	my $result = $session->query(q{
		SELECT concat_ws(' ', pid, pg_blocking_pids(pid), state, wait_event, left(query, 60)) FROM pg_stat_activity WHERE state <> 'idle'
		UNION ALL SELECT concat_ws(' ', gid, prepared) FROM pg_prepared_xacts});
	return join '; ', @{ $result->{rows} };
}

# Works until stopped, step by step; a step that has begun is ended.
sub work
{
	my ($self) = @_;

	# The signal is looked at between steps, so that no step is cut in two.
	local $SIG{TERM} = sub { $self->{stopping} = 1 };
	until ($self->{stopping})
	{
		if ($self->{session}->connect)
		{
			$self->step;
		}
		else
		{
			$self->{session}->close;
			sleep 0.05;
		}
	}
	$self->{session}->close;
	$self->record('met', map { "$_:$self->{met}{$_}" } sort keys %{ $self->{met} });
	return;
}

1;
