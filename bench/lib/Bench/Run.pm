# One run: a workload's prelude and a contestant's action under pgbench.

package Bench::Run;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(script_for variables_for run_once);

use Bench::Catalog;
use Bench::Server;
use Bench::Store;

# The data of a single append: 215 bytes, like those of the fills.
my $DATA = '{"note": "please ring twice", "lines": [{"qty": 2, "sku": "A-1001", "cents": 1999},'
  . ' {"qty": 1, "sku": "B-2002", "cents": 4999}], "order": 4711, "amount": 8997,'
  . ' "customer": {"id": 123, "email": "ada@example.com"}}';
my $METADATA = '{"messageId": "a1b2c3d4-e5f6-4a7b-8c9d-123456789012"}';

sub slurp ($file) {
    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return <$in>;
}

# The name of the file that pgbench runs, and its text.
sub script_for ($workload, $contestant) {
    my $text = join "\n", map { slurp($_) } grep { defined }
      $workload->{prelude} && "$Bench::Catalog::DIR/workloads/$workload->{prelude}.sql",
      script_of($contestant, $workload->{action});
    my $file = "$ENV{BENCH_TMP}/$workload->{name}.$contestant->{name}.sql";
    open my $out, '>', $file or die "$file: $!\n";
    print $out $text;
    close $out;
    return ($file, $text);
}

# All that a prelude or an action may name, less what this one doesn't.
sub variables_for ($text, $workload, $store, $clients) {
    my %fill = fill_of($workload);
    my $n    = $workload->{events} // 1;
    my $quoted = '"' . $DATA =~ s/"/\\"/gr . '"';
    my %variable = (
        i             => -1,
        clients       => $clients,
        first         => $store->{first},
        head          => $store->{head},
        streams       => $fill{streams},
        stride        => $store->{stride} // 1,
        events_before => $store->{events_before} // $fill{events},
        events        => $n,
        data          => $DATA,
        metadata      => $METADATA,
        partition     => 'emt:default',
        types         => '{' . join(',', ('ItemAdded') x $n) . '}',
        datas         => '{' . join(',', ($quoted) x $n) . '}',
        batch         => '[' . join(',', (qq({"type": "ItemAdded", "data": $DATA})) x $n) . ']');
    return { map { ($_ => $variable{$_}) } grep { $text =~ /:$_\b/ } keys %variable };
}

# How many events have come to a store, if that says what a run has done.
sub counted ($workload, $contestant, $store) {
    my $script = $workload->{count} // ($workload->{action} =~ /^append/ ? 'count' : return);
    my %events = events_in($contestant, $store->{database}, $store->{head}, $script);
    return $events{count};
}

# Replace a call's time by how long after it what it appended was handled.
sub add_latency ($result, $workload, $contestant, $store) {
    my $latency = eval { psql($store->{database}, {}, '-f', script_of($contestant, $workload->{latency})) };
    if (!defined $latency) {
        $result->{error} = $@;
        return;
    }
    my ($count, $median, $p99) = split /\t/, $latency;
    if ($count != $result->{transactions}) {
        $result->{error} = "Error: $result->{transactions} events were appended, but $count handled";
        return;
    }
    @$result{qw(ms p99)} = ($median + 0, $p99 + 0);
    return;
}

# { rate (events a second), ms (a call), transactions, p99 of a latency } or
# { error }.
sub run_once ($workload, $contestant, $large, $clients, $sync, $seconds, $calls = $workload->{calls}) {
    my $store = store_for($contestant, $workload, $large);
    return $store if $store->{error};

    my ($file, $text) = script_for($workload, $contestant);
    my $before = counted($workload, $contestant, $store);
    set_worker($store->{database}) if $contestant->{worker};
    my $result = pgbench(
        script    => $file,
        database  => $store->{database},
        user      => $contestant->{user},
        variables => variables_for($text, $workload, $store, $clients),
        clients   => $clients,
        sync      => $sync,
        seconds   => $seconds,
        calls     => $calls && $calls / $clients,
        at        => $workload->{at});
    add_latency($result, $workload, $contestant, $store) if $workload->{latency} && !$result->{error};
    set_worker(undef) if $contestant->{worker};
    return $result if $result->{error};

    my $events = $result->{transactions} * ($workload->{events} // 1);
    if (defined $before) {
        my $done = abs(counted($workload, $contestant, $store) - $before);
        return { error => "reported $events events, but $done were counted" }
          if $done != $events && !$workload->{counted};
        $events = $done;
    }
    $result->{rate} = $result->{tps} * $events / $result->{transactions};
    return $result;
}

1;
