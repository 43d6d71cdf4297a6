# Contestants' stores: databases that are made once per contestant and history,
# and copied for every run that writes.

package Bench::Store;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(make_store store_for events_in versions);

use Bench::Catalog;
use Bench::Server;

my %store;      # by contestant and history: { database, count, head } or { error }
my %version;    # of what npm installed, by contestant
my $OLD = 20;   # events of a stream in a large store

sub versions { return \%version }

# The folder that npm has put a contestant's packages into.
sub npm_folder ($contestant) {
    my $package = $contestant->{npm};
    my $cache   = ($ENV{XDG_CACHE_HOME} // "$ENV{HOME}/.cache") . "/eventsourcing-bench/" . $package =~ s{/}{-}gr;
    if (!-e "$cache/complete") {
        my ($output, $status) =
          run_command({}, qw(npm install --no-save --no-audit --no-fund --silent --prefix), $cache, $package);
        die "npm could not install $package: $output\n" if $status;
        open my $mark, '>', "$cache/complete" or die "$cache/complete: $!\n";
    }
    ($version{ $contestant->{name} }) = $package =~ /@([^@]+)$/;
    return "$cache/node_modules";
}

# Run a contestant's script, if it has it.
sub setup ($contestant, $database, $script, $variables) {
    my $file = script_of($contestant, $script) // return;
    if ($file =~ /\.sql$/) {
        psql($database, $variables, '-f', $file);
    } else {
        my ($output, $status) =
          run_command({ PGDATABASE => $database }, 'bash', $file, npm_folder($contestant));
        die "$output\n" if $status;
    }
    return;
}

# The store of a contestant with a workload's history, made when first needed.
# With the number $large, that many events are in it already.
sub make_store ($contestant, $workload, $large = 0) {
    my %fill = fill_of($workload);
    %fill = (%fill, streams => int($large / $OLD), events => $OLD) if $large;
    my $setup = $workload->{setup} // '';
    my $key = join ' ', $contestant->{name}, $setup, map { "$_=$fill{$_}" } sort keys %fill;
    return $store{$key} if $store{$key};

    my $database = "$contestant->{name}_" . keys %store;
    my $made     = eval {
        query('postgres', qq{CREATE DATABASE "$database"});
        psql($database, {}, '-f', "$Bench::Catalog::DIR/contestants/common.sql");
        setup($contestant, $database, 'setup', \%fill);
        setup($contestant, $database, $setup,  \%fill) if $setup;
        setup($contestant, $database, 'fill', \%fill) if $fill{streams};
        query($database, 'VACUUM ANALYZE')             if $fill{streams} || $setup;
        1;
    };
    my $error = $@ =~ s/\s+$//r;
    return $store{$key} = $made ? { database => $database, first => 1, events_in($contestant, $database) }
                                : { error => $error };
}

# How many events there are after a position, and the last position.  (To count all
# of a large store each time would take longer than the runs.)
sub events_in ($contestant, $database, $after = 0, $script = 'count') {
    my ($count, $head) = split /\t/, psql($database, { after => $after }, '-f', script_of($contestant, $script));
    return (count => $count, head => $head || $after);
}

# The store for one run: { database, first (stream), count, head } or { error }.
sub store_for ($contestant, $workload, $large = 0) {
    my $store = make_store($contestant, $workload, $large);
    return $store if $store->{error};
    my $writes = ($workload->{writes} // 'yes') eq 'yes';

    if (!$large) {
        return $store unless $writes;
        copy_database($store->{database}, 'run');
        return { %$store, database => 'run' };
    }

    my %fill = fill_of($workload);
    if ($writes && $fill{streams}) {
        my $slices = int($large / $OLD / $fill{streams});
        my $slice  = ++$store->{slices};
        return { error => "no untouched streams are left after $slices runs" } if $slice > $slices;
        query('postgres', 'CHECKPOINT');
        return { %$store, first => $slice, stride => $slices, events_before => $OLD,
            events_in($contestant, $store->{database}, $store->{head}) };
    }
    # New streams, or a history that runs leave alone.
    my $own = $writes ? undef : $store->{filled}{ $workload->{name} };
    return $own if $own;
    $fill{first} = ++$store->{fills} * 1_000_000_000;
    setup($contestant, $store->{database}, 'fill', \%fill) if $fill{streams};
    query('postgres', 'CHECKPOINT');
    return $store->{filled}{ $workload->{name} } =
      { %$store, first => $fill{first}, events_in($contestant, $store->{database}, $store->{head}) };
}

1;
