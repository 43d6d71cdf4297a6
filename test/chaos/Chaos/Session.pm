# A psql at the end of two pipes, which says of every statement what became of
# it: done, failed for certain (with an SQLSTATE), or unknown, because the
# connection went while it ran.

package Chaos::Session;

use strict;
use warnings;

use IPC::Open2;
use IO::Select;
use Time::HiRes qw(time);

# s: a server that does not answer for so long hangs
our $patience = 90;

sub new
{
	my ($class, %args) = @_;
	my $self = bless { host => $args{host}, options => $args{options} // '', count => 0 }, $class;

	return $self;
}

# Connects, unless connected.  Returns whether that worked.
sub connect
{
	my ($self) = @_;

	return 1 if $self->{pid};
	my ($in, $out);
	local $ENV{PGOPTIONS} = $self->{options};
	open my $saved, '>&', \*STDERR;
	open STDERR, '>', '/dev/null';
	my $pid = open2($out, $in, 'psql', '-XAtq', '-v', 'VERBOSITY=terse', '-h', $self->{host}, '-p', 5432, '-U', 'postgres', '-d', 'postgres');
	open STDERR, '>&', $saved;
	@$self{qw(pid in out buffer)} = ($pid, $in, $out, '');
	my $result = $self->query('SELECT 1');
	return $result->{state} eq '00000';
}

# Runs one statement.  Returns state: an SQLSTATE, or 'lost'; rows: what it
# printed, a list of lines; message: of the error.
# With sabotage => 1 psql is killed as soon as the statement is on its way.
sub query
{
	my ($self, $sql, %args) = @_;

	return { state => 'none', rows => [], message => 'no connection' } unless $self->{pid};
	my $n = ++$self->{count};
	my $line = "$sql\n;\n\\echo <$n> :SQLSTATE | :LAST_ERROR_MESSAGE | <$n>\n";
	local $SIG{PIPE} = 'IGNORE';
	unless (defined syswrite($self->{in}, $line))
	{
		# that a psql is gone shows at its next statement, which it never saw
		$self->close;
		return { state => 'none', rows => [], message => 'no connection' };
	}
	if ($args{sabotage})
	{
		select(undef, undef, undef, $args{sabotage});
		kill 'KILL', $self->{pid};
	}

	my $deadline = time + $patience;
	while ($self->{buffer} !~ /^<$n> \S* \| .* \| <$n>\n/ms)
	{
		my $left = $deadline - time;
		if ($left <= 0)
		{
			$self->close;
			return { state => 'hang', rows => [], message => 'no answer' };
		}
		next unless IO::Select->new($self->{out})->can_read($left);
		my $got = sysread($self->{out}, $self->{buffer}, 65536, length $self->{buffer});
		next if !defined $got && $!{EINTR};
		unless ($got)
		{
			$self->close;
			return { state => 'lost', rows => [], message => 'connection lost' };
		}
	}
	$self->{buffer} =~ s/\A(.*?)^<$n> (\S*) \| (.*) \| <$n>\n//ms;
	my $result = { state => $2, rows => [ split /\n/, $1 ], message => $3 };

	# It is not always that psql ends when its connection is gone.
	if ($result->{state} eq '')
	{
		$self->close;
		$result->{state} = 'lost';
	}
	return $result;
}

# What one statement printed; dies unless it succeeds.
sub must
{
	my ($self, $sql) = @_;

	$self->connect or die "cannot connect for: $sql\n";
	my $result = $self->query($sql);
	die "$result->{state} $result->{message}: $sql\n" if $result->{state} ne '00000';
	return wantarray ? @{ $result->{rows} } : join "\n", @{ $result->{rows} };
}

sub close
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	close $self->{in};
	close $self->{out};
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

sub DESTROY { local ($?, $!, $@); $_[0]->close; }

1;
