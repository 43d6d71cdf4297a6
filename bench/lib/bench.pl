# The benchmark proper: chooses what to run, makes the stores, runs the rounds,
# writes the results.  Started by bench/run, which has made the private server.

use v5.36;
use FindBin;
use lib $FindBin::Bin;
use Getopt::Long qw(:config no_ignore_case bundling);
use JSON::PP;
use List::Util qw(first);
use Time::HiRes qw(time);

use Bench::Catalog;
use Bench::Cost;
use Bench::Load;
use Bench::Report;
use Bench::Run;
use Bench::Server;
use Bench::Store;

$| = 1;
$Bench::Catalog::DIR = "$FindBin::Bin/..";
my $command = $ENV{BENCH_COMMAND} // "bench/run @ARGV";

my %option = (seconds => 1, pin => 1);
GetOptions(\%option, 'quick', 'cost', 'list', 'pin!', 'growth:i', 'load:i', 'rounds=i', 'seconds=i', 'out=s', 'render=s',
    'workload=s@', 'contestant=s@') && !@ARGV
    or exit 2;
$option{rounds} //= $option{quick} ? 2 : defined $option{load} ? 5 : 7;

$Bench::Server::PIN = $option{pin};

my @contestants = read_ini('contestants');
my @workloads   = read_ini('workloads');
$_->{show} //= 'rate' for @workloads;

# The sections that an option names; all of them if it isn't given.
sub chosen ($kind, @sections) {
    my $names = $option{$kind} or return @sections;
    return map {
        my $name = $_;
        first { $_->{name} eq $name } @sections or die "there is no $kind $name; see bench/run --list\n"
    } map { split /,/ } @$names;
}

if ($option{list}) {
    printf "%-20s %s\n", $_->{name}, $_->{title} // $_->{about}
      for { name => "WORKLOAD", title => '' }, @workloads, { name => "\nCONTESTANT", about => '' }, @contestants;
    exit;
}

if ($option{render}) {
    open my $in, '<', $option{render} or die "$option{render}: $!\n";
    print write_report(JSON::PP->new->decode(do { local $/; <$in> }), $option{render} =~ s/\.json$//r);
    exit;
}

my @chosen_workloads   = chosen('workload', @workloads);
my @chosen_contestants = chosen('contestant', @contestants);
# Without its base, nobody has a ratio.
unshift @chosen_contestants, $contestants[0] unless grep { $_->{name} eq 'floor' } @chosen_contestants;

my @skipped;
my %told;
my $failed = 0;

sub skip ($contestant, $workload, $reason) {
    my ($error) = $reason =~ /((?:ERROR|FATAL|Error): .*)/;
    my $line = "$contestant->{name}, $workload->{name}: " . ($error // substr $reason =~ s/\s+/ /gr, 0, 300);
    return if $told{$line}++;
    push @skipped, $line;
    say "SKIPPED $line";
    # What isn't there yet, and peers that can't be fetched, are no failures.
    $failed = 1 unless $line =~ /does not exist|npm could not install/;
    return;
}

# Who runs a workload, each with the name it has in the tables and its base.
# With growth, the large store's ratio is to the same contestant's small one.
sub entries_of ($workload) {
    my %base    = map { split /=/ } split ' ', $workload->{base} // '';
    my @entries = map { +{ contestant => $_, name => $_->{name}, base => $base{ $_->{name} } // 'floor', large => 0 } }
      grep { takes_part($workload, $_) } @chosen_contestants;
    return @entries unless $option{growth};
    return map {
        ($_, { %$_, name => "$_->{name}, large", base => $_->{name}, large => $option{growth} })
    } grep { $option{contestant} || $_->{name} =~ /^(floor|ours)$/ } @entries;
}

my $list = defined $option{growth} ? 'growth' : $option{quick} ? 'quick' : 'cells';
$option{growth} ||= 10_000_000 if defined $option{growth};

# Make all stores, and see who can take part at all.
sub plan () {
    my @plan;
    for my $workload (@chosen_workloads) {
        # What is asked for by name is run, also if --quick would leave it out.
        my @cells = cells_of($workload, $list);
        @cells = cells_of($workload, 'cells') if !@cells && $option{workload} && $list eq 'quick';
        next unless @cells;
        # The large store is made once, for all workloads.
        $workload->{setup} = 'aggregate' if $option{growth};
        my @entries;
        for my $entry (entries_of($workload)) {
            my $store = make_store($entry->{contestant}, $workload, $entry->{large});
            if ($store->{error}) { skip($entry->{contestant}, $workload, $store->{error}) }
            else                 { push @entries, $entry }
        }
        push @plan, { workload => $workload, entries => \@entries, cells => [
            map { +{ clients => $_->[0], sync => $_->[1], runs => {}, base => { map { ($_->{name} => $_->{base}) } @entries } } }
            @cells ] };
        check_same(@{ $plan[-1] }{qw(workload entries)}) if $workload->{same};
    }
    return @plan;
}

# Those who compute the same must get the same.
sub check_same ($workload, $entries) {
    my ($expected, $who);
    for my $entry (grep { !$_->{large} && $_->{contestant}{name} ne 'floor' } @$entries) {
        my $store = make_store($entry->{contestant}, $workload, $entry->{large});
        my $found = eval {
            psql($store->{database}, { stream => $store->{first} }, '-f',
                script_of($entry->{contestant}, $workload->{action}))
        };
        if (!defined $found) {
            skip($entry->{contestant}, $workload, $@);
            $entry->{left} = 1;
            next;
        }
        ($expected, $who) = ($found, $entry->{name}) unless defined $expected;
        die "$workload->{name}: $who returns $expected, but $entry->{name} $found\n" if $found ne $expected;
    }
    return;
}

# The rounds go through everything, so that whatever slows the machine for a
# while touches all alike; the order of the contestants turns with the rounds.
sub run_rounds (@plan) {
    for my $round (0 .. $option{rounds} - 1) {
        my $start = time;
        for my $item (@plan) {
            my @order = $item->{entries}->@*;
            push @order, splice @order, 0, $round % @order if @order;
            for my $cell ($item->{cells}->@*) {
                run_cell($item->{workload}, $cell, $_, $round) for @order;
            }
        }
        printf "round %d of %d: %d s\n", $round + 1, $option{rounds}, time - $start;
    }
    return;
}

sub run_cell ($workload, $cell, $entry, $round) {
    return if $entry->{left} || $cell->{slow}{ $entry->{name} };
    my $run = run_once($workload, $entry->{contestant}, $entry->{large}, $cell->{clients}, $cell->{sync},
        $option{seconds});
    if ($run->{error}) {
        skip($entry->{contestant}, $workload, $run->{error});
        $entry->{left} = 1;
        return;
    }
    $cell->{runs}{ $entry->{name} }[$round] = $run;
    # Where one call takes longer than a run should, one round must do.
    $cell->{slow}{ $entry->{name} } = JSON::PP::true if $run->{ms} > 4000 * $option{seconds};
    return;
}

# The cost of those workloads that name the numbers of calls for it.
sub costs () {
    my @jobs;
    for my $workload (grep { $_->{cost} } @chosen_workloads) {
        for my $entry (entries_of($workload)) {
            my ($calls, $traced) = split m{/}, $workload->{cost};
            my $contestant = $entry->{contestant};
            my $cost       = cost($workload, $contestant, $calls);
            if ($cost->{error}) { skip($contestant, $workload, $cost->{error}); next }
            push @jobs, { workload => $workload, contestant => $contestant, traced => $traced, cost => $cost };
            printf "%-20s %s\n", $workload->{name}, $contestant->{name};
        }
    }

    if (grep { -x "$_/valgrind" } split /:/, $ENV{PATH}) {
        my $folder = "$ENV{BENCH_TMP}/callgrind";
        start_valgrind($folder);
        for my $job (@jobs) {
            $job->{cost}{instructions} = instructions_of($job->{workload}, $job->{contestant}, $folder, $job->{traced});
            printf "%-20s %s, instructions\n", $job->{workload}{name}, $job->{contestant}{name};
        }
    } else {
        push @skipped, my $line = 'instructions: valgrind is not installed';
        say "SKIPPED $line";
    }
    return [ map { +{ workload => $_->{workload}{name}, title => $_->{workload}{title},
        contestant => $_->{contestant}{name}, $_->{cost}->%* } } @jobs ];
}

# What it was measured on, for the results.
sub machine () {
    my $read = sub ($file, $pattern) {
        open my $in, '<', $file or return 'unknown';
        my @found = map { /$pattern/ } <$in>;
        return wantarray ? @found : $found[0] // 'unknown';
    };
    my @cpus   = $read->('/proc/cpuinfo', qr/^model name\s*: (.*)/);
    my $kb     = $read->('/proc/meminfo', qr/^MemTotal:\s*(\d+)/);
    my $system = $read->('/etc/os-release', qr/^PRETTY_NAME="(.*)"/);
    my $kernel = $read->('/proc/sys/kernel/osrelease', qr/(.*)/);
    return {
        cpu    => $cpus[0],
        cores  => scalar @cpus,
        memory => sprintf('%.0f GB', $kb / 1024**2),
        system => "$system, Linux $kernel",
    };
}

sub results (@plan) {
    for my $item (@plan) {
        summarise($_) for $item->{cells}->@*;
    }
    return {
        command     => $command,
        date        => query('postgres', 'SELECT now()::date'),
        extension   => $ENV{BENCH_VERSION},
        postgresql  => query('postgres', "SELECT current_setting('server_version')"),
        machine     => machine(),
        rounds      => $option{rounds},
        seconds     => $option{seconds},
        skipped     => \@skipped,
        contestants => { map { ($_->{name} => { %$_, version => versions()->{ $_->{name} } }) } @chosen_contestants },
        settings    => { map { split /\t/ } split /\n/, query('postgres', <<~'END') },
            SELECT name, current_setting(name) FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'wal_level', 'jit', 'lc_collate', 'wal_sync_method')
              OR source = 'configuration file' AND name IN
                 ('shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'autovacuum', 'eventsourcing.log_path')
            END
        workloads => [ map {
            my $item = $_;
            +{ $item->{workload}->%*, cells => $item->{cells}, contestants => [ map { $_->{name} } $item->{entries}->@* ] }
        } @plan ],
    };
}

my ($results, $name);
if ($option{cost}) {
    my $costs = costs();
    $results = results();
    $results->{cost} = $costs;
    $name = 'cost';
} elsif (defined $option{load}) {
    my $load = load($option{load} || 10_000_000, $option{rounds}, $option{seconds});
    $results = results();
    $results->{load} = $load;
    $name = 'load';
} else {
    say 'filling the stores';
    my @plan = plan() or die "nothing to do\n";
    run_rounds(@plan);
    $results = results(@plan);
    $name = $option{workload} || $option{contestant} ? 'some' : $option{growth} ? 'growth' : $option{quick} ? 'quick' : 'full';
}

my $folder = $option{out} // "$FindBin::Bin/../results";
mkdir $folder;
print "\n", write_report($results, "$folder/$name");
say "\nwritten to $folder/$name.json, .md and .svg";
exit $failed;
