# Prints docs/reference.md, made of what the catalog and src/errors.h say.
# Run by script/reference, and by test/t/reference.pl, in the top folder, with
# a database at hand (PGHOST, ...) that has the extension and a store "es".
use strict;
use warnings;

use Text::Wrap ();

# What belongs together, in the order in which one meets it.  A function that is
# new goes here; one whose comment begins with "Internal:" or "Trigger:" does not.
my @sections = (
	[ 'Stores', '
		es_create_store es_drop_store es_upgrade_store es_grant es_create_index es_verify
		es_repair_sequence es_current_store es_store_exists es_counters', 'operations.md' ],
	[ 'Appending', 'es_append es_append_events es_import_event es_import_events' ],
	[ 'Reading', '
		es_read es_read_all es_stream_version es_head_position es_safe_position es_advance_watermark es_trace
		es_cloudevent es_cloudevents' ],
	[ 'State', '
		es_create_aggregate es_alter_aggregate es_drop_aggregate es_load es_replay es_snapshot
		es_drop_snapshots es_bisect es_diff es_apply_rules es_fingerprint', 'aggregates.md' ],
	[ 'Commands', 'es_create_decider es_execute', 'aggregates.md#commands' ],
	[ 'Old events in today\'s shape', 'es_create_upcaster es_drop_upcaster es_rename_type', 'aggregates.md#events-over-the-years' ],
	[ 'Projections', '
		es_create_projection es_alter_projection es_pause_projection es_resume_projection
		es_drop_projection es_rebuild es_verify_projection' ],
	[ 'Subscriptions, handlers, timers', '
		es_create_subscription es_fetch es_ack es_nack es_unpark es_reset_subscription
		es_drop_subscription es_create_handler es_run es_wait es_schedule es_cancel', 'subscriptions.md' ],
	[ 'Events from ordinary tables', 'es_capture es_uncapture' ],
	[ 'Testing', 'es_given es_then' ]);

# Tables that are there to be looked at, besides the views.
my @tables = qw(events aggregates snapshots);

my %functions = map { $_->[0] => $_ } rows(q{
	SELECT p.proname, pg_get_function_arguments(p.oid),
	       CASE p.prokind WHEN 'p' THEN '' ELSE pg_get_function_result(p.oid) END,
	       obj_description(p.oid, 'pg_proc'), p.prokind
	  FROM pg_proc p
	  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing'
	 WHERE obj_description(p.oid, 'pg_proc') !~ '^(Internal|Trigger):'});

print <<'END';
# Reference

What there is, with what the catalog says of it (`\df+ es_*` shows the same). Made by `script/reference`: to change it,
change the `COMMENT`.

All arguments can be named (`max_count => 10`). The functions work on the store that the setting `eventsourcing.store` names.
They live in the extension's schema: `CREATE EXTENSION eventsourcing SCHEMA ...`, `public` by default. A procedure
(`CALL`) runs in transactions of its own.

- [Functions](#functions)
- [Types](#types)
- [Relations of a store](#relations-of-a-store)
- [Settings](#settings)
- [Errors](#errors)

## Functions

END

foreach my $section (@sections)
{
	my ($title, $names, $more) = @$section;

	print "### $title\n\n";
	print 'More in [' . $more =~ s/#.*//r . "]($more).\n\n" if $more;
	foreach my $name (split ' ', $names)
	{
		my $function = delete $functions{$name} or die "there is no function $name\n";

		print "#### $name\n\n", signature($function), "\n", paragraph($function->[3]), "\n";
	}
}
die 'in no section of script/lib/reference.pl: ' . join(' ', sort keys %functions) . "\n" if %functions;

print "## Types\n\n";
foreach my $type (rows(q{
	SELECT t.typname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum),
	       obj_description(t.oid, 'pg_type')
	  FROM pg_type t
	  JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eventsourcing'
	  JOIN pg_attribute a ON a.attrelid = t.typrelid
	 GROUP BY t.oid
	 ORDER BY t.typname DESC}))
{
	my ($name, $columns, $comment) = @$type;

	print "#### $name\n\n", columns($columns), "\n", paragraph($comment), "\n";
}

my %relations = map { $_->[0] => $_ } rows(q{
	SELECT c.relname, c.relkind, obj_description(c.oid, 'pg_class'),
	       string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
	  FROM pg_class c
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	 WHERE c.relnamespace = 'es'::regnamespace AND c.relkind IN ('r', 'v')
	 GROUP BY c.oid});

print <<'END';
## Relations of a store

In the store's schema, `es` unless you chose another name. To be read only: they are written by the functions. Columns may be
added in later versions.

END
foreach my $name (@tables, sort grep { $relations{$_}[1] eq 'v' } keys %relations)
{
	my $relation = delete $relations{$name} or die "there is no relation $name\n";

	print "#### es.$name\n\n", columns($relation->[3]), "\n", paragraph($relation->[2]), "\n";
}
print <<'END';
The rest is bookkeeping, whose columns may change:

| table | |
| --- | --- |
END
foreach my $name (sort keys %relations)
{
	print "| `es.$name` | ", prose($relations{$name}[2]), " |\n";
}

print <<'END';

## Settings

| setting | default | set | |
| --- | --- | --- | --- |
END
my %who = (user => 'by anybody', superuser => 'by a superuser', sighup => 'in the configuration', postmaster => 'at server start');
foreach my $setting (rows(q{
	SELECT name, boot_val || coalesce(' ' || unit, ''), context, concat_ws(' ', short_desc, extra_desc)
	  FROM pg_settings WHERE name LIKE 'eventsourcing.%' ORDER BY name}))
{
	my ($name, $default, $context, $description) = @$setting;

	print "| `$name` | ", $default eq '' ? 'empty' : "`$default`", " | $who{$context} | ", prose($description), " |\n";
}

print <<'END';

## Errors

By SQLSTATE, which no translation and no new wording changes. DETAIL names the values, HINT the next action.

| SQLSTATE | condition | when |
| --- | --- | --- |
END
my $errors = slurp('src/errors.h');
while ($errors =~ m{/\* ([^/]+?) \*/\n#define ERRCODE_(\w+)\s+MAKE_SQLSTATE\(([^)]+)\)}g)
{
	my ($when, $condition, $sqlstate) = ($1, lc $2, $3);

	$sqlstate =~ s/[^A-Z0-9]//g;
	$when =~ s/\s*\n \* / /g;
	print "| `$sqlstate` | `$condition` | ", prose($when), " |\n";
}
print <<'END';

Everything else has PostgreSQL's own codes, most often:

| SQLSTATE | condition | when |
| --- | --- | --- |
| `0A000` | `feature_not_supported` | reading by position on a standby |
| `22004` | `null_value_not_allowed` | an argument that must not be NULL; an apply function that returned NULL |
| `22023` | `invalid_parameter_value` | an argument with a value that means nothing; a function that does not fit |
| `25001` | `active_sql_transaction` | a procedure with transactions of its own, called inside of one |
| `25006` | `read_only_sql_transaction` | an append on a standby or in a read-only transaction |
| `40001` | `serialization_failure` | where PostgreSQL raises it by itself, in REPEATABLE READ and SERIALIZABLE: retry the transaction |
| `42501` | `insufficient_privilege` | a right is missing; HINT says which grant gives it |
| `42704` | `undefined_object` | no such store, aggregate, projection, subscription, ... |
| `42710` | `duplicate_object` | there is one of that name |
| `54000` | `program_limit_exceeded` | a stream at version 2^63 - 1 |
| `55000` | `object_not_in_prerequisite_state` | a store that needs es_upgrade_store() or es_repair_sequence(), or was not dropped without confirm |
| `55P03` | `lock_not_available` | `lock_timeout` ran out while another transaction held the stream |
END

sub rows
{
	my ($sql) = @_;

	$sql =~ s/\s+/ /g;
	# the first call of a function makes the settings known
	open my $psql, '-|', 'psql', '-X', '-q', '-A', '-t', '-F', "\x1f", '-R', "\x1e", '-v', 'ON_ERROR_STOP=1',
	  '-c', 'DO $$ BEGIN PERFORM es_current_store(); END $$', '-c', $sql
	  or die "psql: $!\n";
	local $/;
	my $output = <$psql>;
	close $psql or die "psql failed\n";
	chomp $output;
	return map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $output;
}

sub slurp
{
	my ($file) = @_;

	open my $handle, '<', $file or die "$file: $!\n";
	local $/;
	return <$handle>;
}

# A function's signature as a block; one argument a line where it is long.
sub signature
{
	my ($function) = @_;
	my ($name, $arguments, $result, undef, $kind) = @$function;
	my $head = ($kind eq 'p' ? 'CALL ' : '') . "$name(";
	# a record is what the OUT arguments say
	my $tail = ')' . ($result =~ /^(record)?$/ ? '' : ' -> ' . short($result));

	$arguments = short($arguments) =~ s/\bIN //gr;
	my $indent = ' ' x length $head;
	$arguments =~ s/, /,\n$indent/g if length "$head$arguments$tail" > 100;
	return block("$head$arguments$tail");
}

sub columns
{
	my ($columns) = @_;

	return block(join ', ', split /, /, short($columns));
}

# Indented, and broken at commas.
sub block
{
	my ($text) = @_;
	my $result = '';

	foreach my $line (split /\n/, $text)
	{
		while (length $line > 112 && $line =~ /^(.{40,110},) (.*)$/)
		{
			$result .= "    $1\n";
			$line = "    $2";
		}
		$result .= "    $line\n";
	}
	return $result;
}

# Types and defaults as one would write them.
sub short
{
	my ($text) = @_;

	$text =~ s/::[a-z ]+(\[\])?(?=[,)]|$)//g;
	$text =~ s/timestamp with time zone/timestamptz/g;
	$text =~ s/\binteger\b/int/g;
	return $text;
}

sub paragraph
{
	my ($text) = @_;

	local $Text::Wrap::columns = 121;
	local $Text::Wrap::huge = 'overflow';
	local $Text::Wrap::unexpand = 0;
	return Text::Wrap::wrap('', '', prose($text) . ($text =~ /\.$/ ? '' : '.')) . "\n";
}

# As Markdown.
sub prose
{
	my ($text) = @_;

	$text =~ s/([*<|])/\\$1/g;
	return $text;
}
