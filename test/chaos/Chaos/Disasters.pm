# What befalls the server.  Each takes the server and a generator, does its harm
# while the clients work, and leaves it to heal() to mend what has to be.

package Chaos::Disasters;

use strict;
use warnings;

use Chaos::Session;
use IO::Socket::UNIX;
use Time::HiRes qw(sleep time);

our %disasters = (
	clock => \&clock,
	connections => \&connections,
	disk => \&disk,
	failover => \&failover,
	immediate => sub { $_[0]->stop_immediate; },
	kill_backend => \&kill_backend,
	kill_server => sub { $_[0]->kill9; },
	kill_standby => sub { $_[0]->kill9($_[0]{standby}); sleep 1; },
	locks => \&locks,
	restart => sub { $_[0]->stop_fast; },
	terminate => \&terminate,
);

# Which of them a server can be put through.
sub possible
{
	my ($server) = @_;
	my @names = qw(immediate kill_backend kill_server restart);

	# A backend that is ended while it waits for the standby shows what the
	# standby may not have: PostgreSQL's own limit.
	push @names, $server->{standby} ? qw(failover failover kill_standby) : qw(connections locks terminate);
	push @names, 'disk' if $server->{data} && !$server->{standby};
	push @names, 'clock' if $server->{clock_file};
	return @names;
}

sub strike
{
	my ($name, $server, $random) = @_;

	$disasters{$name}->($server, $random);
	return;
}

# One server process dies, and the postmaster starts all of them anew.
sub kill_backend
{
	my ($server, $random) = @_;
	my $which = $random->pick(q{query LIKE '%es_%'}, q{query LIKE '%es_%'}, q{backend_type <> 'client backend'});
	my $pid = $server->psql("SELECT pid FROM pg_stat_activity WHERE $which AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");

	kill 'KILL', $pid if $pid =~ /^\d+$/;
	return;
}

# Sessions are ended, and statements cancelled, at any moment.
sub terminate
{
	my ($server, $random) = @_;
	my $session = Chaos::Session->new(host => $server->socket_dir);
	my $end = time + 4;

	return unless $session->connect;
	while (time < $end)
	{
		my $function = $random->pick(qw(pg_terminate_backend pg_terminate_backend pg_cancel_backend));
		$session->query("SELECT $function(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
			  . "backend_type NOT LIKE 'checkpointer' AND (backend_type = 'client backend' OR random() < 0.1) ORDER BY random() LIMIT 1");
		sleep 0.001 * $random->below(100);
	}
	return;
}

# No connection is free, and those that are there are ended.
sub connections
{
	my ($server, $random) = @_;
	my $packet = "user\0postgres\0database\0postgres\0\0";
	my @sockets;
	my $end = time + 4;

	while (time < $end)
	{
		while (@sockets < 60)
		{
			my $socket = IO::Socket::UNIX->new($server->socket_dir . '/.s.PGSQL.5432') or last;
			syswrite $socket, pack('N N', 8 + length $packet, 196608) . $packet;
			push @sockets, $socket;
		}
		sleep 0.3;
		$server->psql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%es_%' AND random() < 0.5});
		shift @sockets for 1 .. 20;
	}
	return;
}

# The lock table is full.
sub locks
{
	my ($server) = @_;
	my $session = Chaos::Session->new(host => $server->socket_dir);
	my $end = time + 4;

	return unless $session->connect;
	while (time < $end)
	{
		$session->query('SELECT pg_advisory_lock(1000, i) FROM generate_series(1, 1000000) i');
		sleep 0.3;
		$session->query('SELECT pg_advisory_unlock_all()');
		sleep 0.1;
	}
	return;
}

# Nothing can be written.
sub disk
{
	my ($server) = @_;
	my $ballast = "$server->{data}/../ballast";
	my $end = time + 4;

	while (time < $end)
	{
		my ($free) = qx(df --output=avail -B1 $server->{data}) =~ /(\d+)/;
		system("fallocate -l $free $ballast." . int(time * 1000) . ' 2>/dev/null') if $free >= 4096;
		sleep 0.1;
	}
	unlink glob "$ballast.*";
	return;
}

# The clock is set back by an hour, and comes right again.
sub clock
{
	my ($server, $random) = @_;

	set_clock($server, '-' . $random->pick(10, 3600, 86400));
	sleep 4;
	return;
}

sub set_clock
{
	my ($server, $offset) = @_;

	open my $file, '>', "$server->{clock_file}.new" or die "$server->{clock_file}: $!";
	print $file "$offset\n";
	close $file;
	rename "$server->{clock_file}.new", $server->{clock_file};
	return;
}

sub failover
{
	my ($server) = @_;

	# After a crash the primary shows, and tells who asks again, what it had
	# written and the standby not yet received: PostgreSQL's own limit, too.
	$server->catch_up;
	$server->fail_over;
	$server->{lost_standby} = 1;
	return;
}

# Everything is there again.
sub heal
{
	my ($server) = @_;

	set_clock($server, '+0') if $server->{clock_file};
	unlink glob "$server->{data}/../ballast.*" if $server->{data};
	for my $node (grep { $_ } @$server{qw(primary standby)})
	{
		next if $server->alive($node) && system("$server->{bin}/pg_isready -q -h $node->{socket} -p 5432") == 0;
		$server->revive($node);
	}
	$server->add_standby if delete $server->{lost_standby};
	return;
}

1;
