-- Each client owns a slice of the 10,000 streams and goes round it, so it knows
-- every stream's version without asking: they begin with one event each.
\set i :i + 1
\set slice 10000 / :clients
\set stream :first + :stride * (:client_id * :slice + :i % :slice)
\set version :events_before + :i / :slice
\set digits12 random(100000000000, 999999999999)
