# What load does to the cost of a call: many open transactions, an old reader, a
# large store, many types, projections and subscriptions.  Each situation is
# measured in turns with an all but empty store, and nothing else runs.

package Bench::Load;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(load);

use List::Util qw(max);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

use Bench::Report;
use Bench::Run;
use Bench::Server;
use Bench::Store;

my %ours  = (name => 'ours');
my %floor = (name => 'floor');

# The store that everything is compared with, and that most situations begin from.
my %small = (fill => 'streams=10000 events=1', setup => 'aggregate');

# The calls, each a workload for Bench::Run; text stands for a script.
my %call = (
    new  => { title => 'append to a new stream', prelude => 'new', action => 'append' },
    some => { title => 'append to one of all streams', prelude => 'some-stream', action => 'append-any' },
    safe => { title => '`es_safe_position()`', text => 'SELECT es_safe_position();' },
    fetch => { title => '`es_fetch`, nothing to get', text => q{SELECT count(*) FROM es_fetch('idle', 'c');} },
    run   => { title => '`CALL es_run()`, nothing to do', text => 'CALL es_run();' },
    round => { title => 'append, then `CALL es_run()`', text => "SELECT es_append('Load-1', 'Nothing');\nCALL es_run();" },
    load  => { title => '`es_load`', text => "\\set stream random(1, 100)\nSELECT state FROM es_load('Many-' || :stream);" },
    type  => {
        title => 'append of any of the types',
        text  => "\\set stream random(1, 10000)\n\\set type random(1, :types)\n"
          . q{SELECT es_append('Order-' || :stream::text, 'Type' || :type::text, :data);}
    },
    batch => {
        title => 'fetch and acknowledge 10 events',
        calls => 200,
        text  => "SELECT coalesce(array_agg(position), '{}') AS positions FROM es_fetch('hour', 'c', 10) \\gset\n"
          . q{SELECT es_ack('hour', 'c', :positions::bigint[]);}
    });

my %option;    # rounds, seconds, scale
my @rows;      # { situation, call, base, load (ms), ratio, longest (ms) }

# A number for the full size, less where the large store is smaller.
sub scaled ($full, $least) {
    return max($least, int($full * $option{scale}));
}

sub with_commas ($n) {
    1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
    return $n;
}

sub file_of ($name, $text) {
    my $file = "$ENV{BENCH_TMP}/load.$name.sql";
    open my $out, '>', $file or die "$file: $!\n";
    print $out $text;
    close $out;
    return $file;
}

# One run of a call in a database: { ms, longest } or { error }.
sub run_call ($key, $database, $streams, $contestant = \%ours, $variables = {}) {
    my $call     = $call{$key};
    my $workload = { name => "load-$key", fill => "streams=$streams", %$call };
    my ($file, $text) =
      $call->{text} ? (file_of($key, "$call->{text}\n"), $call->{text}) : script_for($workload, $contestant);
    state $first = 1_000_000_000;
    # where streams are new, they are so in each run
    my $store = { first => $key eq 'new' ? $first += 100_000_000 : 1, head => 0 };
    my $run   = pgbench(
        script    => $file,
        database  => $database,
        variables => { variables_for($text, $workload, $store, 1)->%*, %$variables },
        clients   => 1,
        sync      => 'off',
        seconds   => $option{seconds},
        calls     => $call->{calls},
        longest   => 1);
    die "$call->{title}: $run->{error}\n" if $run->{error};
    return $run;
}

# Measure some calls of a situation, in turns with the base, and add the rows.
#   base, database   what is measured in; a template of that name is copied
#   before, after    run around what is measured under load
sub situation ($title, %with) {
    my %runs;
    for my $round (1 .. $option{rounds}) {
        my %name;
        for my $side (qw(base load)) {
            $name{$side} = $with{$side}{copy} ? "run_$side" : $with{$side}{database};
            copy_database($with{$side}{database}, $name{$side}) if $with{$side}{copy};
        }
        my $streams   = $with{streams} // 10000;
        my $measure = sub ($side) {
            for my $key ($with{calls}->@*) {
                push $runs{$key}{$side}->@*, run_call($key, $name{$side}, $side eq 'load' ? $streams : 10000,
                    $with{contestant} // \%ours, $with{$side}{variables} // {});
            }
        };
        $measure->('base');
        $with{before}->($name{load}) if $with{before};
        my $done = eval { $measure->('load'); 1 };
        my $error = $@;
        $with{after}->($name{load}) if $with{after};
        die $error unless $done;
        drop_database($name{$_}) for grep { $with{$_}{copy} } qw(base load);
    }
    for my $key ($with{calls}->@*) {
        my ($base, $load) = @{ $runs{$key} }{qw(base load)};
        add_row($title, $with{what}{$key} // $call{$key}{title}, $base, $load);
    }
    return;
}

sub add_row ($title, $call, $base, $load) {
    push @rows, {
        situation => $title,
        call      => $call,
        base      => median(map { $_->{ms} } @$base),
        load      => median(map { $_->{ms} } @$load),
        ratio     => median(map { $load->[$_]{ms} / $base->[$_]{ms} } 0 .. $#$load),
        longest   => max(map { $_->{longest} } @$load)
    };
    printf "%-50s %-40s %8.4f ms, %.2f\n", $title, $call, $rows[-1]->@{qw(load ratio)};
    return;
}

# Add a row that is a figure of its own.
sub add_figure ($title, $what, $text) {
    push @rows, { situation => $title, call => $what, text => $text };
    printf "%-50s %-40s %s\n", $title, $what, $text;
    return;
}

# A program that goes on beside us; returns its process.
sub start (@command) {
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', "$ENV{BENCH_TMP}/beside.log";
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }
    return $pid;
}

sub stop ($pid) {
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

sub wait_for ($what, $database, $sql, $pid = undef) {
    for (1 .. 1200) {
        return if query($database, $sql) eq 't';
        if ($pid && waitpid($pid, WNOHANG)) {
            open my $log, '<', "$ENV{BENCH_TMP}/beside.log";
            die "$what: ", <$log>;
        }
        sleep 0.1;
    }
    die "$what: waited in vain\n";
}

# A store of ours like the small one, with something more in it.
sub store_with ($name, $sql) {
    my $base = make_store(\%ours, \%small);
    die "$base->{error}\n" if $base->{error};
    copy_database($base->{database}, $name);
    psql($name, {}, '-f', file_of($name, $sql));
    query($name, 'VACUUM ANALYZE');
    return $name;
}

#
# The situations
#

# A transaction of these stays open after it has appended.
my %open = (
    ours  => "SELECT es_append('Open-' || :n, 'Opened');",
    floor => "INSERT INTO events (stream, version, type, data) VALUES ('Open-' || :n, 1, 'Opened', '{}');");

sub open_appenders ($base) {
    my $n     = scaled(1000, 20);
    my $title = with_commas($n) . ' open appenders';
    my $beside = sub ($contestant) {
        my $append = file_of("open-$contestant->{name}",
            "BEGIN;\n\\set n random(1, 1000000000000)\n$open{ $contestant->{name} }\n\\sleep 1000 s\nCOMMIT;\n");
        my $pid;
        return (
            before => sub ($database) {
                $pid = start("$ENV{BINDIR}/pgbench", '-n', '-f', $append, '-c', $n, '-t', 1, $database);
                wait_for("opening $n transactions", $database, <<~"END", $pid);
                    SELECT count(*) = $n FROM pg_stat_activity
                    WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL AND datname = current_database()
                    END
            },
            after => sub ($database) {
                stop($pid);
                wait_for("ending $n transactions", 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$database'");
            });
    };

    my $store = store_with('load_open', <<~'END');
        SELECT es_create_subscription('idle', types => '{Seldom}', after => es_head_position());
        SELECT es_create_handler('nothing', 'SELECT', types => '{Nothing}', after => es_head_position());
        END
    situation($title,
        base  => { database => $store, copy => 1 },
        load  => { database => $store, copy => 1 },
        calls => [qw(safe fetch run new some)],
        $beside->(\%ours));
    drop_database($store);

    my $floor = make_store(\%floor, \%small);
    die "$floor->{error}\n" if $floor->{error};
    situation($title,
        base       => { database => $floor->{database}, copy => 1 },
        load       => { database => $floor->{database}, copy => 1 },
        calls      => ['new'],
        contestant => \%floor,
        what       => { new => 'for comparison: bare `INSERT`' },
        $beside->(\%floor));
    return;
}

# The reader's hour has as many batches as three a second make.  What each one costs
# grows with those before it, since nothing of them can be pruned.
sub old_reader ($base) {
    my $batches = scaled(10_000, 300);
    my $title   = 'a reader ' . with_commas($batches) . ' batches old';
    my $store   = store_with('load_hour', <<~'END');
        SELECT es_create_aggregate('Hour', snapshot_every => 10, rules => '{"Ticked": {"$inc": {"n": 1}}}');
        SELECT es_create_subscription('hour', after => es_head_position());
        CREATE TABLE ticks (stream text PRIMARY KEY, n bigint);
        SELECT es_create_projection('ticks', 'INSERT INTO ticks SELECT stream, count(*) FROM new_events GROUP BY stream
            ON CONFLICT (stream) DO UPDATE SET n = ticks.n + excluded.n', '{ticks}', types => '{Ticked}',
            mode => 'async', granularity => 'batch');
        END
    my $measure = sub ($key) { run_call($key, $store, 10000) };
    # what there is to fetch, also in the longest run
    my $supply = "SELECT count(es_append('Supply-' || i % 1000, 'Supplied')) FROM generate_series(1, 200000) i";
    my $hour = file_of('hour', <<~'END');
        \set stream random(1, 1000)
        SELECT es_append_events('Hour-' || :stream, (SELECT jsonb_agg('{"type": "Ticked"}'::jsonb) FROM generate_series(1, 10)));
        SELECT coalesce(array_agg(position), '{}') AS positions FROM es_fetch('hour', 'c', 10) \gset
        SELECT es_ack('hour', 'c', :positions::bigint[]);
        CALL es_run();
        END
    my @calls  = qw(new some batch run);
    my @tables = qw(events subscription_cursors leases projection_cursors snapshots);
    my %size;
    my $note_sizes = sub ($when) {
        for my $table (@tables) {
            $size{$table}{$when} = query($store, "SELECT pg_total_relation_size('es.$table')");
        }
    };

    query($store, $supply);
    my %runs;
    for my $round (1 .. $option{rounds}) {
        push $runs{$_}{base}->@*, $measure->($_) for @calls;
    }
    query($store, 'VACUUM ANALYZE');
    $note_sizes->('before');
    my $reader = start("$ENV{BINDIR}/psql", '-X', '-d', $store, '-c', 'BEGIN ISOLATION LEVEL REPEATABLE READ', '-c',
        'SELECT count(*) FROM es.events', '-c', 'SELECT pg_sleep(10000)');
    wait_for('the reader', $store, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1%' AND state = 'active'
        AND pid <> pg_backend_pid()}, $reader);
    my $run = pgbench(script => $hour, database => $store, variables => {}, clients => 1, sync => 'off', calls => $batches);
    die "the reader's hour: $run->{error}\n" if $run->{error};
    query($store, 'VACUUM');
    $note_sizes->('with');
    query($store, $supply);
    for my $round (1 .. $option{rounds}) {
        push $runs{$_}{load}->@*, $measure->($_) for @calls;
    }
    query('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$store' AND query LIKE '%pg_sleep(1%'");
    stop($reader);
    add_row($title, $call{$_}{title}, $runs{$_}->@{qw(base load)}) for @calls;

    query($store, 'VACUUM');
    $note_sizes->('after');
    push $runs{batch}{after}->@*, $measure->('batch') for 1 .. $option{rounds};
    add_row("$title, gone and vacuumed", $call{batch}{title}, $runs{batch}->@{qw(base after)});
    for my $table (@tables) {
        add_figure($title, "`es.$table`, kB before, with it, after vacuum",
            join ', ', map { with_commas(int($size{$table}{$_} / 1024)) } qw(before with after));
    }
    add_figure($title, 'events appended, batches fetched', with_commas($batches * 10) . ', ' . with_commas($batches));
    drop_database($store);
    return;
}

# 10 events in each stream, filled by two sessions.
sub large_store ($base) {
    my $streams = int($option{events} / 10);
    my $title   = with_commas($streams * 10) . ' events in ' . with_commas($streams) . ' streams';
    my $store   = store_with('load_large', 'SELECT 1;');
    my $from    = 10_001;
    my $half    = int(($streams - 10_000) / 2);
    my $started = time;
    my @fillers = map {
        start("$ENV{BINDIR}/psql", '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $store, '-v', 'shape=order', '-v', 'first=' . ($from + $_ * $half),
            '-v', "streams=$half", '-v', 'events=10', '-o', '/dev/null', '-f', script_of_fill())
    } 0, 1;
    for my $filler (@fillers) {
        waitpid $filler, 0;
        if ($?) {
            open my $log, '<', "$ENV{BENCH_TMP}/beside.log";
            die "filling: ", <$log>;
        }
    }
    query($store, "SELECT count(es_snapshot('Order-' || i)) FROM generate_series($from, $from + $streams / 100) i");
    query($store, 'VACUUM ANALYZE');
    query('postgres', 'CHECKPOINT');
    printf "filled in %d s\n", time - $started;
    situation($title,
        base    => { database => $base, copy => 1 },
        load    => { database => $store },
        streams => $from + 2 * $half - 1,
        calls   => [qw(new some safe)]);
    verify($title, $store);
    drop_database($store);
    return;
}

sub script_of_fill () {
    return "$Bench::Catalog::DIR/contestants/ours/fill.sql";
}

# How long es_verify() takes, and what its backend needs beside shared memory.
sub verify ($title, $store) {
    my $temp    = "SELECT temp_bytes FROM pg_stat_database WHERE datname = '$store'";
    my $before  = query('postgres', $temp);
    my $started = time;
    my $pid     = start("$ENV{BINDIR}/psql", '-X', '-d', $store, '-c', 'SELECT problem, detail FROM es_verify()');
    my $most    = 0;
    my $backend;
    until (waitpid($pid, WNOHANG)) {
        $backend ||= query('postgres', "SELECT max(pid) FROM pg_stat_activity WHERE datname = '$store' AND backend_type = 'client backend'");
        if ($backend && open my $status, '<', "/proc/$backend/status") {
            $most = max($most, map { /^RssAnon:\s+(\d+)/ } <$status>);
        }
        sleep 0.2;
    }
    my $seconds = time - $started;
    open my $log, '<', "$ENV{BENCH_TMP}/beside.log";
    my $found = join '', <$log>;
    die "es_verify() found something: $found" unless $found =~ /\(0 rows\)/;
    add_figure($title, '`es_verify()`', sprintf '%.0f s, %s MB of memory, %s MB of temporary files', $seconds,
        with_commas(int($most / 1024)), with_commas(int((query('postgres', $temp) - $before) / 1024 / 1024)));
    return;
}

sub many_types ($base) {
    my $make = sub ($n) {
        store_with("load_types_$n", <<~"END");
            SELECT es_create_aggregate('Many', rules => (
                SELECT jsonb_object_agg('Type' || i, jsonb_build_object('\$inc', jsonb_build_object('n' || i % 10, 1)))
                FROM generate_series(1, $n) i), snapshot_every => 0);
            SELECT count(es_append('Many-' || i % 100, 'Type' || 1 + i % $n)) FROM generate_series(1, 10000) i;
            SELECT es_create_index('type');
            END
    };
    my ($few, $many) = map { $make->($_) } 4, 1000;
    situation('1,000 event types (4)',
        base  => { database => $few,  copy => 1, variables => { types => 4 } },
        load  => { database => $many, copy => 1, variables => { types => 1000 } },
        calls => [qw(type load)],
        what  => { load => '`es_load` of a stream of 100 events' });
    drop_database($_) for $few, $many;
    return;
}

sub many_projections ($base) {
    my $make = sub ($name, $n, $mode) {
        store_with($name, <<~"END");
            SELECT es_create_subscription('idle', types => '{Seldom}', after => es_head_position());
            CREATE TABLE model (stream text PRIMARY KEY, n bigint);
            SELECT count(es_create_projection('p' || i, 'INSERT INTO model SELECT stream, 1 FROM new_events
                ON CONFLICT (stream) DO UPDATE SET n = model.n + 1', '{model}', types => ARRAY['Seldom' || i], mode => '$mode'))
            FROM generate_series(1, $n) i;
            CALL es_run();
            END
    };
    for my $mode (qw(async inline)) {
        my ($one, $many) = ($make->('load_one', 1, $mode), $make->('load_many', 100, $mode));
        situation("100 $mode projections of types that do not occur (1)",
            base  => { database => $one,  copy => 1 },
            load  => { database => $many, copy => 1 },
            calls => $mode eq 'async' ? [qw(run round new some)] : [qw(new some)]);
        drop_database($_) for $one, $many;
    }
    return;
}

sub many_subscriptions ($base) {
    my $make = sub ($name, $n) {
        store_with($name, <<~"END");
            SELECT count(es_create_subscription('s' || i, types => '{Seldom}')) FROM generate_series(1, $n - 1) i;
            SELECT es_create_subscription('idle', types => '{Seldom}', after => es_head_position());
            SELECT count(es_create_handler('h' || i, 'SELECT', types => ARRAY['Seldom' || i], after => es_head_position()))
            FROM generate_series(1, $n) i;
            END
    };
    my ($one, $many) = ($make->('load_one', 1), $make->('load_many', 100));
    situation('100 subscriptions and 100 handlers (1 and 1)',
        base  => { database => $one,  copy => 1 },
        load  => { database => $many, copy => 1 },
        calls => [qw(fetch run round new some)]);
    drop_database($_) for $one, $many;
    return;
}

# All rows; the large store has that many events, and the rest goes with it.
sub load ($events, $rounds, $seconds) {
    %option = (events => max($events, 200_000), scale => $events / 10_000_000, rounds => $rounds, seconds => $seconds);
    my $base = make_store(\%ours, \%small);
    die "$base->{error}\n" if $base->{error};
    for my $situation (\&open_appenders, \&old_reader, \&many_types, \&many_projections, \&many_subscriptions, \&large_store) {
        my $started = time;
        $situation->($base->{database});
        printf "(%d s)\n", time - $started;
    }
    return \@rows;
}

1;
