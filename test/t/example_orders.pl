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
is(scalar @errors, 4, 'with four errors') or diag($stderr);
is($errors[0], 'cannot ship an order that is open', 'a rule of the business');
like($errors[1], qr/version conflict on stream "Order-1"/, 'the stale command');
like($errors[2], qr/version conflict on stream "Order-1"/, 'the stale append');
like($errors[3], qr/append-only/, 'and the UPDATE of the log');
my @states = $stdout =~ /SQLSTATE (\w+)/g;
is("@states", 'ZE001 ZE001 ZE005', 'whose SQLSTATEs it prints');

# Shown, and so still true.
sub shows
{
	my ($lines, $name) = @_;
	my $found = index("\n$stdout", "\n$lines\n") >= 0;

	ok($found, $name) or diag($lines);
	return;
}

shows('549.00|494.10|grace|late delivery last time', 'the total before the discount, and who approved it');
like($stdout, qr/^.+\|12 Mill Lane\|7 Harbour Street\|ada$/m, 'the address before it changed');
shows('3|[{"item": "Walnut desk", "quantity": 1}, {"item": "Desk lamp", "quantity": 2}]|549.00',
	'the order as it was at version 3');
shows("Order-1|Ada|shipped|693.10\nOrder-2|Ken|open|258.00", 'the read model within the transaction');
shows('0|1', 'and after its rollback');
shows('17180|3000', 'the generated orders are the same every time');
shows('Ada|324|58,271.69|62,152.08|55,381.35|51,585.98', 'what a customer spent in each quarter');
shows('Bookshelf|3000|1825|1175', 'the stock of a product');
shows("customer_quarterly_stats|async|running|0\norder_read_model|inline|running|0\nstock|async|running|0",
	'the projections agree with the events');
shows(<<'END' =~ s/\n$//r, 'what the process manager did');
Payment-of-Order-3001|PaymentAwaited|{}
Payment-of-Order-3001|PaymentOverdue|{"order": "Order-3001"}
Payment-of-Order-3001|ExpiryRequested|{}
Payment-of-Order-3001|NoLongerAwaited|{"because": "OrderCancelled"}
Payment-of-Order-3002|PaymentAwaited|{}
Payment-of-Order-3002|NoLongerAwaited|{"because": "PaymentReceived"}
END
shows("Order-3001|Edsger|cancelled|49.50\nOrder-3002|Frances|shipped|59.00", 'and what came of it');
shows("Frances|Order-3002 is on its way: PX-23733\nEdsger|Order-3001 is cancelled: not paid in time",
	'a mail for each, and none for the orders before');
shows("  PaymentOverdue|Payment-of-Order-3001\n    OrderCancelled|Order-3001", 'what led to what');

sub result { return $node->safe_psql('postgres', @_); }

is(result(q{SELECT version, state->>'status', state->>'total_cents' FROM es_load('Order-1')}),
	'8|shipped|69310', 'the order in the end');
is( result(q{
		SELECT o.state->>'status', count(*), sum((o.state->'total_cents')::bigint)
		FROM es.streams AS s CROSS JOIN LATERAL es_load(s.stream) AS o
		WHERE s.category = 'Order'
		GROUP BY 1 ORDER BY 1}),
	"cancelled|485|35307205\npaid|244|15638004\nshipped|2273|166483662", 'and so are their states');
is( result(q{
		SELECT count(*) FROM es.streams AS s CROSS JOIN LATERAL es_load(s.stream) AS o
		FULL JOIN order_read_model AS m ON m.order_id = s.stream
		WHERE s.category = 'Order'
		AND (m.customer, m.status, m.total_cents) IS DISTINCT FROM
			(o.state->>'customer', o.state->>'status', (o.state->'total_cents')::bigint)}),
	0, 'the read model has what the rules fold');

# The race that the deadline has to stand: paid after the timer went off, before
# the handler got to it.
is( result(q{
		SELECT es_execute('Order-3003', 'create', '{"customer": "Ken", "address": "x"}');
		SELECT es_execute('Order-3003', 'add item', '{"item": "Desk lamp", "quantity": 1, "price_cents": 4950}');
		SELECT es_append('Payment-of-Order-3003', 'PaymentOverdue', '{"order": "Order-3003"}');
		SELECT es_execute('Order-3003', 'pay', '{"method": "card", "amount_cents": 4950, "paid_on": "2026-01-02"}');
		CALL es_run();
		CALL es_run();
		SELECT state->>'status' FROM es_load('Order-3003')}) =~ s/.*\n//sr,
	'paid', 'a paid order does not expire');

done_testing();
