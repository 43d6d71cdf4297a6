# Asks what a stream is like while others append to it, in every way that there
# is, and records the answer.
#
#   look  observer time-before time-after stream to-version version state ...
#
# to-version is empty unless asked for; the state is there where one was told.

package Chaos::Observer;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Time::HiRes qw(sleep);

sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $category = $random->pick(qw(S S Acct));
	my $stream = "$category-" . (1 + $random->below($random->one_in(3) ? 1 : $category eq 'S' ? 20 : 8));
	my $kind = $random->below(6);

	sleep 0.002 * $random->below(10);
	return $self->compare($stream) if $kind == 0;
	return $self->look($stream, '', "SELECT es_stream_version('$stream')") if $kind == 1;
	if ($kind == 2)
	{
		# a version too many or too few shows in the number of the last one
		my $part = $random->one_in(2) ? ', backward => true' : '';
		return $self->look($stream, '', "SELECT CASE WHEN count(*) = coalesce(max(version), 0) THEN count(*) ELSE -1 END FROM es_read('$stream'$part)");
	}

	my $known = $self->{known}{$stream} // 0;
	my $to = $known && $random->one_in(3) ? 1 + $random->below($known) : '';
	my $state = $category eq 'S' ? q{state->>'n', state->>'sum', state->>'last'} : q{state->>'balance'};
	return $self->look($stream, $to, "SELECT concat_ws(' ', version, $state) FROM es_load('$stream'" . ($to eq '' ? ')' : ", $to)"));
}

sub look
{
	my ($self, $stream, $to, $sql) = @_;
	my $before = Chaos::Worker::now();
	my $result = $self->try($sql);

	return if $result->{state} ne '00000';
	my @answer = split / /, $result->{rows}[0];
	$self->record('look', $self->{name}, $before, Chaos::Worker::now(), $stream, $to, @answer);
	$self->{known}{$stream} = $answer[0] if $to eq '';
	return;
}

# An inline read model is as the log is, in every snapshot.
sub compare
{
	my ($self, $stream) = @_;
	my $result = $self->try("SELECT l, e FROM (SELECT state FROM es.projections WHERE name = 'latest') p, "
		  . "(SELECT coalesce(max(version), 0) || ' ' || coalesce(max(n), 0) AS l FROM latest WHERE stream = '$stream') l, "
		  . "(SELECT coalesce(max(version), 0) || ' ' || count(*) AS e FROM es.events WHERE stream = '$stream') e "
		  . "WHERE state = 'running' AND l IS DISTINCT FROM e");

	$self->record('bad', $self->{name}, "the read model of $stream and its log: $_") for @{ $result->{rows} };
	return;
}

1;
