# check.pl EXPORTER PROMETHEUS: a store is scraped, and every query of the
# dashboard and of the alerts has an answer that is right as far as it can be
# told.  PGHOST and PGDATABASE name a database with store.sql and role.sql.
#
# Would fail: a metric that is renamed, a query that the exporter refuses or has
# no rights for, a panel that shows nothing.
use strict;
use warnings;

use Cwd;
use File::Temp;
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;

my ($exporter, $prometheus) = @ARGV;
my $http = HTTP::Tiny->new(timeout => 5);
my $dir = File::Temp->newdir;
my @pids;
my $bad = 0;

END { local $?; kill 'TERM', @pids if @pids; waitpid $_, 0 for @pids; }

sub check
{
	my ($good, $what, $detail) = @_;
	print $good ? "ok - $what\n" : "not ok - $what\n";
	print "  $detail\n" if !$good && defined $detail;
	$bad ||= !$good;
}

sub free_port { return IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')->sockport; }

sub start
{
	my ($log, @command) = @_;
	my $pid = fork // die "cannot fork: $!";
	if (!$pid)
	{
		open STDOUT, '>', "$dir/$log";
		open STDERR, '>&', \*STDOUT;
		exec @command or die;
	}
	push @pids, $pid;
}

# The answer of a server that has just been started.
sub wait_for
{
	my ($url, $good) = @_;
	for (1 .. 300)
	{
		my $answer = $http->get($url);
		return $answer->{content} if $answer->{success} && $good->($answer->{content});
		select undef, undef, undef, 0.1;
	}
	return '';
}

sub slurp { local (@ARGV, $/) = @_; return scalar <>; }

my ($exporter_port, $port) = (free_port(), free_port());
$ENV{DATA_SOURCE_NAME} = "postgresql:///$ENV{PGDATABASE}?host=$ENV{PGHOST}&user=es_monitor&sslmode=disable";
start('exporter.log', $exporter, '--extend.query-path=monitoring/queries.yaml', "--web.listen-address=127.0.0.1:$exporter_port");
my $metrics = wait_for("http://127.0.0.1:$exporter_port/metrics", sub { $_[0] =~ /^pg_up\b/m });
check($metrics =~ /^pg_exporter_user_queries_load_error\{[^}]*\} 0$/m, 'the exporter reads queries.yaml');

my @errors = grep { /\bes_\w+|permission|error running query/i && /level=(error|warn)/ } split /\n/, slurp("$dir/exporter.log");
check(!@errors, 'no query fails', "@errors");

# Every metric of the file has a value.
my ($space, %metrics);
foreach (split /\n/, slurp('monitoring/queries.yaml'))
{
	$space = $1 if /^(\w+):$/;
	$metrics{"${space}_$1"} = 1 if /^    - (\w+): \{usage: "(?:GAUGE|COUNTER)"/;
}
my @silent = grep { $metrics !~ /^\Q$_\E\{/m } sort keys %metrics;
check(keys %metrics > 20 && !@silent, 'every metric has a value', "@silent");
my %wanted = (
	'es_store_guards{' => 2,
	'es_store_head_position{' => 30,
	'es_projection_lag{mode="inline"' => 0,
	'es_projection_lag{mode="async"' => 30,
	'es_subscription_parked{' => 1,
	'es_subscription_leased{' => 2,
	'es_timers_scheduled{' => 1,
	'es_rebuild_done{' => 3);
foreach my $metric (sort keys %wanted)
{
	my ($value) = $metrics =~ /^\Q$metric\E.* (\S+)$/m;
	check(defined $value && $value == $wanted{$metric}, "$metric...} is $wanted{$metric}", $value);
}

open my $config, '>', "$dir/prometheus.yml" or die;
print $config "global: {scrape_interval: 200ms}\nrule_files: [" . getcwd() . "/monitoring/alerts.yml]\n",
  "scrape_configs: [{job_name: eventsourcing, static_configs: [{targets: ['127.0.0.1:$exporter_port']}]}]\n";
close $config;
start('prometheus.log', $prometheus, "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/data", "--web.listen-address=127.0.0.1:$port");

sub query
{
	my ($expr) = @_;
	my $answer = $http->get("http://127.0.0.1:$port/api/v1/query?" . $http->www_form_urlencode({ query => $expr }));
	my $json = eval { decode_json($answer->{content}) } // {};
	return ($json->{status} // '') eq 'success' ? $json->{data}{result} : [];
}

# rate() needs two samples
wait_for("http://127.0.0.1:$port/api/v1/query?query=count_over_time(es_counter_total%5B1m%5D)",
	sub { $_[0] =~ /"value":\[[\d.]+,"(\d+)"/ && $1 >= 3 }) or print slurp("$dir/prometheus.log");
my $dashboard = decode_json(slurp('monitoring/dashboard.json'));
foreach my $panel (@{ $dashboard->{panels} })
{
	foreach my $target (@{ $panel->{targets} })
	{
		my $expr = $target->{expr};
		$expr =~ s/\$store/es/g;
		$expr =~ s/\$__rate_interval/1m/g;
		my $result = query($expr);
		check(scalar @$result, "panel \"$panel->{title}\": $expr");
	}
}
check(@{ $dashboard->{panels} } > 10, 'there are panels');
my $rules = decode_json($http->get("http://127.0.0.1:$port/api/v1/rules")->{content});
my @rules = map { @{ $_->{rules} } } @{ $rules->{data}{groups} };
check(@rules > 5, 'Prometheus takes the alerts');

# An alert that nobody is told what to do about is noise.
my $guide = slurp('docs/monitoring.md');
my @unknown = grep { index($guide, $_) < 0 } map { $_->{name} } @rules;
check(!@unknown, 'docs/monitoring.md says what to do for each', "@unknown");
exit $bad;
