-- Rules: every operator, every kind of value, every error.

-- What one event of type E with this data makes of the state, or the error.
CREATE FUNCTION try(ops jsonb, state jsonb, data jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    RETURN es_apply_rules(jsonb_build_object('E', ops), state,
        ROW(7, 'Order-1', 3, 'E', data, '{"user": {"id": 5}, "list": [1, 2]}',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{red,"dark blue"}',
            '2024-02-03 04:05:06.789+00')::es_event);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN format(E'%s %s\n  DETAIL: %s\n  HINT: %s', SQLSTATE, SQLERRM, detail, hint);
END $$;

-- A table of cases, each a line: operators, state, data, result.
CREATE TABLE cases (n int GENERATED ALWAYS AS IDENTITY, ops jsonb, state jsonb, data jsonb DEFAULT '{}');
CREATE FUNCTION results() RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT format(E'%s  %s  %s\n  => %s', ops, state, data, try(ops, state, data)) FROM cases ORDER BY n
$$;
\pset tuples_only on
\pset format unaligned

--
-- $set
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$set": {"a": 1}}', '{}', '{}'),
    ('{"$set": {"a": 1}}', '{"a": {"b": 2}, "c": 3}', '{}'),
    ('{"$set": {"a": null, "b": true, "c": "x", "d": [], "e": {}, "f": -1.50}}', '{}', '{}'),
    ('{"$set": {"a.b.c": 1}}', '{}', '{}'),
    ('{"$set": {"a.b": 1, "a.c": 2}}', '{"a": {"b": 0, "z": 9}}', '{}'),
    ('{"$set": {"a.0": "x"}}', '{}', '{}'),
    ('{"$set": {"a.0": "x"}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a.2": "x"}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a.4": "x"}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a.1.b.c": "x"}}', '{"a": [1]}', '{}'),
    ('{"$set": {"a.01": "x"}}', '{"a": {}}', '{}'),
    ('{"$set": {"a.b": 1}}', '{"a": 5}', '{}'),
    ('{"$set": {"a.b": 1}}', '{"a": null}', '{}'),
    ('{"$set": {"a.b.c.d": 1}}', '{"a": {"b": "text"}}', '{}'),
    ('{"$set": {"a.b": 1}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a.01": 1}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a.1500003": 1}}', '{"a": [1, 2]}', '{}'),
    ('{"$set": {"a": 1}}', '[1, 2]', '{}'),
    ('{"$set": {"0": 1}}', '[5, 2]', '{}'),
    ('{"$set": {"a": 1}}', '"text"', '{}'),
    ('{"$set": {"": 1}}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- values
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$set": {"a": "$"}}', '{}', '{"x": {"y": [1, {"z": "deep"}]}}'),
    ('{"$set": {"a": "$"}}', '{}', '5'),
    ('{"$set": {"a": "$.x"}}', '{}', '5'),
    ('{"$set": {"a": "$.x.y.1.z", "b": "$.x.y.0", "c": "$.x.y"}}', '{}', '{"x": {"y": [1, {"z": "deep"}]}}'),
    ('{"$set": {"a": "$.x.0"}}', '{}', '{"x": {"0": "a key"}}'),
    ('{"$set": {"a": "$.x.2", "b": "$.x.y", "c": "$.x.0.y", "d": "$.y"}}', '{"a": 1, "b": 2}', '{"x": [1, 2]}'),
    ('{"$set": {"a": "$.x"}}', '{"a": 1}', '{"x": null}'),
    ('{"$set": {"a": "$.x", "b": "$.y", "c": "$.z"}}', '{}', '{"x": true, "y": false, "z": 1.10}'),
    ('{"$set": {"p": "$$position", "s": "$$stream", "v": "$$version", "t": "$$type", "i": "$$event_id", "g": "$$tags", "r": "$$recorded_at"}}', '{}', '{}'),
    ('{"$set": {"m": "$$metadata", "u": "$$metadata.user.id", "l": "$$metadata.list.1", "n": "$$metadata.nothing"}}', '{}', '{}'),
    ('{"$set": {"a": {"x": "$.x", "y": "$.y", "z": ["$.x", "$.y", {"v": "$$version", "k": "literal"}]}}}', '{}', '{"x": 1}'),
    ('{"$set": {"a": {"$literal": "$.x"}, "b": {"$literal": {"$set": "$"}}, "c": {"$literal": null}}}', '{}', '{"x": 1}'),
    ('{"$set": {"a": {"b": {"$literal": "$.x"}}, "c": [{"$literal": "$5"}, {"$literal": [1]}]}}', '{}', '{"x": 1}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", "$.y", "none"]}}}', '{}', '{"x": 1}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", "$.y", "none"]}}}', '{}', '{"x": null, "y": 2}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", "$.y", "none"]}}}', '{}', '{}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", null]}}}', '{"a": 1}', '{}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", "$.y"]}}}', '{"a": 1}', '{}'),
    ('{"$set": {"a": ["x.y", "", "a$", {"a.b": 1}]}}', '{}', '{}');
SELECT results();
TRUNCATE cases;
-- an event without some of its fields
SELECT es_apply_rules('{"E": {"$set": {"d": "$", "m": "$$metadata.x", "i": "$$event_id", "g": "$$tags", "s": "$$stream", "v": "$$version", "a": 1}}}', '{}',
    ROW(NULL, NULL, NULL, 'E', NULL, NULL, NULL, NULL, NULL)::es_event);
SELECT es_apply_rules('{"E": {"$set": {"a": 1}}}', '{"b": 2}', ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::es_event);
-- tags with holes, or none
SELECT es_apply_rules('{"E": {"$set": {"g": "$$tags"}}}', '{}', ROW(1, 's', 1, 'E', '{}', NULL, NULL, tags, now())::es_event)
    FROM (VALUES ('{a,NULL,""}'::text[]), ('{}')) v(tags);
-- recorded_at does not depend on settings
SET timezone = 'America/St_Johns';
SET datestyle = 'SQL, DMY';
SELECT try('{"$set": {"r": "$$recorded_at"}}', '{}');
SELECT es_apply_rules('{"E": {"$set": {"r": "$$recorded_at"}}}', '{}', ROW(1, 's', 1, 'E', '{}', NULL, NULL, NULL, t)::es_event)
    FROM (VALUES (1, 'infinity'::timestamptz), (2, '-infinity'), (3, '0044-03-15 12:00:00+00 BC'), (4, '2024-01-01 00:00:00+00')) v(n, t) ORDER BY n;
RESET timezone;
RESET datestyle;

--
-- $unset
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$unset": {"a": "", "b.c": 1, "x.y.z": null}}', '{"a": 1, "b": {"c": 2, "d": 3}, "e": 4}', '{}'),
    ('{"$unset": "a"}', '{"a": 1, "b": 2}', '{}'),
    ('{"$unset": ["a", "b.c"]}', '{"a": 1, "b": {"c": 2}}', '{}'),
    ('{"$unset": []}', '{"a": 1}', '{}'),
    ('{"$unset": "a.1"}', '{"a": [1, 2, 3]}', '{}'),
    ('{"$unset": "a.3"}', '{"a": [1, 2, 3]}', '{}'),
    ('{"$unset": "a.b"}', '{"a": [1, 2, 3]}', '{}'),
    ('{"$unset": "a.b"}', '{"a": 1}', '{}'),
    ('{"$unset": "a.1.b"}', '{"a": [1, {"b": 2, "c": 3}]}', '{}'),
    ('{"$unset": "a"}', '5', '{}'),
    ('{"$unset": {}}', '{"a": 1}', '{}'),
    ('{"$unset": 1}', '{}', '{}'),
    ('{"$unset": ["a", 1]}', '{}', '{}'),
    ('{"$unset": ["a", "a"]}', '{}', '{}'),
    ('{"$unset": ""}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- $inc, $mul
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$inc": {"n": 1}}', '{}', '{}'),
    ('{"$inc": {"n": 1.50}}', '{}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": 41}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": 1.0}', '{}'),
    ('{"$inc": {"n": -1.25}}', '{"n": 1.25}', '{}'),
    ('{"$inc": {"n": 0.1}}', '{"n": 0.2}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": 9223372036854775807}', '{}'),
    ('{"$inc": {"n": -1}}', '{"n": -9223372036854775808}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": 9999999999999999}', '{}'),
    ('{"$inc": {"n": 9999999999999999}}', '{"n": -10000}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": 123456789012345678901234567890}', '{}'),
    ('{"$inc": {"n": 0}}', '{"n": 10000}', '{}'),
    ('{"$inc": {"a.b": "$.x", "l.1": "$.y"}}', '{"l": [1, 2]}', '{"x": 3, "y": -4}'),
    ('{"$inc": {"n": "$$version"}}', '{"n": 1}', '{}'),
    ('[{"$inc": {"n": 1}}, {"$inc": {"n": 2}}, {"$inc": {"n": 0.5}}]', '{}', '{}'),
    ('{"$inc": {"n": {"$ifNull": ["$.x", 0]}}}', '{"n": 1}', '{}'),
    ('{"$inc": {"n": "$.x"}}', '{"n": 1}', '{}'),
    ('{"$inc": {"n": "$.x.y"}}', '{"n": 1}', '{"x": {"y": "5"}}'),
    ('{"$inc": {"n": "$.x"}}', '{"n": 1}', '{"x": null}'),
    ('{"$inc": {"n": {"$ifNull": ["$.x", "$.y"]}}}', '{"n": 1}', '{"y": []}'),
    ('{"$inc": {"n": 1}}', '{"n": null}', '{}'),
    ('{"$inc": {"n": 1}}', '{"n": "1"}', '{}'),
    ('{"$inc": {"n": "$$tags"}}', '{"n": 1}', '{}'),
    ('{"$inc": {"n": "1"}}', '{}', '{}'),
    ('{"$inc": {"n": null}}', '{}', '{}'),
    ('{"$inc": {"n": ["$.x"]}}', '{}', '{}'),
    ('{"$inc": {"n": {"x": "$.x"}}}', '{}', '{}'),
    ('{"$mul": {"n": 3}}', '{"n": 14}', '{}'),
    ('{"$mul": {"n": 1.10}}', '{"n": 2.5}', '{}'),
    ('{"$mul": {"n": 2}}', '{}', '{}'),
    ('{"$mul": {"n": 2.50}}', '{}', '{}'),
    ('{"$mul": {"n": -0}}', '{"n": -5}', '{}'),
    ('{"$mul": {"n": 4294967296}}', '{"n": 4294967296}', '{}'),
    ('{"$mul": {"n": "$.x"}}', '{"n": 1}', '{}'),
    ('{"$mul": {"n": "$.x"}}', '{"n": {}}', '{"x": 2}');
SELECT results();
SELECT left(try('{"$mul": {"n": "$.n"}}', jsonb_build_object('n', 10::numeric ^ 100000), jsonb_build_object('n', 10::numeric ^ 100000)), 200);
TRUNCATE cases;

--
-- $min, $max
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$min": {"n": 3}, "$max": {"m": 3}}', '{"n": 5, "m": 5}', '{}'),
    ('{"$min": {"n": 5}, "$max": {"m": 5}}', '{"n": 3, "m": 3}', '{}'),
    ('{"$min": {"n": 1}, "$max": {"m": 1}}', '{"n": 1.0, "m": 1.0}', '{}'),
    ('{"$min": {"a.n": 1}, "$max": {"b": "x"}}', '{}', '{}'),
    ('{"$min": {"n": "$.x"}, "$max": {"m": "$.x"}}', '{"n": 1, "m": 1}', '{}'),
    ('{"$min": {"n": "Z"}, "$max": {"m": "Z"}}', '{"n": "a", "m": "a"}', '{}'),
    ('{"$max": {"a": "é", "b": "ab", "c": ""}}', '{"a": "z", "b": "a", "c": "a"}', '{}'),
    ('{"$max": {"n": 10}}', '{"n": 9}', '{}'),
    ('{"$max": {"t": "$$recorded_at"}}', '{"t": "2024-02-03T04:05:06+00:00"}', '{}'),
    ('{"$max": {"a": 0, "b": "", "c": {}, "d": [], "e": false, "f": null}}', '{"a": null, "b": 5, "c": "x", "d": {"x": 1}, "e": [1], "f": true}', '{}'),
    ('{"$min": {"a": 0, "b": "", "c": {}, "d": [], "e": false, "f": null}}', '{"a": null, "b": 5, "c": "x", "d": {"x": 1}, "e": [1], "f": true}', '{}'),
    ('{"$max": {"a": [1, 3], "b": [1, 2, 0], "c": [0, 9], "d": true}}', '{"a": [1, 2, 9], "b": [1, 2], "c": [1], "d": false}', '{}'),
    ('{"$max": {"a": {"x": 2}, "b": {"y": 1}, "c": {"x": 1, "y": 0}, "d": {"x": "1"}}}', '{"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 1}, "d": {"y": 5}}', '{}'),
    ('{"$max": {"a.b": 1}}', '{"a": "x"}', '{}');
SELECT results();
TRUNCATE cases;

--
-- $push
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$push": {"a": 1}}', '{}', '{}'),
    ('{"$push": {"a": 1}}', '{"a": [0]}', '{}'),
    ('{"$push": {"a": "$.x", "b.c": "$.x"}}', '{"a": [0]}', '{"x": [1, 2]}'),
    ('{"$push": {"a": "$.y"}}', '{"a": [0]}', '{"x": [1, 2]}'),
    ('{"$push": {"a": {"sku": "$.sku", "qty": "$.qty", "at": "$$recorded_at"}}}', '{}', '{"sku": "A"}'),
    ('{"$push": {"a": {"$each": ["$.x", 2, {"y": "$.x"}, "$.nothing"]}}}', '{"a": [0]}', '{"x": 1}'),
    ('{"$push": {"a": {"$each": "$.x"}}}', '{"a": [0]}', '{"x": [1, {"y": 2}]}'),
    ('{"$push": {"a": {"$each": ["$.y"]}, "b": {"$each": [["$.y"]]}}}', '{"a": [0]}', '{}'),
    ('{"$push": {"a": {"$each": []}, "b": {"$each": []}}}', '{"a": [0]}', '{}'),
    ('{"$push": {"a": {"$each": "$.y"}}}', '{"a": [0]}', '{"x": [1, 2]}'),
    ('{"$push": {"a": {"$each": [7, 8], "$position": 1}}}', '{"a": [0, 1, 2]}', '{}'),
    ('{"$push": {"a": {"$each": [7, 8], "$position": -1}}}', '{"a": [0, 1, 2]}', '{}'),
    ('{"$push": {"a": {"$each": [7, 8], "$position": -9}, "b": {"$each": [7], "$position": 9}}}', '{"a": [0, 1, 2], "b": [1]}', '{}'),
    ('{"$push": {"a": {"$each": [7, 8], "$slice": -3}, "b": {"$each": [7, 8], "$slice": 3}, "c": {"$each": [7], "$slice": 0}}}', '{"a": [0, 1, 2], "b": [0, 1, 2], "c": [1]}', '{}'),
    ('{"$push": {"a": {"$each": [7], "$position": 0, "$slice": 2}}}', '{"a": [0, 1, 2]}', '{}'),
    ('{"$push": {"a": {"$literal": {"$each": [1]}}}}', '{}', '{}'),
    ('{"$push": {"a": {"$ifNull": ["$.x", 5]}}}', '{}', '{}'),
    ('{"$push": {"a.0.b": 1, "a.1": 2}}', '{"a": [{}, []]}', '{}'),
    ('{"$push": {"a": 1}}', '{"a": {"0": 1}}', '{}'),
    ('{"$push": {"a": 1}}', '{"a": null}', '{}'),
    ('{"$push": {"a": {"$each": "$.x"}}}', '{"a": [0]}', '{"x": 1}'),
    ('{"$push": {"a": {"$each": 1}}}', '{}', '{}'),
    ('{"$push": {"a": {"$each": {"x": "$.x"}}}}', '{}', '{}'),
    ('{"$push": {"a": {"$slice": 1}}}', '{}', '{}'),
    ('{"$push": {"a": {"$each": [], "$sort": 1}}}', '{}', '{}'),
    ('{"$push": {"a": {"$each": [], "$slice": "$.x"}}}', '{}', '{}'),
    ('{"$push": {"a": {"$each": [], "$position": 1.5}}}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- $addToSet
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$addToSet": {"a": 1}}', '{}', '{}'),
    ('{"$addToSet": {"a": 1}}', '{"a": [1.0, 2]}', '{}'),
    ('{"$addToSet": {"a": "1"}}', '{"a": [1]}', '{}'),
    ('{"$addToSet": {"a": {"x": 1, "y": [2, {"z": null}]}}}', '{"a": [{"y": [2.0, {"z": null}], "x": 1.0}]}', '{}'),
    ('{"$addToSet": {"a": {"x": "$.x"}}}', '{"a": [{"x": 5}]}', '{"x": 5}'),
    ('{"$addToSet": {"a": {"x": "$.x"}}}', '{"a": [{"x": 5}]}', '{"x": 6}'),
    ('{"$addToSet": {"a": [1]}}', '{"a": [1]}', '{}'),
    ('{"$addToSet": {"a": {"$each": [1, 2, 2, 3]}}}', '{"a": [1]}', '{}'),
    ('{"$addToSet": {"a": {"$each": "$.x"}}}', '{"a": [1]}', '{"x": [2, 1, {"y": 3}, {"y": 3.0}]}'),
    ('{"$addToSet": {"a": {"$each": []}}}', '{}', '{}'),
    ('{"$addToSet": {"a": "$.nothing"}}', '{}', '{}'),
    ('{"$addToSet": {"a": {"$each": "$.x"}}}', '{"a": [1, 1, "x", null, false, {"b": 1}, [], {}, 2.50, "y", 11, 12, 13]}',
        '{"x": [1.00, "y", "z", null, true, false, {"b": 1.0}, {"b": 2}, [], {}, [[]], 2.5, 13, 14, "z"]}'),
    ('{"$addToSet": {"a": 1}}', '{"a": 1}', '{}'),
    ('{"$addToSet": {"a": {"$each": "$"}}}', '{"a": []}', '{}'),
    ('{"$addToSet": {"a": {"$each": [], "$slice": 1}}}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- $pull
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$pull": {"a": 1}}', '{"a": [1, 2, 1.0, "1", [1]]}', '{}'),
    ('{"$pull": {"a": "$.x"}}', '{"a": ["x", "y"]}', '{"x": "y"}'),
    ('{"$pull": {"a": "$.y"}}', '{"a": ["x", "y", null]}', '{"x": "y"}'),
    ('{"$pull": {"a": null}}', '{"a": ["x", null, {"a": null}]}', '{}'),
    ('{"$pull": {"a": [1, 2]}}', '{"a": [1, 2, [1, 2], [2, 1]]}', '{}'),
    ('{"$pull": {"a": {"sku": "$.sku"}}}', '{"a": [{"sku": "A", "q": 1}, {"sku": "B"}, {"q": 1}, "A"]}', '{"sku": "A"}'),
    ('{"$pull": {"a": {"sku": "$.sku", "q": 1}}}', '{"a": [{"sku": "A", "q": 1}, {"sku": "A", "q": 2}, {"sku": "A"}]}', '{"sku": "A"}'),
    ('{"$pull": {"a": {"sku": "$.sku"}}}', '{"a": [{"sku": "A"}, {"sku": "B"}, {}]}', '{}'),
    ('{"$pull": {"a": {"p.sku": "A"}}}', '{"a": [{"p": {"sku": "A"}}, {"p": [{"sku": "A"}]}, {"p": {"sku": "B"}}]}', '{}'),
    ('{"$pull": {"a": {"p.0.sku": "A"}}}', '{"a": [{"p": {"sku": "A"}}, {"p": [{"sku": "A"}]}, {"p": {"sku": "B"}}]}', '{}'),
    ('{"$pull": {"a": {"p": {"sku": "A"}}}}', '{"a": [{"p": {"sku": "A"}}, {"p": {"sku": "A", "q": 1}}]}', '{}'),
    ('{"$pull": {"a": "$.item"}}', '{"a": [{"sku": "A", "q": 1}, {"sku": "A"}, {"sku": "B"}]}', '{"item": {"sku": "A"}}'),
    ('{"$pull": {"a": "$.item"}}', '{"a": [{"sku": "A"}, {}, []]}', '{"item": {}}'),
    ('{"$pull": {"a": {"$literal": {"p.x": 1}}}}', '{"a": [{"p.x": 1, "y": 2}, {"p": {"x": 1}}]}', '{}'),
    ('{"$pull": {"a": {"$gte": 2, "$lt": 4}}}', '{"a": [1, 2, 3, 4, "3", null]}', '{}'),
    ('{"$pull": {"a": {"$gt": "b"}, "b": {"$lte": "b"}}}', '{"a": ["a", "b", "c", 5], "b": ["a", "b", "c", 5]}', '{}'),
    ('{"$pull": {"a": {"q": {"$lte": 0}}}}', '{"a": [{"q": 0}, {"q": 1}, {"q": -1}, {"q": "0"}, {}]}', '{}'),
    ('{"$pull": {"a": {"$in": "$.x"}}}', '{"a": [1, 2, 3, 4]}', '{"x": [2, 4, 5]}'),
    ('{"$pull": {"a": {"$in": ["$.x", 3]}}}', '{"a": [1, 2, 3, 4]}', '{"x": 1}'),
    ('{"$pull": {"a": {"$nin": [1, 2]}}}', '{"a": [1, 2, 3, 4]}', '{}'),
    ('{"$pull": {"a": {"s": {"$ne": "keep"}}}}', '{"a": [{"s": "keep"}, {"s": "drop"}, {}, 5]}', '{}'),
    ('{"$pull": {"a": {"s": {"$nin": ["keep"]}}}}', '{"a": [{"s": "keep"}, {"s": "drop"}, {}, 5]}', '{}'),
    ('{"$pull": {"a": {"$eq": {"x": 1}}}}', '{"a": [{"x": 1}, {"x": 1, "y": 2}]}', '{}'),
    ('{"$pull": {"a": {"$in": "$.y"}, "b": {"x": "$.y"}, "c": {"$gt": "$.y"}}}', '{"a": [1], "b": [{}], "c": [1]}', '{}'),
    ('{"$pull": {"a": {"$in": ["$.y", 1]}, "b": {"$nin": ["$.y"]}, "c": {"p": {"x": "$.y"}}, "d": {"$ne": {"$ifNull": ["$.y", 1]}}}}',
        '{"a": [1, null], "b": [1], "c": [{"p": {}}], "d": [1, 2]}', '{}'),
    ('{"$pull": {"a": 1}}', '{}', '{}'),
    ('{"$pull": {"a.1": 1}}', '{"a": [[1], [1, 2]]}', '{}'),
    ('{"$pull": {"a": 1}}', '{"a": {"b": 1}}', '{}'),
    ('{"$pull": {"a": {"$in": "$.x"}}}', '{"a": [1]}', '{"x": 1}'),
    ('{"$pull": {"a": {"$in": 5}}}', '{}', '{}'),
    ('{"$pull": {"a": {"$regex": "x"}}}', '{}', '{}'),
    ('{"$pull": {"a": {"x": {"$exists": true}}}}', '{}', '{}'),
    ('{"$pull": {"a": {"x": 1, "$gt": 5}}}', '{}', '{}'),
    ('{"$pull": {"a": {}}}', '{}', '{}'),
    ('{"$pull": {"a": {"x..y": 5}}}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- $merge
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$merge": "$"}', '{"a": 1, "b": {"c": 2}}', '{"a": 9, "b": {"d": 3}, "e": null}'),
    ('{"$merge": "$"}', '{"a": 1}', '{}'),
    ('{"$merge": "$.x"}', '{"a": 1}', '{"x": {"b": 2}}'),
    ('{"$merge": "$.y"}', '{"a": 1}', '{"x": {"b": 2}}'),
    ('{"$merge": "$$metadata.user"}', '{"a": 1}', '{}'),
    ('{"$merge": {"a": "$.x"}}', '{"a": {"b": 1, "c": 1}}', '{"x": {"b": 2}}'),
    ('{"$merge": {"a.b": "$.x"}}', '{}', '{"x": {"b": 2}}'),
    ('{"$merge": {"a": {}}}', '{}', '{"x": {"b": 2}}'),
    ('{"$merge": {"a": {"x": "$.x", "y": "$.y"}}}', '{"a": {"x": 0, "y": 0, "z": 0}}', '{"x": {"b": 2}}'),
    ('{"$merge": {"$literal": {"$x": 1}}}', '{"a": 1}', '{}'),
    ('{"$merge": {"$ifNull": ["$.x", {"b": 2}]}}', '{"a": 1}', '{}'),
    ('{"$merge": {"a.1": "$"}}', '{"a": [1, {"x": 1}]}', '{"b": 2}'),
    ('{"$merge": "$"}', '{"a": 1}', '[1]'),
    ('{"$merge": "$.x"}', '{"a": 1}', '{"x": null}'),
    ('{"$merge": "$"}', '[]', '{"x": null}'),
    ('{"$merge": "$"}', '1', '{"x": null}'),
    ('{"$merge": {"a": "$"}}', '{"a": null}', '{}'),
    ('{"$merge": {"a": 1}}', '{}', '{}'),
    ('{"$merge": {"a": ["$"]}}', '{}', '{}'),
    ('{"$merge": ["$"]}', '{}', '{}'),
    ('{"$merge": {"$literal": 5}}', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- several operators
--
INSERT INTO cases (ops, state, data) VALUES
    ('{"$set": {"status": "paid"}, "$inc": {"n": 1}, "$push": {"log": "$$type"}, "$unset": "due"}', '{"due": 5}', '{}'),
    ('[{"$merge": "$"}, {"$set": {"status": "created"}}, {"$unset": "secret"}]', '{}', '{"status": "x", "secret": 1, "keep": 2}'),
    ('[]', '{"a": 1}', '{}'),
    ('{}', '{"a": 1}', '{}'),
    ('[{}, {}]', '{"a": 1}', '{}'),
    ('{"$set": {"a": 1}, "$inc": {"a": 1}}', '{}', '{}'),
    ('{"$set": {"a": 1}, "$inc": {"a.b": 1}}', '{}', '{}'),
    ('{"$set": {"a.b.c": 1}, "$unset": ["a.bb", "a.b"]}', '{}', '{}'),
    ('{"$set": {"a.b": 1, "a": 2}}', '{}', '{}'),
    ('{"$set": {"a": 1, "ab": 2, "a.b": 3}}', '{}', '{}'),
    ('{"$merge": "$", "$set": {"a": 1}}', '{}', '{}'),
    ('{"$set": {"a": 1, "b": 2}, "$inc": {"ab": 1, "a b": 2}, "$unset": "b.c"}', '{}', '{}'),
    ('[{"$set": {"a": 1}}, {"$set": {"b": 1}, "$inc": {"b": 1}}]', '{}', '{}'),
    ('{"set": {"a": 1}}', '{}', '{}'),
    ('{"a": 1}', '{}', '{}'),
    ('{"$rename": {"a": "b"}}', '{}', '{}'),
    ('{"$set": "$"}', '{}', '{}'),
    ('{"$set": 1}', '{}', '{}'),
    ('{"$set": []}', '{}', '{}'),
    ('"$set"', '{}', '{}'),
    ('null', '{}', '{}'),
    ('[[]]', '{}', '{}'),
    ('[{"$set": {"a": 1}}, 5]', '{}', '{}');
SELECT results();
TRUNCATE cases;

--
-- paths and references that cannot be
--
INSERT INTO cases (ops, state) VALUES
    ('{"$set": {"a..b": 1}}', '{}'),
    ('{"$set": {".a": 1}}', '{}'),
    ('{"$set": {"a.": 1}}', '{}'),
    ('{"$set": {"a.$": 1}}', '{}'),
    ('{"$set": {"a.$[].b": 1}}', '{}'),
    ('{"$set": {"$a": 1}}', '{}'),
    ('{"$set": {"a[0]": 1}}', '{}'),
    ('{"$inc": {"a \"quoted\" name..": 1}}', '{}'),
    ('{"$set": {"a": "$x"}}', '{}'),
    ('{"$set": {"a": "$5.00"}}', '{}'),
    ('{"$set": {"a": "$."}}', '{}'),
    ('{"$set": {"a": "$.x..y"}}', '{}'),
    ('{"$set": {"a": "$.x.$y"}}', '{}'),
    ('{"$set": {"a": "$.items[0].sku"}}', '{}'),
    ('{"$set": {"a": "$.items[*]"}}', '{}'),
    ('{"$set": {"a": "$.odd[x]"}}', '{}'),
    ('{"$set": {"a": "$$"}}', '{}'),
    ('{"$set": {"a": "$$now"}}', '{}'),
    ('{"$set": {"a": "$$data.x"}}', '{}'),
    ('{"$set": {"a": "$$version.x"}}', '{}'),
    ('{"$set": {"a": "$$metadata."}}', '{}'),
    ('{"$set": {"a": "$$metadatax"}}', '{}'),
    ('{"$set": {"a": {"b": [1, {"c": "$oops"}]}}}', '{}'),
    ('{"$set": {"a": {"$set": 1}}}', '{}'),
    ('{"$set": {"a": {"b": 1, "$literal": 1}}}', '{}'),
    ('{"$set": {"a": {"$ifNull": "$.x"}}}', '{}'),
    ('{"$set": {"a": {"$ifNull": ["$.x"]}}}', '{}'),
    ('{"$set": {"a": {"$ifNull": ["$.x", "$y"]}}}', '{}');
SELECT results();
TRUNCATE cases;
-- the rules as a whole
\set VERBOSITY terse
SELECT es_apply_rules('[]', '{}', NULL::es_event) IS NULL;
SELECT es_apply_rules('[]', '{}', ROW(1, 's', 1, 'E', '{}', NULL, NULL, NULL, now())::es_event);
SELECT es_apply_rules('5', '{}', ROW(1, 's', 1, 'E', '{}', NULL, NULL, NULL, now())::es_event);
SELECT es_apply_rules('{}', '{"a": 1}', ROW(1, 's', 1, 'E', '{}', NULL, NULL, NULL, now())::es_event);
-- an event type that is not named leaves the state alone, and its data unread
SELECT es_apply_rules('{"E": {"$set": {"a": 1}}, "": {"$set": {"empty": 1}}, "e": {"$set": {"case": 1}}}', '{"s": 0}', ROW(1, 's', 1, type, '{}', NULL, NULL, NULL, now())::es_event)
    FROM (VALUES (1, 'E'), (2, 'F'), (3, ''), (4, 'e'), (5, 'EE'), (6, repeat('E', 10000))) v(n, type) ORDER BY n;
-- many types
SELECT count(DISTINCT es_apply_rules(rules, '{}', ROW(1, 's', 1, 'E' || i, '{}', NULL, NULL, NULL, now())::es_event))
    FROM generate_series(1, 300) i,
        (SELECT jsonb_object_agg('E' || j, jsonb_build_object('$set', jsonb_build_object('n', j))) AS rules FROM generate_series(1, 250) j) r;

--
-- bounds
--
SELECT try(jsonb_build_object('$set', jsonb_build_object(repeat('a.', n) || 'a', 1)), '{}') = repeat('{"a": ', n + 1) || '1' || repeat('}', n + 1)
    FROM (VALUES (99)) v(n);
SELECT try(jsonb_build_object('$set', jsonb_build_object(repeat('a.', 100) || 'a', 1)), '{}') LIKE '22023 path in rules is too deep%';
SELECT try(format('{"$set": {"x": %s1%s}}', repeat('[', 100), repeat(']', 100))::jsonb, '{}') = format('{"x": %s1%s}', repeat('[', 100), repeat(']', 100));
SELECT try(format('{"$set": {"x": %s1%s}}', repeat('[', 101), repeat(']', 101))::jsonb, '{}') LIKE '22023 value in rules is nested too deeply%';
SELECT try(format('{"$set": {"x": {"$literal": %s1%s}}}', repeat('[', 500), repeat(']', 500))::jsonb, '{}') = format('{"x": %s1%s}', repeat('[', 500), repeat(']', 500));
-- what is deep in events and in the state is copied as it is
SELECT try('{"$set": {"x": "$.d"}, "$push": {"l": "$.d"}, "$addToSet": {"s": "$.d"}, "$max": {"m": "$.d"}}',
        jsonb_build_object('s', jsonb_build_array(d), 'm', d), jsonb_build_object('d', d))::jsonb
        = jsonb_build_object('x', d, 'l', jsonb_build_array(d), 's', jsonb_build_array(d), 'm', d)
    FROM (SELECT (repeat('[', 2000) || repeat(']', 2000))::jsonb AS d) v;

--
-- large values: what is written can be read again
--
CREATE FUNCTION fold(rules jsonb, state jsonb, datas jsonb[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    data jsonb;
BEGIN
    FOREACH data IN ARRAY datas LOOP
        state := es_apply_rules(rules, state, ROW(1, 's', 1, 'E', data, NULL, NULL, NULL, now())::es_event);
    END LOOP;
    RETURN state;
END $$;
-- an object with many members, in any order, some of them removed again
WITH many AS (
    SELECT jsonb_object_agg('k' || md5(i::text), i) AS all_members,
           jsonb_object_agg('k' || md5(i::text), i) FILTER (WHERE i % 3 > 0) AS kept,
           jsonb_agg('o.k' || md5(i::text)) FILTER (WHERE i % 3 = 0) AS gone
    FROM generate_series(1, 2000) i)
SELECT fold(jsonb_build_object('E', jsonb_build_array('{"$merge": {"o": "$"}}'::jsonb, jsonb_build_object('$unset', gone))), '{}', ARRAY[all_members])
        = jsonb_build_object('o', kept)
    FROM many;
WITH result AS (
    SELECT fold('{"E": {"$merge": "$"}}', '{}', array_agg(jsonb_build_object('k' || md5(i::text), i) ORDER BY i)) AS state FROM generate_series(1, 500) i)
SELECT state = (SELECT jsonb_object_agg('k' || md5(i::text), i) FROM generate_series(1, 500) i),
       (SELECT count(*) FROM generate_series(1, 500) i WHERE state -> ('k' || md5(i::text)) = to_jsonb(i))
    FROM result;
-- an array with many elements
WITH result AS (
    SELECT fold('{"E": {"$push": {"a": {"$each": "$"}}, "$addToSet": {"s": {"$each": "$"}}}}', '{}', array_agg(jsonb_build_array(i, i % 100, 'x' || i) ORDER BY i)) AS state FROM generate_series(1, 500) i)
SELECT state -> 'a' = (SELECT jsonb_agg(e ORDER BY i, n) FROM generate_series(1, 500) i, LATERAL (VALUES (1, to_jsonb(i)), (2, to_jsonb(i % 100)), (3, to_jsonb('x' || i))) v(n, e)),
       jsonb_array_length(state -> 's'), state -> 's' -> 1000, state #> '{a,1499}'
    FROM result;
-- names that differ late, out of order
WITH result AS (
    SELECT fold('{"E": {"$merge": "$"}}', '{}', array_agg(jsonb_build_object('the same beginning ' || i % 37 || ' ' || i, i) ORDER BY i DESC)) AS state FROM generate_series(100, 300) i)
SELECT state = (SELECT jsonb_object_agg('the same beginning ' || i % 37 || ' ' || i, i) FROM generate_series(100, 300) i),
       (SELECT count(*) FROM generate_series(100, 300) i WHERE state -> ('the same beginning ' || i % 37 || ' ' || i) = to_jsonb(i))
    FROM result;
-- a set that was searched by hash, then changed in other ways
SELECT try(format('[{"$addToSet": {"a": {"$each": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, {"x": 1}]}}}, %s, {"$addToSet": {"a": {"$each": [1, 2, 9, 11, 12, {"x": 1}, {"x": 2}, null]}}}]', change)::jsonb, '{}')
    FROM (VALUES (1, '{"$set": {"a.1": 12}}'), (2, '{"$set": {"a.11.x": 2}}'), (3, '{"$unset": "a.8"}'), (4, '{"$pull": {"a": 2}}'),
        (5, '{"$push": {"a": {"$each": [], "$slice": 10}}}'), (6, '{"$push": {"a": {"$each": [], "$slice": -3}}}'),
        (7, '{"$push": {"a": {"$each": [12], "$position": 0}}}'), (8, '{"$push": {"a": {"$each": [12, 11], "$slice": 9, "$position": 5}}}'),
        (9, '{"$inc": {"a.10": 1}}'), (10, '{"$set": {"a": [12]}}')) v(n, change) ORDER BY n;
-- so much garbage in one event that the state is compacted
SELECT es_apply_rules('{"E": [{"$set": {"big": "$.big", "o.k": 1}}, {"$push": {"l": "$.big", "s": "x"}}, {"$unset": "big"}, {"$addToSet": {"s": "y"}}, {"$set": {"l": []}}]}',
        '{"o": {"a": 1}, "s": []}', ROW(1, 's', 1, 'E', jsonb_build_object('big', repeat('x', 2000000)), NULL, NULL, NULL, now())::es_event);
-- more than jsonb can hold
SELECT es_apply_rules('{"E": {"$set": {"a": "$.s", "b": "$.s", "c": "$.s"}}}', '{}',
        ROW(1, 's', 1, 'E', jsonb_build_object('s', repeat('x', 100000000)), NULL, NULL, NULL, now())::es_event) IS NULL;

--
-- several events in one fold: nothing of an event is referred to afterwards
--
SELECT es_create_store('rules');
SET eventsourcing.store = 'rules';
SELECT es_create_aggregate('Box', rules => '{"Put": {"$push": {"words": "$.word", "pairs": {"$each": ["$.pair"]}}, "$set": {"last": "$.word"}, "$addToSet": {"set": "$.pair"}, "$merge": {"by_name": "$.named"}, "$max": {"longest": "$.word"}}}');
-- checked when they are created
\set VERBOSITY default
SELECT es_create_aggregate('Bad', rules => '{"Put": {"$inc": {"a..b": 1}}}');
SELECT es_create_aggregate('Bad', rules => '{"Put": {"$inc": {"a": 1}}}', initial => '[]');
SELECT es_append('Box-1', 'Put', jsonb_build_object('word', repeat(chr(96 + i), i), 'pair', jsonb_build_array(i, i + 0.5), 'named', jsonb_build_object('name ' || i, chr(96 + i)))) FROM generate_series(1, 4) i;
SELECT * FROM es_load('Box-1');
-- data and metadata that are compressed, stored elsewhere, or both
SELECT es_create_aggregate('Big', rules => '{"E": {"$set": {"data": "$.text", "metadata": "$$metadata.text"}}}', snapshot_every => 1);
SELECT es_append('Big-' || n, 'E', jsonb_build_object('text', text), metadata => jsonb_build_object('text', text))
  FROM (VALUES (1, repeat('x', 5000)), (2, repeat('x', 1000000)), (3, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100) i)),
               (4, (SELECT string_agg(repeat(md5(i::text), 2), '') FROM generate_series(1, 1000) i))) v (n, text) ORDER BY n;
SET eventsourcing.use_snapshots = off;
SELECT e.stream, length(s.state::text), l.state = s.state AND l.state->'data' = e.data->'text' AND l.state->'metadata' = e.metadata->'text' AS same
  FROM rules.events e JOIN rules.snapshots s USING (stream, version) CROSS JOIN LATERAL es_load(e.stream) l ORDER BY e.stream;
RESET eventsourcing.use_snapshots;
RESET eventsourcing.store;
SELECT es_drop_store('rules', confirm => true);

DROP TABLE cases;
DROP FUNCTION try, results, fold;
