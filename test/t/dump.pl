# pg_dump and pg_restore keep everything: the events, the definitions, what
# subscriptions have done, lease, failed at and parked, the timers, and what users
# added to the store's tables; and appends and deliveries go on, under guard.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

sub sqlstate
{
	my ($db, $sql) = @_;
	my (undef, undef, $stderr) = $node->psql($db, "\\set VERBOSITY sqlstate\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : '00000';
}

$node->safe_psql('postgres', 'CREATE DATABASE source; CREATE ROLE reader; CREATE ROLE owner_of_other');
$node->safe_psql('source', q{
	CREATE SCHEMA "Event Tools";
	CREATE EXTENSION eventsourcing SCHEMA "Event Tools";
	SET search_path = public, "Event Tools";
	GRANT CREATE ON DATABASE source TO owner_of_other;
	GRANT USAGE ON SCHEMA "Event Tools" TO PUBLIC;

	SELECT es_create_store();
	SELECT es_create_store('Sales "EU"');
	SET ROLE owner_of_other;
	SELECT es_create_store('other');
	RESET ROLE;

	CREATE SCHEMA app;
	CREATE TABLE app.prices (item text, cents int);
	INSERT INTO app.prices VALUES ('tea', 250), ('cake', 400);
	CREATE FUNCTION app.apply(state jsonb, event "Event Tools".es_event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN jsonb_build_object('total', coalesce((state->>'total')::int, 0)
		                                   + (SELECT cents FROM prices WHERE item = event.data->>'item'));
	END $$;
	SET search_path = app, public, "Event Tools";
	SELECT es_create_aggregate('Bill', 'app.apply(jsonb, es_event)', initial => '{"total": 0}', snapshot_every => 5);
	SELECT es_create_aggregate('Till', rules => '{"Opened": {"$set": {"open": true}}}', code_version => 7);

	SELECT es_append('Bill-' || n % 7, 'Ordered', jsonb_build_object('item', CASE WHEN n % 3 = 0 THEN 'tea' ELSE 'cake' END))
	  FROM generate_series(1, 100) n;
	SELECT es_append('Till-1', 'Opened', '{"q": "\"quoted\" and a \\\\"}', metadata => '{"who": "ada"}',
	                 event_id => '00000000-0000-0000-0000-000000000001', tags => ARRAY['a', 'b,c', 'd"e']);
	BEGIN; SELECT es_append('Till-1', 'Aborted'); ROLLBACK;
	SET eventsourcing.store = 'Sales "EU"';
	SELECT es_append('Bill-1', 'Ordered', '{"item": "tea"}');
	SELECT es_create_aggregate('Bill', 'app.apply(jsonb, es_event)');
	SET eventsourcing.store = 'other';
	SELECT es_append('X-1', 'X');
	RESET eventsourcing.store;

	-- subscriptions in the middle of their work: 1 and 3 done, 2 and 4 leased, of
	-- Bill-5 one failed, of Bill-6 one parked, a timer, handlers
	SELECT es_create_subscription('mail', category => 'Bill', types => '{Ordered}', max_attempts => 3, backoff => '1 day',
	                              max_backoff => '2 days');
	SELECT count(*) FROM es_fetch('mail', 'one', 4, lease => '1 day');
	SELECT count(*) FROM es_fetch('mail', 'two', 2, lease => '1 day');
	SELECT es_ack('mail', 'one', '{1,3}');
	SELECT es_nack('mail', 'two', 5, 'mailbox "full"'), es_nack('mail', 'two', 6, 'no such address', park => true);
	SELECT es_create_subscription('tagged', tags => '{"b,c"}', after => 7);
	CREATE TABLE app.tills (stream text, version bigint);
	SELECT es_create_handler('tills', 'INSERT INTO tills SELECT stream, version FROM new_events', category => 'Till');
	CALL es_run('tills');
	SELECT es_schedule('2101-02-03 04:05:06.789+07', 'Till-1', 'Opened', '{"by": "timer"}', 'a "key"');

	-- a user's own
	CREATE INDEX my_index ON es.events ((data->>'item')) WHERE type = 'Ordered';
	CREATE TABLE app.audit (stream text, version bigint);
	CREATE FUNCTION app.audit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO app.audit VALUES (NEW.stream, NEW.version); RETURN NULL; END $$;
	CREATE TRIGGER my_trigger AFTER INSERT ON es.events FOR EACH ROW EXECUTE FUNCTION app.audit();
	ALTER TABLE es.events SET (fillfactor = 90, autovacuum_vacuum_insert_scale_factor = 0.5);
	ALTER TABLE es.events ALTER COLUMN data SET STORAGE EXTERNAL;
	ALTER TABLE es.events ENABLE ROW LEVEL SECURITY;
	CREATE POLICY my_policy ON es.events TO reader USING (stream LIKE 'Bill-%');
	SELECT es_grant('reader', 'reader');
	CREATE PUBLICATION my_publication FOR TABLE es.events WITH (publish = 'insert');
	ALTER TABLE es.events ADD CONSTRAINT my_check CHECK (type <> 'Forbidden');
	COMMENT ON TABLE es.events IS 'ours';
});

# All that can be told of a database.
my $description = q{
	SET search_path = '';
	SET timezone = 'UTC';
	SELECT 'events', 'es', e FROM es.events e ORDER BY position;
	SELECT 'events', 'Sales', e FROM "Sales ""EU""".events e ORDER BY position;
	SELECT 'events', 'other', e FROM other.events e ORDER BY position;
	SELECT 'aggregate', a FROM es.aggregates a ORDER BY category;
	SELECT 'aggregate', a FROM "Sales ""EU""".aggregates a ORDER BY category;
	SELECT 'snapshot', stream, version, state FROM es.snapshots ORDER BY stream, version;
	SELECT 'cursor', c FROM es.subscription_cursors c ORDER BY name;
	SELECT 'lease', l FROM es.leases l ORDER BY subscription, position;
	SELECT 'delivery', d FROM es.deliveries d ORDER BY subscription, position;
	SELECT 'handler', h FROM es.handlers h ORDER BY name;
	SELECT 'timer', t FROM es.timers t ORDER BY key;
	SELECT 'subscription', s FROM es.subscriptions s ORDER BY name;
	SELECT 'parked', p FROM es.parked p ORDER BY position;
	SELECT 'layout', layout FROM es.store;
	SELECT 'sequence', last_value FROM es.events_position_seq;
	SELECT 'sequence', last_value FROM "Sales ""EU""".events_position_seq;
	SELECT 'relation', c.oid::regclass, c.relkind, c.relowner::regrole, c.reloptions, c.relrowsecurity, c.relacl, obj_description(c.oid, 'pg_class')
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname IN ('es', 'Sales "EU"', 'other') AND c.relkind <> 't' ORDER BY c.oid::regclass::text COLLATE "C";
	SELECT 'column', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attstorage, a.attnotnull
	  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname IN ('es', 'Sales "EU"', 'other') AND c.relkind IN ('r', 'v') AND a.attnum > 0
	 ORDER BY a.attrelid::regclass::text COLLATE "C", a.attname;
	SELECT 'index', pg_get_indexdef(indexrelid), indisunique FROM pg_index
	 WHERE indrelid IN ('es.events'::regclass, '"Sales ""EU""".events'::regclass) ORDER BY 2;
	SELECT 'trigger', tgenabled, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	  JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname IN ('es', 'Sales "EU"', 'other') AND NOT tgisinternal ORDER BY 3;
	SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
	 WHERE conrelid = 'es.events'::regclass AND contype <> 'n' ORDER BY 2;
	SELECT 'policy', polname, pg_get_expr(polqual, polrelid), polroles::regrole[] FROM pg_policy ORDER BY 2;
	SELECT 'publication', p.pubname, r.prrelid::regclass FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid ORDER BY 2;
	SELECT 'load', "Event Tools".es_load('Bill-' || n) FROM generate_series(0, 6) n;
	SELECT 'load', "Event Tools".es_load('Till-1');
	SET eventsourcing.store = 'Sales "EU"';
	SELECT 'load', "Event Tools".es_load('Bill-1');
	SELECT 'read', count(*), max(position) FROM "Event Tools".es_read_all();
};

sub describe { return $node->safe_psql($_[0], $description); }

my $expected = describe('source');
like($expected, qr/lease\|\(mail,.*delivery\|\(mail,.*timer\|.*my_index.*my_trigger.*my_check.*my_policy.*my_publication/s, 'the source has it all');

# Consumers go on where they were.
sub check_deliveries
{
	my ($db, $what) = @_;
	my $fetch = sub {
		$node->safe_psql($db, qq{SET search_path = "Event Tools"; SELECT string_agg(position || '/' || attempt, ' ' ORDER BY position)
			FROM es_fetch('mail', 'three', $_[0])});
	};

	is($fetch->(6), '7/1 8/1 10/1 14/1 15/1 17/1', "$what: what others lease, or failed at, or parked, is not delivered");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT es_ack('mail', 'one', '{1,2,3,4}')}),
		2, "$what: a lease from before the dump is good");
	is(sqlstate($db, q{SET search_path = "Event Tools"; SELECT es_ack('mail', 'two', '{7}')}), 'ZE013', "$what: that of another is not");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT es_unpark('mail')}), 2, "$what: what was parked is there, and what has joined it");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; CALL es_run('tills'); SELECT count(*) FROM app.tills}),
		1, "$what: a handler has done what it did, once");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT es_cancel('a "key"')}), 't', "$what: a timer can be cancelled");
	return;
}

# What must work in a restored database.
sub check_at_work
{
	my ($db, $what) = @_;

	is(sqlstate($db, 'UPDATE es.events SET version = 7'), 'ZE005', "$what: the guard is there: UPDATE");
	is(sqlstate($db, 'DELETE FROM "Sales ""EU""".events'), 'ZE005', "$what: DELETE, in another store");
	is( sqlstate($db, q{INSERT INTO es.events (position, version, recorded_at, stream, type, data) VALUES (999, 1, now(), 'A-9', 'X', '{}')}),
		'ZE005', "$what: INSERT");
	is(sqlstate($db, 'COPY es.events FROM STDIN'), 'ZE005', "$what: COPY");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT es_append('Bill-1', 'Ordered', '{"item": "tea"}', expected_version => 15)}),
		16, "$what: appends go on");
	is( $node->safe_psql($db, q{SELECT position = (SELECT max(position) FROM es.events) AND position > 101
	                              FROM es.events WHERE stream = 'Bill-1' AND version = 16}),
		't', "$what: with new positions");
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT es_append('Till-1', 'Opened', '{"q": "\"quoted\" and a \\\\"}',
	                              event_id => '00000000-0000-0000-0000-000000000001')}),
		1, "$what: a known id is known");
	is($node->safe_psql($db, q{SET search_path = "Event Tools"; SET eventsourcing.store = other; SELECT es_append('X-1', 'X')}),
		2, "$what: appends go on in another store");
	is($node->safe_psql($db, 'SELECT stream, version FROM app.audit'), 'Bill-1|16', "$what: the user's trigger fires, once");
	is( $node->safe_psql($db, q{SET ROLE reader; SET search_path = "Event Tools"; SELECT count(*) FROM es_read_all(0, NULL)}),
		101, "$what: the user's policy is in force");
	check_deliveries($db, $what);
	is( $node->safe_psql($db, q{SET search_path = "Event Tools"; SELECT relation, problem FROM es_verify()
	                             WHERE problem <> 'a setting breaks a promise'}),
		'', "$what: es_verify() finds nothing");
	return;
}

sub restore
{
	my ($db, @commands) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$db";

	# not the time zone of the source
	$node->safe_psql('postgres', "CREATE DATABASE $db; ALTER DATABASE $db SET timezone = 'Asia/Kathmandu'");
	for my $command (@commands)
	{
		my @command = map { s/FILE/$file/r } @$command;
		$node->command_ok(\@command, join(' ', @$command) =~ s/-d \S+ ?//r);
	}
	return;
}

my $source = $node->connstr('source');

restore('custom',
	[ 'pg_dump', '-Fc', '-f', 'FILE', '-d', $source ],
	[ 'pg_restore', '--single-transaction', '--exit-on-error', '-d', $node->connstr('custom'), 'FILE' ]);
is(describe('custom'), $expected, 'custom format: all is as it was');
check_at_work('custom', 'custom format');

restore('plain',
	[ 'pg_dump', '-Fp', '-f', 'FILE', '-d', $source ],
	[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', 'FILE', '-d', $node->connstr('plain') ]);
is(describe('plain'), $expected, 'plain format: all is as it was');
check_at_work('plain', 'plain format');

# With parallel jobs, and what was restored is dumped again.
restore('again',
	[ 'pg_dump', '-Fd', '-j2', '-f', 'FILE', '-d', $source ],
	[ 'pg_restore', '-j2', '--exit-on-error', '-d', $node->connstr('again'), 'FILE' ]);
is(describe('again'), $expected, 'directory format, parallel: all is as it was');
restore('twice',
	[ 'pg_dump', '-Fc', '-f', 'FILE', '-d', $node->connstr('again') ],
	[ 'pg_restore', '--exit-on-error', '-d', $node->connstr('twice'), 'FILE' ]);
is(describe('twice'), $expected, 'a dump of what was restored: all is as it was');

# The schema first, and then the data past the triggers.  pg_restore leaves
# triggers enabled that were enabled ALWAYS before; es_upgrade_store() knows.
restore('data',
	[ 'pg_dump', '-Fc', '-f', 'FILE', '-d', $source ],
	[ 'pg_restore', '--schema-only', '--exit-on-error', '-d', $node->connstr('data'), 'FILE' ],
	[ 'pg_restore', '--data-only', '--disable-triggers', '--exit-on-error', '-d', $node->connstr('data'), 'FILE' ]);
is(sqlstate('data', 'UPDATE es.events SET version = 7'), 'ZE005', 'data only: the guard is there');
$node->safe_psql('data', qq{SET search_path = "Event Tools"; SELECT es_upgrade_store('$_')}) for 'es', 'Sales "EU"', 'other';
is(describe('data'), $expected, 'data only: all is as it was');
check_at_work('data', 'data only');

# Without --disable-triggers the guard says what it is about.
restore('refused',
	[ 'pg_dump', '-Fc', '-f', 'FILE', '-d', $source ],
	[ 'pg_restore', '--schema-only', '--exit-on-error', '-d', $node->connstr('refused'), 'FILE' ]);
$node->command_fails_like(
	[ 'pg_restore', '--data-only', '-t', 'events', '-n', 'es', '-d', $node->connstr('refused'), "$PostgreSQL::Test::Utils::tmp_check/refused" ],
	qr/INSERT on "es.events" is refused/, 'data only, with the triggers: refused');

# A table of events without its sequence: appending says so.
restore('events',
	[ 'pg_dump', '-Fc', '-f', 'FILE', '-d', $source ],
	[ 'pg_restore', '--schema-only', '--exit-on-error', '-d', $node->connstr('events'), 'FILE' ],
	[ 'pg_restore', '--data-only', '--disable-triggers', '-t', 'events', '-t', 'store', '-n', 'es', '-d', $node->connstr('events'), 'FILE' ]);
is(sqlstate('events', q{SELECT "Event Tools".es_append('Bill-1', 'Ordered', '{}')}), '55000', 'without the sequence: refused');
$node->safe_psql('events', q{SET search_path = "Event Tools"; SELECT es_repair_sequence(); SELECT es_append('Bill-1', 'Ordered', '{}', 15)});
is($node->safe_psql('events', q{SELECT max(position) FROM es.events}), 102, 'and mended');

$node->stop;
done_testing();
