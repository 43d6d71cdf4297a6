# The servers: a primary, which is always reached through the same folder
# "now", and perhaps a standby.  Started without pg_ctl, because that cannot
# start a server whose clock is another.

package Chaos::Server;

use strict;
use warnings;

use Time::HiRes qw(sleep time);

# dir: where everything is; data: where the primary's data are (a small
# filesystem, perhaps); bin: of PostgreSQL; config: more settings; env: of the
# server.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;

	mkdir $self->{dir};
	$self->{number} = 0;
	return $self;
}

sub socket_dir { return "$_[0]{dir}/now"; }
sub log_file { return "$_[0]{dir}/postgres.log"; }

sub run
{
	my ($self, @command) = @_;

	system("@command >>$self->{dir}/commands.log 2>&1") == 0
	  or die "failed: @command; see $self->{dir}/commands.log\n";
	return;
}

sub node
{
	my ($self) = @_;
	my $name = 'n' . ++$self->{number};

	mkdir "$self->{dir}/$name";
	return { name => $name, socket => "$self->{dir}/$name",
		data => ($self->{number} == 1 && $self->{data}) || "$self->{dir}/$name/data" };
}

# Makes a node that clients reach through "now" the primary.
sub serve
{
	my ($self, $node) = @_;

	symlink $node->{name}, "$self->{dir}/next" or die "symlink: $!";
	rename "$self->{dir}/next", "$self->{dir}/now" or die "rename: $!";
	$self->{primary} = $node;
	return;
}

sub append_conf
{
	my ($self, $node, $lines) = @_;

	open my $file, '>>', "$node->{data}/postgresql.conf" or die "$node->{data}: $!";
	print $file "$lines\n";
	close $file;
	return;
}

sub init
{
	my ($self) = @_;
	my $node = $self->node;

	$self->run("$self->{bin}/initdb -D $node->{data} -U postgres -A trust -N -E UTF8");
	$self->append_conf($node, $self->{config});
	$self->serve($node);
	$self->start;
	return;
}

# Waits for a node that is recovering by itself, and starts one that is not.
sub revive
{
	my ($self, $node) = @_;
	my $deadline = time + 60;

	while ($self->alive($node) && time < $deadline)
	{
		return if system("$self->{bin}/pg_isready -q -h $node->{socket} -p 5432") == 0;
		sleep 0.1;
	}
	$self->kill9($node);
	$self->start($node) or die "the server does not start, see $self->{dir}/postgres.log\n";
	return;
}

# Starts a node, by default the primary, and waits until it accepts connections.
# Returns whether it does.
sub start
{
	my ($self, $node) = @_;
	$node //= $self->{primary};

	for (1 .. 40)
	{
		my $pid = fork // die "fork: $!";
		if (!$pid)
		{
			open STDIN, '<', '/dev/null';
			open STDOUT, '>>', $self->log_file;
			open STDERR, '>&', \*STDOUT;
			%ENV = (%ENV, %{ $self->{env} // {} });
			setpgrp;
			exec "$self->{bin}/postgres", '-D', $node->{data}, '-k', $node->{socket}, '-c', 'listen_addresses=', '-p', 5432
			  or die "exec: $!";
		}
		$node->{pid} = $pid;
		my $deadline = time + 120;
		while (time < $deadline && $self->alive($node))
		{
			return 1 if system("$self->{bin}/pg_isready -q -h $node->{socket} -p 5432") == 0;
			sleep 0.1;
		}
		# The processes of one that was killed may not have ended yet.
		$self->kill9($node);
		sleep 0.25;
	}
	return 0;
}

# Whether the postmaster is there, and reap it if not.
sub alive
{
	my ($self, $node) = @_;
	$node //= $self->{primary};

	return 0 unless $node->{pid};
	return 1 if waitpid($node->{pid}, 1) == 0;
	delete $node->{pid};
	return 0;
}

sub signal
{
	my ($self, $signal, $node) = @_;
	$node //= $self->{primary};
	my $pid = $node->{pid} or return;

	kill $signal, $pid;
	waitpid $pid, 0;
	delete $node->{pid};
	return;
}

sub kill9 { my ($self, $node) = @_; return $self->signal('KILL', $node); }
sub stop_immediate { my ($self, $node) = @_; return $self->signal('QUIT', $node); }
sub stop_fast { my ($self, $node) = @_; return $self->signal('INT', $node); }

sub psql
{
	my ($self, $sql, $node) = @_;
	my $socket = $node ? $node->{socket} : $self->socket_dir;

	my $out = qx(timeout 120 $self->{bin}/psql -XAtq -h $socket -p 5432 -U postgres -d postgres -c "$sql" 2>>$self->{dir}/commands.log);
	chomp $out;
	return $out;
}

# Adds a standby, for which every commit waits from now on.
sub add_standby
{
	my ($self) = @_;
	my $node = $self->node;

	$self->run("$self->{bin}/pg_basebackup -D $node->{data} -h $self->{primary}{socket} -p 5432 -U postgres -R -c fast");
	$self->{standby} = $node;
	$self->start($node) or die "the standby does not start\n";
	$self->sync('*');
	return;
}

sub sync
{
	my ($self, $names) = @_;

	$self->append_conf($self->{primary}, "synchronous_standby_names = '$names'");
	kill 'HUP', $self->{primary}{pid};
	return;
}

# Waits until the standby has all that the primary has flushed.
sub catch_up
{
	my ($self) = @_;

	for (1 .. 600)
	{
		return if $self->psql(q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming' AND flush_lsn >= pg_current_wal_flush_lsn()}) eq '1';
		sleep 0.1;
	}
	die "the standby does not catch up\n";
}

# The server processes of a node, whose postmaster starts no more.
sub freeze
{
	my ($self, $node) = @_;
	my @processes;

	kill 'STOP', $node->{pid};
	for my $path (glob '/proc/[0-9]*/stat')
	{
		open my $file, '<', $path or next;
		push @processes, $1 if (<$file> // '') =~ /^(\d+) \(.*\) \S $node->{pid} /;
	}
	return @processes;
}

# The primary is no more; the standby takes over.  Nor are there processes that
# have not noticed yet, and would go on to answer for a server whose files are gone.
sub fail_over
{
	my ($self) = @_;
	my $old = $self->{primary};
	my $new = delete $self->{standby};

	# Who waits for the standby and finds the postmaster dead waits no more, and
	# shows what he committed to everybody: PostgreSQL's own limit.
	kill 'KILL', $self->freeze($old);
	$self->kill9($old);
	$self->append_conf($new, "synchronous_standby_names = ''");
	$self->run("$self->{bin}/pg_ctl -D $new->{data} -w -t 120 promote");
	$self->serve($new);
	$self->run("rm -rf $old->{data}/*");
	return;
}

sub stop_all
{
	my ($self) = @_;

	$self->stop_immediate($_) for grep { $_ } @$self{qw(standby primary)};
	return;
}

1;
