-- The read model of the projections' workloads.
CREATE TABLE totals (
  stream text PRIMARY KEY,
  events bigint NOT NULL,
  amount bigint NOT NULL
);
