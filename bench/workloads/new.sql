-- A stream that nobody has used, so its version is 0.
\set i :i + 1
\set stream :first + :client_id * 10000000 + :i
\set version 0
\set digits12 random(100000000000, 999999999999)
