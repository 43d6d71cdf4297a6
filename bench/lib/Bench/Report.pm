# What the rounds have measured: medians, a Markdown table, SVG charts.

package Bench::Report;
use v5.36;
use Exporter 'import';
our @EXPORT = qw(median number summarise write_report);

use JSON::PP;
use List::Util qw(first max uniq);

sub median (@values) {
    return unless @values;
    my @sorted = sort { $a <=> $b } @values;
    return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

# Add to a cell { runs => { NAME => [ROUND, ...] } } the medians of what was
# measured, and of its ratio to the base in the same round.
sub summarise ($cell) {
    for my $name (sort keys $cell->{runs}->%*) {
        my $runs = $cell->{runs}{$name};
        my $base = $cell->{runs}{ $cell->{base}{$name} } // [];
        $cell->{rate}{$name} = median(map { $_->{rate} } grep { $_ } @$runs);
        $cell->{ms}{$name}   = median(map { $_->{ms} } grep { $_ } @$runs);
        $cell->{p99}{$name}  = median(map { $_->{p99} // () } grep { $_ } @$runs);
        my $ratio = median(
            map { $runs->[$_]{rate} / $base->[$_]{rate} } grep { $runs->[$_] && $base->[$_] } 0 .. $#$runs);
        $cell->{ratio}{$name} = $ratio if defined $ratio;
    }
    return;
}

sub write_file ($file, $text) {
    open my $out, '>', $file or die "$file: $!\n";
    print $out $text;
    close $out or die "$file: $!\n";
    return;
}

# BASE.json, BASE.md and BASE-CHART.svg.
sub write_report ($results, $base) {
    write_file("$base.json", JSON::PP->new->canonical->pretty->encode($results));
    my @charts;
    for my $chart (uniq map { $_->{chart} } $results->{workloads}->@*) {
        write_file("$base-$chart.svg", chart(grep { $_->{chart} eq $chart } $results->{workloads}->@*));
        push @charts, "$base-$chart.svg";
    }
    my $markdown = markdown($results, @charts);
    write_file("$base.md", $markdown);
    return $markdown;
}

#
# Markdown
#

sub markdown ($results, @charts) {
    my $machine = $results->{machine};
    my $rounds  = $results->{cost} ? '' : "; medians of $results->{rounds} interleaved rounds of $results->{seconds} s";
    my $text    = "Made on $results->{date} by `$results->{command}`: eventsourcing $results->{extension}, "
      . "PostgreSQL $results->{postgresql}, $machine->{cores} × $machine->{cpu}, $machine->{memory}, "
      . "$machine->{system}$rounds. Settings: "
      . join(', ', map { "`$_ = $results->{settings}{$_}`" } sort keys $results->{settings}->%*) . ".\n\n";
    for my $workload ($results->{workloads}->@*) {
        $text .= table($workload);
    }
    $text .= cost_table($results->{cost}) if $results->{cost};
    $text .= load_table($results->{load}) if $results->{load};
    $text .= "Skipped:\n\n" . join('', map { "- $_\n" } $results->{skipped}->@*) . "\n"
      if $results->{skipped}->@*;
    $text .= join '', map { sprintf "![%s](%s)\n", m{([^/-]+)\.svg$}, m{([^/]+)$} } @charts;
    return $text;
}

# A row of a table.
sub row (@values) {
    return '| ' . join(' | ', @values) . " |\n";
}

# 12,345 and 0.0123: what is worth knowing of a number.
sub number ($value) {
    return '–' unless defined $value;
    my $digits = $value >= 100 ? 0 : $value >= 10 ? 1 : $value >= .1 ? 2 : 3;
    my $text   = sprintf "%.${digits}f", $value;
    1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
    return $text;
}

sub cell_title ($cell) {
    my $clients = $cell->{clients} == 1 ? '1 client' : "$cell->{clients} clients";
    return $cell->{sync} eq 'none' ? $clients : "$clients, $cell->{sync}";
}

sub cell_text ($workload, $cell, $name) {
    return '–' unless defined $cell->{rate}{$name};
    my $value = $workload->{show} eq 'ms' ? number($cell->{ms}{$name}) . ' ms' : number($cell->{rate}{$name}) . '/s';
    $value .= ', 99 %: ' . number($cell->{p99}{$name}) . ' ms' if defined $cell->{p99}{$name};
    my $ratio = $cell->{ratio}{$name};
    return defined $ratio ? sprintf('**%s** (%s)', $ratio < .01 ? sprintf('%.4f', $ratio) : sprintf('%.2f', $ratio), $value) : $value;
}

sub table ($workload) {
    my @cells = $workload->{cells}->@*;
    my $text  = "### $workload->{title}\n\n";
    $text .= row('', map { cell_title($_) } @cells) . row('---', ('---:') x @cells);
    for my $name ($workload->{contestants}->@*) {
        $text .= row($name, map { cell_text($workload, $_, $name) } @cells);
    }
    return "$text\n";
}

sub cost_table ($costs) {
    my @columns = (
        [ cpu          => 'CPU µs' ],
        [ wal_bytes    => 'WAL bytes' ],
        [ wal_records  => 'WAL records' ],
        [ heap_bytes   => 'heap bytes' ],
        [ index_bytes  => 'index bytes' ],
        [ instructions => 'instructions' ]);
    my $text = '';
    for my $workload (uniq map { $_->{workload} } @$costs) {
        my @rows = grep { $_->{workload} eq $workload } @$costs;
        my @used = grep { my $key = $_->[0]; grep { defined $_->{$key} } @rows } @columns;
        $text .= "### cost of $rows[0]{title}, per event\n\n"
          . row('', map { $_->[1] } @used) . row('---', ('---:') x @used);
        $text .= row($_->{contestant}, do { my $cost = $_; map { number($cost->{ $_->[0] }) } @used }) for @rows;
        $text .= "\n";
    }
    return $text;
}

sub load_table ($rows) {
    my $text = row('under load', 'call', 'without', 'with', 'ratio', 'longest') . row('---', '---', ('---:') x 4);
    my $situation = '';
    for my $row (@$rows) {
        my $title = $row->{situation} eq $situation ? '' : $row->{situation};
        $situation = $row->{situation};
        $text .= defined $row->{text} ? row($title, $row->{call}, '', $row->{text}, '', '')
          : row($title, $row->{call}, (map { number(1000 * $row->{$_}) . ' µs' } qw(base load)),
            sprintf('**%.2f**', $row->{ratio}), number($row->{longest}) . ' ms');
    }
    return "$text\n";
}

#
# SVG
#

my ($WIDTH, $LABEL, $BAR) = (760, 130, 11);

sub escape ($text) {
    return $text =~ s/&/&amp;/gr =~ s/</&lt;/gr;
}

sub text_at ($x, $y, $text, $class = '') {
    return sprintf qq(<text x="%.1f" y="%.1f" class="%s">%s</text>\n), $x, $y, $class, escape($text);
}

# A panel for each workload; in it a bar for each contestant, in up to two
# shades: the first cell and the last.
sub chart (@workloads) {
    my $y    = 8;
    my $body = '';
    my $highest = max(1, map { values $_->{ratio}->%* } map { $_->{cells}->@* } grep { $_->{show} ne 'ms' } @workloads);
    for my $workload (@workloads) {
        my @cells = $workload->{cells}->@*;
        @cells = @cells[ 0, -1 ] if @cells > 2;
        my $ms    = $workload->{show} eq 'ms';
        my $key   = $ms ? 'ms' : 'ratio';
        my @names = grep { my $name = $_; grep { defined $_->{$key}{$name} } @cells } $workload->{contestants}->@*;
        next unless @names;
        my $longest = $ms ? max(map { my $name = $_; map { $_->{ms}{$name} // 0 } @cells } @names) : $highest;
        my $scale   = ($WIDTH - $LABEL - 130) / $longest;

        $body .= text_at(4, $y += 14, $workload->{title} . ($ms ? ', ms' : ', ratio'), 'title');
        my $height = 8 + @names * (@cells * $BAR + 5);
        $body .= sprintf qq(<line x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>\n), ($LABEL + $scale) x 2, $y + 5, $y + $height
          unless $ms;
        $y += 8;
        for my $name (@names) {
            my $class = $name =~ /^ours/ ? 'ours' : 'peer';
            $body .= text_at($LABEL - 8, $y + ($BAR * @cells) / 2 + 4, $name, "name $class-name");
            for my $i (0 .. $#cells) {
                my $value = $cells[$i]{$key}{$name};
                if (defined $value) {
                    my $length = max(1, $value * $scale);
                    $body .= sprintf qq(<rect x="%d" y="%.1f" width="%.1f" height="%d" class="%s%d"/>\n),
                      $LABEL, $y, $length, $BAR - 1, $class, $i;
                    my $label = $ms ? number($value) : sprintf '%.2f', $value;
                    $label .= '  ' . cell_title($cells[$i]) if @cells > 1 && $name eq $names[0];
                    $body .= text_at($LABEL + $length + 4, $y + $BAR - 2, $label, 'value');
                }
                $y += $BAR;
            }
            $y += 5;
        }
        $y += 14;
    }
    return <<~"END";
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $WIDTH $y" width="$WIDTH" height="$y" font-family="system-ui, sans-serif" font-size="11">
        <style>
        text { fill: #57606a } .title { font-size: 13px; font-weight: 600; fill: #24292f } .name { text-anchor: end }
        .ours-name { font-weight: 700; fill: #1f6feb } .value { font-size: 10px }
        .ours0 { fill: #1f6feb } .ours1 { fill: #79b0ff } .peer0 { fill: #8c959f } .peer1 { fill: #c0c7cf }
        line { stroke: #cf222e; stroke-dasharray: 3 3 }
        \@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .title { fill: #e6edf3 } .ours-name { fill: #4493f8 } }
        </style>
        $body</svg>
        END
}

1;
