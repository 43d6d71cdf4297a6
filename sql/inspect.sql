-- Looking into histories: es_bisect(), es_diff().
SET client_min_messages = warning;
SELECT es_create_store();
SELECT es_create_aggregate('Account', initial => '{"balance": 0}', snapshot_every => 0,
                           rules => '{"Moved": {"$inc": {"balance": "$.amount"}}, "Named": {"$set": {"owner": "$.name"}}}');
SELECT es_append('Account-1', 'Moved', jsonb_build_object('amount', amount))
  FROM unnest('{5,-3,-4,-1,20,-30}'::int[]) amount;

--
-- When did the balance first go negative?
--
SELECT es_bisect('Account-1', $$(state->>'balance')::int < 0$$);
SELECT state FROM es_load('Account-1', 2) UNION ALL SELECT state FROM es_load('Account-1', 3);
-- at once, at the end, never; unknown is not true
SELECT es_bisect('Account-1', $$state ? 'balance'$$), es_bisect('Account-1', $$(state->>'balance')::int < -10$$),
       es_bisect('Account-1', $$state ? 'owner'$$), es_bisect('Account-1', $$state->>'owner' = 'Ann'$$),
       es_bisect('Account-1', 'NULL');
-- whatever SQL there is in it
SELECT es_bisect('Account-1', $$state->'balance' IN (SELECT to_jsonb(-n) FROM generate_series(3, 9) n)   -- these$$),
       es_bisect('Account-1', 'version > 4 OR false');
CREATE SCHEMA mine;
CREATE FUNCTION mine.is_bad(state jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT (state->>'balance')::int < -10 $$;
SELECT es_bisect('Account-1', 'is_bad(state)');
SET search_path = public, mine;
SELECT es_bisect('Account-1', 'is_bad(state)');
RESET search_path;
-- nothing to look at
SELECT es_bisect('Account-0', 'true');
SELECT es_bisect(NULL, 'true');
SELECT es_bisect('Account-1', NULL);
\set VERBOSITY sqlstate
SELECT es_bisect('Nobody-1', 'true');
SELECT es_bisect('Account-1', '');
SELECT es_bisect('Account-1', 'nonsense');
SELECT es_bisect('Account-1', '1');
SELECT es_bisect('Account-1', $$(state->>'balance')::int / 0 > 1$$);
\set VERBOSITY default
-- with the caller's rights, not the owner's
CREATE ROLE es_inspect_reader;
SELECT es_grant('es_inspect_reader', 'reader');
CREATE TABLE secret AS SELECT 1 AS n;
SET ROLE es_inspect_reader;
SELECT es_bisect('Account-1', $$(state->>'balance')::int < 0$$);
SELECT es_bisect('Account-1', 'EXISTS (SELECT FROM secret)');
RESET ROLE;

--
-- In a long stream: at the ends of what is looked at together, with snapshots
-- and without
--
SELECT es_append_events('Account-2', jsonb_agg(jsonb_build_object('type', 'Moved', 'data', '{"amount": 1}'::jsonb)))
  FROM generate_series(1, 4001);
SELECT n, es_bisect('Account-2', format($$(state->>'balance')::int >= %s$$, n)) AS version
  FROM unnest('{1,999,1000,1001,1999,2000,2001,4000,4001,4002}'::int[]) n ORDER BY n;
SELECT es_snapshot('Account-2');
SELECT es_append('Account-2', 'Moved', '{"amount": 1}');
SELECT n, es_bisect('Account-2', format($$(state->>'balance')::int >= %s$$, n)) AS version
  FROM unnest('{1000,2001,4001,4002,4003}'::int[]) n ORDER BY n;
-- what was true early is found without a look at what came late
SELECT es_append('Account-2', 'Moved', '{"amount": "nothing"}');
SELECT es_bisect('Account-2', $$(state->>'balance')::int >= 1500$$);
SELECT es_bisect('Account-2', $$(state->>'balance')::int < 0$$);
-- each is looked at once
CREATE SEQUENCE looks;
SELECT es_bisect('Account-2', $$nextval('looks') < 0 OR (state->>'balance')::int = 1700$$), currval('looks');

--
-- What is different between two states
--
SELECT * FROM es_diff('{"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": null}', '{"b": {"c": [1, 3, 4], "d": "x", "f": {}}, "e": 0}');
SELECT d.* FROM es_load('Account-1', 2) a, es_load('Account-1', 3) b, es_diff(a.state, b.state) d;
-- nothing
SELECT * FROM es_diff('{"a": [1, {"b": null}]}', '{"a": [1.0, {"b": null}]}');
SELECT * FROM es_diff(NULL, NULL);
-- all of it
SELECT * FROM es_diff('{}', '[]') UNION ALL SELECT * FROM es_diff('1', '"1"') UNION ALL SELECT * FROM es_diff('null', '{}')
UNION ALL SELECT * FROM es_diff(NULL, '{}') UNION ALL SELECT * FROM es_diff('{}', NULL);
-- elements by their number, whatever the number of digits; null is not missing
SELECT path, change, old, new FROM es_diff('{"l": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}', '{"l": [0, 1, 3, 3, 4, 5, 6, 7, 8, 0, 0, null]}');
SELECT * FROM es_diff('{"a": null, "A": 1, "b": {"x": 1}, "B": 2}', '{"a B": null, "A": 2, "b": 1, "": 3}');
SELECT * FROM es_diff('[[1, 2], [3]]', '[[1], [3, 4], []]');
-- large ones
SELECT count(*), count(*) FILTER (WHERE change = 'changed'), min(old::text::int), max(new::text::int)
  FROM es_diff((SELECT jsonb_object_agg(n, n) FROM generate_series(1, 3000) n), (SELECT jsonb_object_agg(n, n + 1) FROM generate_series(1, 3000) n));

SELECT es_drop_store('es', confirm => true);
DROP SCHEMA mine CASCADE;
DROP TABLE secret;
DROP SEQUENCE looks;
DROP ROLE es_inspect_reader;
