# examples/orders.sql runs, and shows what it says it shows.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

# The file itself stops at an error, except where it shows one.
my ($status, $stdout, $stderr) =
  $node->psql('postgres', slurp_file('examples/orders.sql'),
  extra_params => [ '--no-align', '--tuples-only' ]);
is($status, 0, 'the example runs to its end');

my @errors = $stderr =~ /ERROR: +(.*)/g;
is(scalar @errors, 2, 'with two errors') or diag($stderr);
like($errors[0], qr/version conflict on stream "Order-1"/, 'the stale append');
like($errors[1], qr/append-only/, 'and the UPDATE of the log');
my @states = $stdout =~ /SQLSTATE (\w+)/g;
is("@states", 'ZE001 ZE005', 'whose SQLSTATEs it prints');

like($stdout, qr/^549\.00\|494\.10\|grace\|late delivery last time$/m,
	'the total before the discount, and who approved it');
like($stdout, qr/^.+\|12 Mill Lane\|7 Harbour Street\|ada$/m,
	'the address before it changed');
like($stdout, qr/^3\|\{"Desk lamp": 2, "Walnut desk": 1\}\|549\.00$/m,
	'the order as it was at version 3');

is( $node->safe_psql(
		'postgres',
		q{SELECT version, state->>'status', state->>'total_cents' FROM es_load('Order-1')}),
	'8|shipped|69310',
	'the order in the end');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT stream) FROM es.events'),
	'17180|3000', 'the generated orders are the same every time');
is( $node->safe_psql(
		'postgres', q{
		SELECT o.state->>'status', count(*), sum((o.state->'total_cents')::bigint)
		FROM es.streams AS s CROSS JOIN LATERAL es_load(s.stream) AS o
		GROUP BY 1 ORDER BY 1}),
	"cancelled|484|35302240\npaid|244|15638001\nshipped|2272|166477718",
	'and so are their states');

done_testing();
