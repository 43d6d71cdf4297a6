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
# b.2 appends to two streams at once.  x deposits and withdraws.  A reader, two
# consumers, of whom one forgets what it has, and who looks at streams.
my @history = map { [ map { $_ eq '.' ? '' : $_ } split ] } split /\n/, <<'END';
inv a.1 1.0 S-1:2:0
res a.1 2.0 ok 2
inv a.2 3.0 S-1:1:1
res a.2 3.5 fail
inv b.1 1.5 S-2:1:
res b.1 2.5 unknown
inv b.2 4.0 S-1:1:2 S-2:1:-1
res b.2 5.0 ok 3 2
inv x.1 5.0 Acct-1:1:
res x.1 5.1 ok 1
inv x.2 5.1 Acct-1:1:
res x.2 5.4 ok 2
inv x.3 5.2 Acct-1:1:
res x.3 5.3 fail
no x 5.2 5.3 Acct-1 4
inv t.1 0.5 Timer-1:1:
res t.1 0.6 later
gone b.1
swept b.1
inv a.3 2.1 S-1:1:1
res a.3 2.2 fail ZE001
inv a.4 4.5 S-1:1:3
res a.4 4.6 fail ZE001
inv a.5 2.1 S-3:1:-1
res a.5 2.2 fail ZE001
look o 2.5 2.6 S-1 . 2
look o 4.5 4.6 S-1 . 2 20 3 2
look o 4.5 4.6 S-1 . 3 3 4 3
look o 4.5 4.6 S-1 2 2 2 3 2
look o 2.5 2.6 S-2 . 0
look o 5.2 5.3 Acct-1 . 1 5
look o 5.2 5.3 Acct-1 . 2 2
pos r 1 S-1 1
pos r 2 S-1 2
pos r 4 S-2 1
pos r 6 S-1 3
pos r 7 S-2 2
pos r 8 Acct-1 1
pos r 9 Acct-1 2
pos r 10 Timer-1 1
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
get c1 c1.3 7.0 7.1 8:Acct-1:1 10:Timer-1:1
get c2 c2.3 7.35 7.4 8:Acct-1:1
nack c2 7.42 Acct-1
get c1 c1.4 7.5 7.55 8:Acct-1:1 9:Acct-1:2
ack c1 7.6 7.7 ok 8 9 10
ack c2 6.9 7.0 ok 6
END
my @log = map { [ split /,/, $_, -1 ] } split ' ',
	'1,S-1,1,E,a.1,0,1 2,S-1,2,E,a.1,0,2 4,S-2,1,E,b.1,0,1 6,S-1,3,E,b.2,0,1 7,S-2,2,E,b.2,1,1 8,Acct-1,1,Deposited,x.1,0,1,5 9,Acct-1,2,Withdrawn,x.2,0,1,3 10,Timer-1,1,Fired,t.1,0,1';

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
	my @lines = map { join ' ', map { $_ eq '' ? '.' : $_ } @$_ } @history;
	my @events = map { join ',', @$_ } @log;

	$change{history}->() for $change{history} ? @lines : ();
	$change{log}->() for $change{log} ? @events : ();
	my @problems = problems([ map { [ map { $_ eq '.' ? '' : $_ } split ] } map { split /\n/ } @lines ], [ map { [ split /,/, $_, -1 ] } grep { $_ ne '' } map { split /\n/ } @events ]);
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
broken('a reader stops', qr/reader r got 7 of 8/, history => sub { s/^pos r 10 .*// });
broken('a reader gets one twice', qr/reader r got 7 S-2 2 as number 8/, history => sub { s/^pos r2:S 1 .*/pos r 7 S-2 2/ });
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
broken('delivered while another has it', qr/Acct-1\/1 in fetch c2.3 was leased by c1.3/, history => sub { s/^get c2 c2.3 7.35 7.4 /get c2 c2.3 7.2 7.25 / });
broken('delivered while the same one has it', qr/S-1\/2 in fetch c1.9 was leased by c1.1/,
	history => sub { s/^(get c1 c1.1 .*)/$1\nget c1 c1.9 6.1 6.2 2:S-1:2/ });
broken('a version that is no more', qr/o at 2.6 saw S-1\/1, which was at 2 to 2/, history => sub { s/^look o 2.5 2.6 S-1 . 2/look o 2.5 2.6 S-1 . 1/ });
broken('a version that is not yet', qr/o at 2.6 saw S-1\/3, which was at 2 to 2/, history => sub { s/^look o 2.5 2.6 S-1 . 2/look o 2.5 2.6 S-1 . 3/ });
broken('an event seen that was rolled back', qr/o at 2.6 saw S-2\/2, which was at 0 to 1/, history => sub { s/^look o 2.5 2.6 S-2 . 0/look o 2.5 2.6 S-2 . 2/ });
broken('a state that an event is missing from', qr/saw S-1\/3 as \(2 4 3\), which is \(3 4 3\)/,
	history => sub { s/^look o (.*) 3 3 4 3/look o $1 3 2 4 3/ });
broken('a state by two definitions', qr/saw S-1\/2 as \(11 3 2\)/, history => sub { s/^look o (.*) 2 20 3 2/look o $1 2 11 3 2/ });
broken('a state of another version', qr/saw S-1\/2 as \(3 4 3\)/, history => sub { s/^look o (.*) 2 2 2 3 2/look o $1 2 2 3 4 3/ });
broken('more than was asked for', qr/saw S-1\/3, which was at 2 to 2/, history => sub { s/^look o (.*) 2 2 2 3 2/look o $1 2 3 3 4 3/ });
broken('a balance that is wrong', qr/saw Acct-1\/2 as \(5\), which is \(2\)/, history => sub { s/^look o (.*) 2 2$/look o $1 2 5/ });
broken('refused what was there', qr/x at 5.3 was refused 2 of Acct-1, which at version 1 to 2 had more/,
	history => sub { s/^no x 5.2 5.3 Acct-1 4/no x 5.2 5.3 Acct-1 2/ });
broken('a conflict without a rival', qr/a.3 failed, because S-1 was not at 2, where it was at 2 to 2/, history => sub { s/^inv a.3 2.1 S-1:1:1/inv a.3 2.1 S-1:1:2/ });
broken('a conflict where there are events', qr/a.5 failed, because S-1 was not at -1/, history => sub { s/^inv a.5 2.1 S-3/inv a.5 2.1 S-1/ });
broken('a timer that never fires', qr/t.1 was acknowledged, and of \(1\) events \(0\)/, log => sub { s/^10.*// });
broken('a timer that fires twice', qr/t.1 .* is there twice/, log => sub { s/^10.*/$&\n11,Timer-1,2,Fired,t.1,0,1/ });
broken('a timer that was cancelled fires', qr/t.1 .* failed, and is there/, history => sub { s/^res t.1 0.6 later/res t.1 0.6 fail/ });
broken('an event without its data', qr/S-2\/2 at 7 has lost its data/, log => sub { s/^7.*/7,S-2,2,E,,,/ });
broken('a prepared transaction is lost', qr/b.1 was prepared, and is gone/, history => sub { s/^swept b.1// });
broken('an error that must not be', qr/a client met: a XX000/, history => sub { s/^pos r2:S 1 .*/bad a XX000/ });

done_testing();
