# Does what an administrator does while everybody works.
#
#   swept op     before the end of its prepared transaction, by who looks for orphans

package Chaos::Keeper;

use strict;
use warnings;
use parent -norequire, 'Chaos::Worker';

use Time::HiRes qw(sleep);

# 55P03: somebody else rebuilds; 55000, 42704: it is being dropped or paused
my @tasks = (
	sub { "CALL es_rebuild('" . $_[0]->pick(qw(totals latest counts trail)) . "', " . $_[0]->pick(100, 1000, 20000) . ")" },
	sub { "CALL es_rebuild('" . $_[0]->pick(qw(totals latest counts trail)) . "')" },
	sub { "SELECT es_snapshot('S-" . (1 + $_[0]->below(20)) . "')" },
	sub { "SELECT es_snapshot('Acct-" . (1 + $_[0]->below(8)) . "')" },
	sub { 'SELECT es_drop_snapshots(' . $_[0]->pick("'S'", "'Acct'", 'NULL') . ')' },
	sub { "SELECT es_alter_aggregate('S', snapshot_every => " . $_[0]->pick(1, 5, 20, 100) . ')' },
	sub { "SELECT es_alter_aggregate('Acct', code_version => " . $_[0]->below(1000) . ')' },
	sub {
		my $step = $_[0]->pick(1, 10);
		return qq{SELECT es_create_aggregate('S', rules => '{"E": {"\$inc": {"n": $step, "sum": "\$.k"}, "\$set": {"last": "\$\$version"}}}', snapshot_every => 20)};
	},
	sub { "SELECT es_pause_projection('" . $_[0]->pick(qw(totals latest counts trail)) . "')" },
	sub { "SELECT es_resume_projection('" . $_[0]->pick(qw(totals latest counts trail)) . "')" },
	sub { "SELECT es_resume_projection('" . $_[0]->pick(qw(totals latest counts trail)) . "')" },
	sub { 'VACUUM ' . $_[0]->pick('', '(FREEZE) ', 'ANALYZE ') . $_[0]->pick('es.events', 'es.snapshots', 'es.leases', 'latest', 'counts') },
	sub { 'CHECKPOINT' },
	sub { 'REINDEX INDEX CONCURRENTLY es.' . $_[0]->pick(qw(events_position_idx events_stream_version_idx events_stream_event_id_idx)) },
	sub { 'CREATE INDEX IF NOT EXISTS chaos_type ON es.events (type)' },
	sub { 'DROP INDEX IF EXISTS es.chaos_type' },
	sub { "SELECT es_upgrade_store('es')" },
	sub { 'SELECT count(*) FROM es.projections, es.subscriptions, es.progress, es.open_appends' },
	sub { "SELECT count(*) FROM es_verify_projection('" . $_[0]->pick(qw(totals latest)) . "')" },
);

# A transaction that was prepared after its client was gone and had looked for it
# would hold its streams for ever.  Nobody knows what came of it, so either end
# is right.
sub end_orphans
{
	my ($self) = @_;
	my $prepared = $self->try('SELECT gid FROM pg_prepared_xacts');
	my $now = Chaos::Worker::now();
	my %there;

	return if $prepared->{state} ne '00000';
	for my $gid (@{ $prepared->{rows} })
	{
		$there{$gid} = $self->{orphans}{$gid} // $now;
		next if $now < $there{$gid} + 2;
		$self->record('swept', $gid);
		$self->try(($gid =~ /[02468]$/ ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'", allowed => '42704 55000');
	}
	$self->{orphans} = \%there;
	return;
}

sub step
{
	my ($self) = @_;
	my $random = $self->{random};

	# by one who does nothing else, since the others may wait for such a one
	if ($self->{for_orphans})
	{
		$self->end_orphans;
		sleep 0.2;
		return;
	}

	$self->try($random->pick(@tasks)->($random), allowed => '55P03 55000 55006 42704',
		$random->one_in(30) ? (sabotage => 0.001 * $random->below(50)) : ());
	sleep 0.001 * $random->below(300);
	return;
}

1;
