# The history checker can fail: a good history has no problem, and each that is
# broken in one way has that one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Chaos::Checker;
use Chaos::History;
use Test::More;

# Two clients: a.1 appends two events to S-1, then a.2 fails, b.1 is in the dark,
# b.2 appends to two streams at once.  A reader, and two consumers.
my @history = map { [ split ] } split /\n/, <<'END';
inv a.1 1.0 S-1:2:0
res a.1 2.0 ok 2
inv a.2 3.0 S-1:1:1
res a.2 3.5 fail
inv b.1 1.5 S-2:1:
res b.1 2.5 unknown
inv b.2 4.0 S-1:1:2 S-2:1:-1
res b.2 5.0 ok 3 2
pos r 1 S-1 1
pos r 2 S-1 2
pos r 4 S-2 1
pos r 6 S-1 3
pos r 7 S-2 2
pos r2:S 1 S-1 1
pos r2:S 2 S-1 2
pos r2:S 4 S-2 1
pos r2:S 6 S-1 3
pos r2:S 7 S-2 2
get c1 c1.1 6.0 6.1 1:S-1:1 2:S-1:2
get c2 c2.1 6.0 6.1 4:S-2:1
ack c1 6.2 6.3 ok 1 2
get c2 c2.2 6.4 6.5 6:S-1:3
ack c2 6.5 6.6 unknown 4
get c1 c1.2 6.7 6.8 7:S-2:2
ack c1 6.9 7.0 ok 7
ack c2 6.9 7.0 ok 6
END
my @log = map { [ split /,/, $_, -1 ] } split ' ',
	'1,S-1,1,E,a.1,0,1 2,S-1,2,E,a.1,0,2 4,S-2,1,E,b.1,0,1 6,S-1,3,E,b.2,0,1 7,S-2,2,E,b.2,1,1';

sub problems
{
	my ($lines, $log) = @_;
	my $history = Chaos::History->new;

	$history->add(@$_) for @$lines;
	return Chaos::Checker::check($history, $log);
}

is_deeply([ problems(\@history, \@log) ], [], 'a good history has no problem');

# Each breaks the history, the log or both by a substitution in a line of it.
sub broken
{
	my ($name, $expected, %change) = @_;
	my @lines = map { join ' ', @$_ } @history;
	my @events = map { join ',', @$_ } @log;

	$change{history}->() for $change{history} ? @lines : ();
	$change{log}->() for $change{log} ? @events : ();
	my @problems = problems([ map { [ split ] } map { split /\n/ } @lines ], [ map { [ split /,/, $_, -1 ] } grep { $_ ne '' } @events ]);
	ok((grep { /$expected/ } @problems), "caught: $name") or diag("instead: @problems");
	return;
}

broken('an acknowledged append is lost', qr/b\.2 was acknowledged, and of \(1 1\) events \(1 0\)/, log => sub { s/^7.*// });
broken('a batch is torn', qr/a\.1 was acknowledged, and of \(2\) events \(1\)/, log => sub { s/^2,.*// });
broken('what nobody knows is there in part', qr/a\.1 is there in part/, history => sub { s/^res a\.1.*// }, log => sub { s/^2,.*// });
broken('a failed append is there', qr/b\.2 .* failed, and is there/, history => sub { s/^res b\.2.*/res b.2 5.0 fail/ });
broken('a gap of versions', qr/S-1\/4 .* comes after version 2/, log => sub { s/^6,S-1,3/6,S-1,4/ });
broken('a version twice', qr/S-1\/2 .* comes after version 2/, log => sub { s/^6,S-1,3/6,S-1,2/ });
broken('a position twice', qr/position 6 comes after 6/, log => sub { s/^7/6/ });
broken('an event twice', qr/a\.1 .* is there twice/, log => sub { s/^2,S-1,2,E,a.1,0,2/2,S-1,2,E,a.1,0,1/ });
broken('another version than was told', qr/a\.1 .* was told version 3/, history => sub { s/^res a\.1.*/res a.1 2.0 ok 3/ });
broken('another version than was expected', qr/a\.1 .* expected version 1/, history => sub { s/^inv a\.1.*/inv a.1 1.0 S-1:2:1/ });
broken('events where none were', qr/a\.1 .* expected that there are events/, history => sub { s/^inv a\.1.*/inv a.1 1.0 S-1:2:-1/ });
broken('an event of a savepoint taken back', qr/was rolled back/, log => sub { s/^4,S-2,1,E/4,S-2,1,Never/ });
broken('an event in another stream', qr/b\.1 .* should be in S-3/, history => sub { s/^inv b\.1.*/inv b.1 1.5 S-3:1:/ });
broken('an event that nobody asked for', qr/b\.1 .* was never asked for/, history => sub { s/^(inv|res) b\.1.*// });
broken('order against real time', qr/b\.2 .* was acknowledged before b\.1 .* began/,
	history => sub { s/^inv b\.1.*/inv b.1 5.5 S-2:1:/; });
broken('a reader skips', qr/reader r got 6 S-1 3 as number 2/, history => sub { s/^pos r 4.*// });
broken('a reader stops', qr/reader r got 4 of 5/, history => sub { s/^pos r 7.*// });
broken('a reader gets one twice', qr/reader r got 7 S-2 2 as number 5/, history => sub { s/^pos r2:S 1 .*/pos r 7 S-2 2/ });
broken('a reader of a category skips', qr/reader r2:S got/, history => sub { s/^pos r2:S 2.*// });
broken('a reader goes back', qr/reader r got/, history => sub { s/^pos r 1 /pos r 9 / });
broken('a dirty read: of an append that was rolled back', qr/reader r got 3 S-1 3 as number 2/,
	history => sub { s/^pos r 2 .*/$&\npos r 3 S-1 3/ });
broken('an event is never delivered', qr/S-2\/2 at 7 was never delivered/, history => sub { s/^get c1 c1.2.*// });
broken('delivered after it was done', qr/S-1\/3 in fetch c2.2 had been acknowledged/,
	history => sub { s/^ack c2 6.9 7.0 ok 6/ack c2 6.2 6.3 ok 6/ });
broken('delivered before the one before it is done', qr/S-2\/2 in fetch c1.2 was delivered while/,
	history => sub { s/^ack c2 6.5 6.6 unknown 4/ack c2 6.9 7.0 ok 4/ });
broken('delivered in another order', qr/S-1\/2 in fetch c1.1 was delivered while/,
	history => sub { s/1:S-1:1 2:S-1:2/2:S-1:2 1:S-1:1/ });
broken('delivered, and not in the log', qr/S-9\/1 in fetch c2.1 is not in the log/, history => sub { s/4:S-2:1/4:S-9:1/ });
broken('an error that must not be', qr/a client met: a XX000/, history => sub { s/^pos r2:S 1 .*/bad a XX000/ });

done_testing();
