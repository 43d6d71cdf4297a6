# What can be measured: bench/workloads.ini, bench/contestants.ini, and the
# scripts that they name.

package Bench::Catalog;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(read_ini script_of takes_part cells_of fill_of);

our $DIR;    # bench/

# The sections of an ini file, in order, each with its name in {name}.
sub read_ini ($name) {
    open my $in, '<', "$DIR/$name.ini" or die "$DIR/$name.ini: $!\n";
    my @sections;
    while (<$in>) {
        if    (/^\s*(#|$)/)            { next }
        elsif (/^\[(.+)\]$/)           { push @sections, { name => $1 } }
        elsif (/^(\S+)\s*=\s*(.*\S)$/) { $sections[-1]{$1} = $2 }
        else                           { die "$name.ini:$.: not understood: $_" }
    }
    return @sections;
}

# A contestant's script, or that of the contestant whose scripts it takes.
sub script_of ($contestant, $script) {
    for my $name (grep { defined } $contestant->{name}, $contestant->{like}) {
        for my $file (map { "$DIR/contestants/$name/$script.$_" } qw(sql sh)) {
            return $file if -e $file;
        }
    }
    return;
}

# Whether the contestant has what the workload needs.  Appending is never
# inherited: two contestants with one script would be one contestant.
sub takes_part ($workload, $contestant) {
    return 0 if ($contestant->{only} // $workload->{name}) ne $workload->{name};
    if ($workload->{who}) {
        return 0 unless grep { $_ eq $contestant->{name} } split ' ', $workload->{who};
        return defined script_of($contestant, $workload->{action});
    }
    return -e "$DIR/contestants/$contestant->{name}/$workload->{action}.sql";
}

# [clients, synchronous_commit] of each cell that a list of the workload names.
sub cells_of ($workload, $list) {
    return map { [ split m{/} ] } split ' ', $workload->{$list} // '';
}

# The variables of a workload's fill.
sub fill_of ($workload) {
    return (
        first => 1, streams => 0, events => 0, shape => 'order', snapshot_every => 0,
        map { split /=/ } split ' ', $workload->{fill} // '');
}

1;
