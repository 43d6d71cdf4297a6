# A psql that stays connected: for transactions that have to be open while the
# test does something else.  (PostgreSQL::Test::Cluster's own way to do this
# differs between its versions.)

package Session;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;

sub new
{
	my ($class, $node, @options) = @_;
	my $self = bless { in => '', out => '', err => '', count => 0 }, $class;

	$self->{timer} = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	$self->{psql} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), @options ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	return $self;
}

# Sends statements and does not wait for what becomes of them.
sub send
{
	my ($self, $sql) = @_;

	$self->{count}++;
	$self->{in} .= "$sql\n;\n\\echo done $self->{count}\n\\warn done $self->{count}\n";
	$self->{psql}->pump_nb;
	return;
}

# Waits for the statements that were sent last; returns what they printed, and
# in list context their errors, too.
sub result
{
	my ($self) = @_;
	my $done = qr/^done $self->{count}\n/m;

	$self->{timer}->start;
	while ($self->{out} !~ $done || $self->{err} !~ $done)
	{
		die "psql has gone: $self->{err}" unless $self->{psql}->pumpable;
		die "timed out: $self->{err}" if $self->{timer}->is_expired;
		$self->{psql}->pump;
	}
	my ($out, $err) = @$self{qw(out err)};
	s/^done \d+\n//m for $out, $err;
	s/\n+\z// for $out, $err;
	@$self{qw(out err)} = ('', '');
	return wantarray ? ($out, $err) : $out;
}

sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	return $self->result;
}

# Ends psql as if its machine had gone.
sub kill
{
	my ($self) = @_;

	$self->{psql}->kill_kill(grace => 0);
	return;
}

# Ends it; for one whose server has gone, too.
sub quit
{
	my ($self) = @_;

	$self->{in} .= "\\q\n";
	eval { $self->{psql}->finish };
	return;
}

1;
