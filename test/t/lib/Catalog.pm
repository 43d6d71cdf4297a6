# What the catalogs say of the extension and of the store es: to compare a
# database that was upgraded with one that was made anew.

package Catalog;

use strict;
use warnings;

# Columns by their order, which SETOF and INSERT see, but not by their number,
# in which a dropped column leaves a gap.  The newest minor releases stamp
# columns with a number (pg_attver).
my $query = q{
	SET search_path = '';
	SELECT 'version', extversion FROM pg_extension WHERE extname = 'eventsourcing';
	CREATE TEMP VIEW member AS
		SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'eventsourcing';
	CREATE TEMP VIEW relation AS SELECT c.* FROM pg_class c WHERE relnamespace = 'es'::regnamespace AND relkind <> 't';

	SELECT 'member', pg_describe_object(classid, objid, 0), obj_description(objid, c.relname)
	  FROM pg_temp.member JOIN pg_class c ON c.oid = classid ORDER BY 2;
	SELECT 'function', pg_get_functiondef(p.oid), p.proacl
	  FROM pg_proc p JOIN pg_temp.member ON objid = p.oid WHERE p.prokind <> 'a' ORDER BY 2;
	SELECT 'type', a.attrelid::regclass, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum),
	       a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation
	  FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid JOIN pg_temp.member ON objid = t.oid
	 WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY 2, 3;
	SELECT DISTINCT 'needs', pg_describe_object(d.classid, d.objid, d.objsubid), d.deptype,
	       pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
	  FROM pg_depend d
	 WHERE (d.refclassid, d.refobjid) IN (SELECT classid, objid FROM pg_temp.member) ORDER BY 2, 4, 3;

	SELECT 'relation', relname, relkind, relowner::regrole, relacl, reloptions, relpersistence, relrowsecurity,
	       relreplident, obj_description(oid, 'pg_class')
	  FROM pg_temp.relation ORDER BY 2;
	SELECT 'column', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
	       format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, array(SELECT o FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg\_attver=%'),
	       a.attcollation::regcollation, pg_get_expr(f.adbin, f.adrelid), col_description(c.oid, a.attnum)
	  FROM pg_temp.relation c JOIN pg_attribute a ON a.attrelid = c.oid
	  LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
	 WHERE c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 2, 3;
	SELECT 'index', pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid, i.indisclustered, i.indisreplident
	  FROM pg_index i JOIN pg_temp.relation c ON c.oid = i.indrelid ORDER BY 2;
	SELECT 'constraint', c.relname, n.conname, n.convalidated, pg_get_constraintdef(n.oid)
	  FROM pg_constraint n JOIN pg_temp.relation c ON c.oid = n.conrelid ORDER BY 2, 3;
	SELECT 'trigger', t.tgenabled, pg_get_triggerdef(t.oid)
	  FROM pg_trigger t JOIN pg_temp.relation c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal ORDER BY 3;
	SELECT 'view', relname, pg_get_viewdef(oid) FROM pg_temp.relation WHERE relkind = 'v' ORDER BY 2;
	SELECT 'sequence', c.relname, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle
	  FROM pg_sequence s JOIN pg_temp.relation c ON c.oid = s.seqrelid ORDER BY 2;
	SELECT 'policy', p.* FROM pg_policies p WHERE p.schemaname = 'es' ORDER BY 3;
	SELECT 'layout', layout FROM es.store;
};

# All of it, a line for each thing, as a text.
sub describe
{
	my ($node, $db) = @_;
	return $node->safe_psql($db, $query);
}

# The lines that the two don't share: nothing if they are the same.
sub compare
{
	my ($one, $other) = @_;
	my (%count, @differences);

	$count{$_}++ foreach split /\n/, $one;
	$count{$_}-- foreach split /\n/, $other;
	foreach my $line (sort keys %count)
	{
		push @differences, ($count{$line} > 0 ? '- ' : '+ ') . $line if $count{$line} != 0;
	}
	push @differences, 'the order' if !@differences && $one ne $other;
	return join "\n", @differences;
}

1;
