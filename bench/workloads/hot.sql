-- One stream for all.  :version is for the floor alone: it checks nothing, so
-- here it gets numbers that don't collide.
\set i :i + 1
\set stream :first
\set version :events_before + :client_id * 10000000 + :i
\set digits12 random(100000000000, 999999999999)
