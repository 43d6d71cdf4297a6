# What noise can't touch: bytes and records of WAL, bytes on disk, CPU time and
# instructions inside the backend, each for one event.

package Bench::Cost;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(cost instructions_of start_valgrind);

use POSIX qw(sysconf _SC_CLK_TCK);

use Bench::Catalog;
use Bench::Run;
use Bench::Server;
use Bench::Store;

# The fields of /proc/PID/stat behind the name: state, parent, …
sub stat_of ($pid) {
    open my $in, '<', "/proc/$pid/stat" or return;
    return split ' ', <$in> =~ s/.*\) //r;
}

# The postmaster's children, less those that it has had from the beginning.
my %own;

sub sessions () {
    my $postmaster = postmaster();
    return grep { !$own{$_} && ((stat_of($_))[1] // 0) == $postmaster } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# Sessions end, and are reaped, a moment after their clients.
sub wait_for_sessions () {
    for (1 .. 500) {
        last unless sessions();
        select undef, undef, undef, 0.01;
    }
    return;
}

# Have it know its own processes: called while nobody is connected.
sub know_server () {
    sleep 1;
    %own = ();
    %own = map { ($_ => 1) } sessions();
    return;
}

# CPU microseconds of all sessions that have ended: what the postmaster's reaped
# children have used.
sub cpu_of_sessions () {
    know_server() unless %own;
    wait_for_sessions();
    my @field = stat_of(postmaster());
    return 1e6 * ($field[13] + $field[14]) / sysconf(_SC_CLK_TCK);
}

# Of all tables and indexes.
sub bytes ($database) {
    my ($heap, $index) = split /\t/, query($database, <<~'END');
        SELECT sum(pg_relation_size(c.oid)) FILTER (WHERE relkind IN ('r', 't')),
               sum(pg_relation_size(c.oid)) FILTER (WHERE relkind = 'i')
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
        END
    return (heap_bytes => $heap, index_bytes => $index);
}

sub wal () {
    my ($records, $bytes) = split /\t/, query('postgres', 'SELECT wal_records, wal_bytes FROM pg_stat_wal');
    return (wal_records => $records, wal_bytes => $bytes);
}

sub snapshot ($database) {
    return (bytes($database), wal(), cpu => cpu_of_sessions());
}

# What a run of this many calls by one client costs.
sub measured ($workload, $contestant, $calls) {
    my $store = store_for($contestant, $workload);
    return $store if $store->{error};
    my ($file, $text) = script_for($workload, $contestant);
    my %before = snapshot($store->{database});
    my $run    = pgbench(
        script    => $file,
        database  => $store->{database},
        user      => $contestant->{user},
        variables => variables_for($text, $workload, $store, 1),
        clients   => 1,
        sync      => 'off',
        calls     => $calls);
    return $run if $run->{error};
    my %after = snapshot($store->{database});
    return { map { ($_ => $after{$_} - $before{$_}) } keys %after };
}

# The difference between a long and a short run, for each event: what a session
# costs once cancels out.
sub cost ($workload, $contestant, $calls) {
    my $short = measured($workload, $contestant, 10);
    return $short if $short->{error};
    my $long = measured($workload, $contestant, $calls);
    return $long if $long->{error};
    my $events = ($calls - 10) * ($workload->{events} // 1);
    return { map { ($_ => ($long->{$_} - $short->{$_}) / $events) } keys %$long };
}

#
# Instructions
#

sub pg_ctl (@arguments) {
    my ($output, $status) = run_command({}, split(' ', $ENV{RUNNER}), "$ENV{BINDIR}/pg_ctl", '-s', '-w', '-D',
        $ENV{PGDATA}, @arguments);
    die "pg_ctl: $output\n" if $status;
    return;
}

# Have the server run under callgrind, which writes a file when a backend ends.
sub start_valgrind ($folder) {
    my ($wrapper, $postgres) = ("$ENV{BENCH_TMP}/postgres-callgrind", "$ENV{BINDIR}/postgres");
    open my $out, '>', $wrapper or die "$wrapper: $!\n";
    print $out "#!/bin/sh\nexec valgrind -q --tool=callgrind --callgrind-out-file=$folder/%p.out $postgres \"\$@\"\n";
    close $out;
    chmod 0755, $wrapper;
    mkdir $folder;
    chmod 0777, $folder;
    pg_ctl(qw(-m fast stop));
    pg_ctl('-t', 120, '-p', $wrapper, '-l', "$folder/postgres.log",
        '-o', "-c listen_addresses= -k $ENV{PGHOST}", 'start');
    know_server();
    return;
}

# The instructions of the backend that did the most, since the last call.
my %seen;

sub instructions_since ($folder) {
    my $most;
    for my $file (glob "$folder/*.out") {
        next if $seen{$file}++;
        open my $in, '<', $file or next;
        my ($total) = map { /^(?:totals|summary): (\d+)/ } <$in>;
        $most = $total if defined $total && $total > ($most // 0);
    }
    return $most;
}

# Instructions for an event.  Plans and caches are there after the short run's
# calls, and cancel out.
sub instructions_of ($workload, $contestant, $folder, $calls) {
    my @total;
    for my $n ($calls, 3 * $calls) {
        my $run = run_once($workload, $contestant, 0, 1, 'off', 0, $n);
        return if $run->{error};
        wait_for_sessions();
        push @total, instructions_since($folder) // return;
    }
    return ($total[1] - $total[0]) / (2 * $calls * ($workload->{events} // 1));
}

1;
