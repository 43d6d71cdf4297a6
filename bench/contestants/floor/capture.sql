-- A table of an application, for the workloads of es_capture.
CREATE TABLE customer (
  id bigint PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL,
  street text NOT NULL,
  city text NOT NULL,
  country text NOT NULL DEFAULT 'NO',
  blocked boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  lock_version bigint NOT NULL DEFAULT 0
);

INSERT INTO customer (id, name, email, street, city)
SELECT i, 'Ada Lovelace', 'ada@example.com', 'Harbour Street 7', 'Bergen' FROM generate_series(1, 10000) i;
