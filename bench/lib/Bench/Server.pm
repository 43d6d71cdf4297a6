# The private server, through psql and pgbench.  bench/run has started it and
# says where it is in PGHOST and PGUSER, and where its programs are in BINDIR.

package Bench::Server;
use v5.36;
use Exporter 'import';
our $PIN = 1;    # a single client to the CPU of its backend
our @EXPORT = qw(run_command psql query pgbench copy_database drop_database postmaster set_worker);

# What the command prints, and its exit status.
sub run_command ($env, @command) {
    local @ENV{ keys %$env } = values %$env;
    my $pid = open(my $out, '-|') // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        exec @command or do { print "$command[0]: $!\n"; exit 127 };
    }
    my $output = do { local $/; <$out> } // '';
    close $out;
    return ($output, $?);
}

# Run a script or a command in a database; returns its output, dies of errors.
sub psql ($database, $variables, @arguments) {
    my ($output, $status) = run_command(
        { PGDATABASE => $database, PGOPTIONS => '-c client_min_messages=warning' },
        "$ENV{BINDIR}/psql", qw(-X -q -A -t -F), "\t", '-v', 'ON_ERROR_STOP=1',
        (map { ('-v', "$_=$variables->{$_}") } sort keys %$variables), @arguments);
    chomp $output;
    die survived($output), "\n" if $status;
    return $output;
}

# The error as it is; after a crash, when the server is back.
sub survived ($error) {
    return $error unless $error =~ /server closed the connection|in recovery mode|backend died/;
    for (1 .. 60) {
        my (undef, $status) = run_command({}, "$ENV{BINDIR}/pg_isready", '-q');
        return "Error: the server crashed: $error" if !$status;
        sleep 1;
    }
    die "the server crashed and is not coming back: $error\n";
}

sub query ($database, $sql) {
    return psql($database, {}, '-c', $sql);
}

# A copy through the buffers, so that it begins warm, and a checkpoint, so that
# none has to come soon and each run logs its first page images alike.
sub copy_database ($from, $to) {
    drop_database($to);
    query('postgres', qq{CREATE DATABASE "$to" TEMPLATE "$from" STRATEGY wal_log});
    query('postgres', 'CHECKPOINT');
    return;
}

sub drop_database ($name) {
    query('postgres', qq{DROP DATABASE IF EXISTS "$name" WITH (FORCE)});
    return;
}

sub postmaster () {
    open my $in, '<', "$ENV{PGDATA}/postmaster.pid" or die "$ENV{PGDATA}/postmaster.pid: $!\n";
    chomp(my $pid = <$in>);
    return $pid;
}

# Have the extension's worker run in this database; none: nowhere.  Returns when
# it is so.
sub set_worker ($database) {
    query('postgres', qq{ALTER SYSTEM SET eventsourcing.databases = '"$database"'}) if defined $database;
    query('postgres', 'ALTER SYSTEM RESET eventsourcing.databases') if !defined $database;
    query('postgres', 'SELECT pg_reload_conf()');
    my $wanted = $database // '';
    for (1 .. 3000) {
        # it takes its name when it can be woken
        my $running = query('postgres', <<~'END');
            SELECT coalesce(string_agg(datname, ' '), '') FROM pg_stat_activity
            WHERE backend_type = 'eventsourcing worker' AND (application_name = backend_type OR datname IS NULL)
            END
        return if $running eq $wanted;
        select undef, undef, undef, 0.01;
    }
    die "the worker does not " . (defined $database ? "start\n" : "end\n");
}

# The CPUs that we may use, and one of them.
sub cpus () {
    my ($output) = run_command({}, 'taskset', '-cp', $$);
    return $output =~ /: ((?:[\d,-]*\D)?(\d+))$/m;
}

# Have new backends run on these CPUs.
sub bind_backends ($cpus) {
    run_command({}, 'taskset', '-cp', $cpus, postmaster());
    return;
}

# The longest of the calls that pgbench has logged below this prefix, in ms; the
# files go.
sub longest_call ($prefix) {
    my $longest = 0;
    for my $file (glob "$prefix.*") {
        open my $in, '<', $file or die "$file: $!\n";
        while (my $line = <$in>) {
            my $most = (split ' ', $line)[2] / 1000;
            $longest = $most if $most > $longest;
        }
        unlink $file;
    }
    return $longest;
}

# One run.  Returns { transactions, tps, ms } or { error }; with longest => 1 also
# the longest call's time.
sub pgbench (%run) {
    my $variables = $run{variables};
    my $log = "$ENV{BENCH_TMP}/log";
    my @options = $run{calls} ? ('-t', $run{calls}) : ('-T', $run{seconds});
    # A single client and its backend take turns.  On two CPUs, waking the other
    # one up costs a virtual machine more than most of what is measured here, and
    # by chance or not at all (factor 5); so they share one.
    my ($all, $one) = $PIN && $run{clients} == 1 ? cpus() : ();
    bind_backends($one) if defined $one;
    my ($output, $status) = run_command(
        { PGUSER => $run{user} // $ENV{PGUSER},
          PGOPTIONS => "-c synchronous_commit=$run{sync}" },
        (defined $one ? ('taskset', '-c', $one) : ()),
        "$ENV{BINDIR}/pgbench", '-n', '-M', $run{protocol} // 'prepared', '-f', $run{script},
        '-c', $run{clients}, '-j', $run{clients} > 1 ? 2 : 1, @options, ($run{at} ? ('-R', $run{at}) : ()),
        ($run{longest} ? ('-l', "--log-prefix=$log") : ()),
        (map { ('-D', "$_=$variables->{$_}") } sort keys %$variables), $run{database});
    bind_backends($all) if defined $one;
    my ($transactions) = $output =~ /^number of transactions actually processed: (\d+)/m;
    my ($tps) = $output =~ /^tps = ([\d.]+)/m;
    if ($status || !$transactions) {
        my ($error) = survived($output) =~ /((?:error|fatal):.*)/i;
        return { error => $error // "pgbench printed: $output" };
    }
    return { transactions => $transactions, tps => $tps, ms => 1000 * $run{clients} / $tps,
        ($run{longest} ? (longest => longest_call($log)) : ()) };
}

1;
