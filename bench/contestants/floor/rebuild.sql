-- By hand, in one pass that knows the events to commute.
BEGIN;
TRUNCATE totals;
INSERT INTO totals SELECT stream, count(*), sum((data ->> 'amount')::bigint) FROM events GROUP BY stream;
COMMIT;
