# Appends in every way there is, and records what was asked for and what came
# of it.
#
#   inv  op time stream:count:expected ...    before it is sent
#   res  op time ok|fail|unknown version ...  when it is known, or never will be
#   res  op time fail ZE001                   by a conflict, where nothing else can be why
#   res  op time later                        it is for certain, but not when
#   gone op                                   its prepared transaction is not there
#
# Every event carries its operation (op), which of its appends it is of (p) and
# its number in that (k).

package Chaos::Appender;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Digest::MD5 qw(md5_hex);
use Time::HiRes qw(sleep);

use constant STREAMS => 20;

sub stream
{
	my ($self) = @_;
	my $random = $self->{random};

	# one stream is hot, some are new, and of some all want to be the first
	return 'S-1' if $random->one_in(5);
	return 'S-race-' . int(5 * Chaos::Worker::now()) if $random->one_in(6);
	return "S-$self->{name}-$self->{n}-" . $random->below(1000) if $random->one_in(8);
	return 'S-' . (1 + $random->below(STREAMS));
}

# The call that appends the events of a part.
sub call
{
	my ($op, $p) = @_;
	my $part = $op->{parts}[$p];
	my $expected = $part->{expected} eq '' ? 'NULL' : $part->{expected};
	my $type = $part->{type} // 'E';
	my $id = sub { "'" . md5_hex("$op->{id} $p $_[0]") . "'::uuid" };

	if ($part->{count} == 1 && !$part->{batch})
	{
		my $event_id = $op->{ids} ? $id->(1) : 'NULL';
		return "es_append('$part->{stream}', '$type', '{\"op\": \"$op->{id}\", \"p\": $p, \"k\": 1, \"amount\": 0}', $expected, event_id => $event_id)";
	}
	my $event_id = $op->{ids} ? ", 'event_id', md5('$op->{id} $p ' || k)" : '';
	return "es_append_events('$part->{stream}', (SELECT jsonb_agg(jsonb_build_object('type', '$type', "
	  . "'data', jsonb_build_object('op', '$op->{id}', 'p', $p, 'k', k, 'amount', 0)$event_id) ORDER BY k) "
	  . "FROM generate_series(1, $part->{count}) k), $expected)";
}

sub new_operation
{
	my ($self, $nparts) = @_;
	my $random = $self->{random};
	my $op = { id => "$self->{name}.$self->{n}", ids => $random->one_in(3), parts => [] };

	for (1 .. $nparts)
	{
		push @{ $op->{parts} },
		  {
			stream => $self->stream,
			count => $random->one_in(2) ? 1 : 1 + $random->below(20),
			expected => '',
			batch => $random->below(2),
			type => $random->one_in(50) ? 'Rare' : 'E'
		  };
	}
	return $op;
}

# What a client may expect that does not look again: that there is nothing, or
# what it was told last, though that may have been rolled back, overtaken by
# others or cut off with the connection.
sub expect_blindly
{
	my ($self, $part) = @_;
	my $told = $self->{told}{ $part->{stream} };

	$part->{expected} = $part->{stream} =~ /race/ && !$self->{random}->one_in(4) ? 0 : $told // 0;
	return;
}

sub tell
{
	my ($self, $part, $result) = @_;

	$self->{told}{ $part->{stream} } = $result->{rows}[0] if $result->{state} eq '00000';
	return;
}

sub invoke
{
	my ($self, $op) = @_;

	$self->record('inv', $op->{id}, Chaos::Worker::now(), map { "$_->{stream}:$_->{count}:$_->{expected}" } @{ $op->{parts} });
	return;
}

sub conclude
{
	my ($self, $op, $outcome, @versions) = @_;

	$self->record('res', $op->{id}, Chaos::Worker::now(), $outcome, @versions);
	return;
}

# Outcome of a statement that commits by itself, or of COMMIT.
sub outcome
{
	my ($result) = @_;

	return $result->{state} eq '00000' ? 'ok' : $result->{state} =~ /^(?:lost|hang)$/ ? 'unknown' : 'fail';
}

sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $kind = $random->below(16);

	$self->{n}++;
	sleep 0.002 * $random->below(5) if $self->{calm};
	return $self->single if $kind < 9;
	return $self->block if $kind < 14;
	return $self->two_phase;
}

# One append, one statement, of every expected version; with event ids it is
# sent again until it is known what became of it.
sub single
{
	my ($self) = @_;
	my $random = $self->{random};
	my $op = $self->new_operation(1);
	my $part = $op->{parts}[0];
	my $expect = $random->below(10);

	if ($expect < 3)
	{
		my $version = $self->try("SELECT es_stream_version('$part->{stream}')");
		return if $version->{state} ne '00000';
		$part->{expected} = $version->{rows}[0];
		$part->{expected} -= 1 if $part->{expected} > 1 && $random->one_in(10);
	}
	elsif ($expect < 4)
	{
		$part->{expected} = -1;
	}
	elsif ($expect < 5)
	{
		$part->{expected} = 0;
	}
	elsif ($expect < 7)
	{
		$self->expect_blindly($part);
	}

	$self->invoke($op);
	my %args = (allowed => $part->{expected} eq '' ? '' : 'ZE001');
	$args{sabotage} = 0.0005 * (1 + $random->below(10)) if $random->one_in(200);
	my $result = $self->try('SELECT ' . call($op, 0), %args);
	my $outcome = outcome($result);

	$self->tell($part, $result);
	delete $args{sabotage};
	my $was_unknown = $outcome eq 'unknown';
	while ($op->{ids} && $outcome eq 'unknown' && $result->{state} ne 'hang')
	{
		sleep 0.02 until $self->{session}->connect || ($self->{session}->close, $self->{stopping});
		last if $self->{stopping};
		$result = $self->try('SELECT ' . call($op, 0), %args);

		# Whether the first attempt was one is still open when this one met trouble.
		$outcome = $result->{state} =~ $Chaos::Worker::TROUBLE ? 'unknown' : outcome($result);
	}

	# There may be events by now, and the first attempt may see them.
	$outcome = 'unknown' if $was_unknown && $outcome eq 'fail' && $part->{expected} eq '-1';
	$self->conclude($op, $outcome, $outcome eq 'fail' && $result->{state} eq 'ZE001' && !$was_unknown ? 'ZE001' : @{ $result->{rows} });
	return;
}

# A transaction with one append or several, savepoints, and either end.
sub block
{
	my ($self) = @_;
	my $random = $self->{random};
	my $op = $self->new_operation(1 + $random->below(3));
	my $abort = $random->one_in(4);
	my $level = $random->pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my @versions;

	delete $op->{ids};
	for my $part (@{ $op->{parts} })
	{
		$self->expect_blindly($part) if $random->one_in(3);
	}
	$self->invoke($op);
	my $failed = $self->fails("BEGIN ISOLATION LEVEL $level");
	$failed ||= $self->fails('SELECT count(*) FROM es.events WHERE position < 10') if $level ne 'READ COMMITTED';
	for my $p (0 .. $#{ $op->{parts} })
	{
		last if $failed;
		if ($random->one_in(3))
		{
			my $never = $op->{parts}[$p]{stream};
			my $expected = $op->{parts}[$p]{expected} eq '' ? 'NULL' : $op->{parts}[$p]{expected};
			$failed ||= $self->fails('SAVEPOINT s');
			for (1 .. 1 + $random->below(2))
			{
				$failed ||= $self->fails("SELECT es_append('$never', 'Never', expected_version => $expected)", allowed => 'ZE001')
				  && $random->one_in(2);
				$failed ||= $self->fails('ROLLBACK TO s');
			}
		}
		last if $failed;
		my $result = $self->try('SELECT ' . call($op, $p), allowed => 'ZE001');
		$self->tell($op->{parts}[$p], $result);
		$failed = $result->{state} ne '00000';
		push @versions, @{ $result->{rows} };
		sleep 0.001 * $random->below(20) if $random->one_in(3);
	}
	if ($failed || $abort)
	{
		$self->try('ROLLBACK');
		$self->conclude($op, 'fail');
		return;
	}
	my $result = $self->try('COMMIT', $random->one_in(100) ? (sabotage => 0.0005) : ());
	$self->conclude($op, outcome($result), @versions);
	return;
}

sub fails
{
	my ($self, $sql, %args) = @_;

	return $self->try($sql, %args)->{state} ne '00000';
}

# Prepares a transaction and ends it, with another append in between.
sub two_phase
{
	my ($self) = @_;
	my $random = $self->{random};
	my $op = $self->new_operation(1);
	my $end = $random->one_in(3) ? 'ROLLBACK' : 'COMMIT';

	delete $op->{ids};
	$self->expect_blindly($op->{parts}[0]) if $random->one_in(2);
	$self->invoke($op);
	my $append;
	if ($self->fails('BEGIN') || ($append = $self->try('SELECT ' . call($op, 0), allowed => 'ZE001'))->{state} ne '00000')
	{
		$self->try('ROLLBACK');
		$self->conclude($op, 'fail');
		return;
	}
	$self->tell($op->{parts}[0], $append);
	my $prepared = $self->try("PREPARE TRANSACTION '$op->{id}'", $random->one_in(50) ? (sabotage => 0.0005) : ());
	my $outcome = outcome($prepared);

	# 42704: PREPARE waited for so long for a standby that it was taken for an orphan;
	# 55000: more of them than max_prepared_transactions
	if ($outcome eq 'ok')
	{
		sleep 0.001 * $random->below(30);
		my $result = $self->try("$end PREPARED '$op->{id}'", allowed => '42704');
		$self->record('gone', $op->{id}) if $result->{state} eq '42704';
		$outcome = $result->{state} eq '00000' ? ($end eq 'COMMIT' ? 'ok' : 'fail') : 'unknown';
	}

	# What is left behind would hold its stream to the end of the round.
	while ($outcome eq 'unknown')
	{
		sleep 0.02 until $self->{session}->connect || ($self->{session}->close, $self->{stopping});
		last if $self->{stopping};
		my $left = $self->try("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '$op->{id}'");
		next if $left->{state} ne '00000';
		last if $left->{rows}[0] eq '0';

		# 55000: the session that is gone still has it, and waits for the standby
		my $result = $self->try("$end PREPARED '$op->{id}'", allowed => '42704 55000');
		sleep 0.05 if $result->{state} eq '55000';
		$outcome = $end eq 'COMMIT' ? 'ok' : 'fail' if $result->{state} eq '00000';
	}
	$self->conclude($op, $outcome, @{ $append->{rows} });
	return;
}

1;
