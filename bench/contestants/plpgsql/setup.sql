\ir ../floor/setup.sql

CREATE FUNCTION append(stream text, types text[], datas jsonb[], expected bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  current bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(append.stream, 0));
  SELECT coalesce(max(e.version), 0) INTO current FROM events e WHERE e.stream = append.stream;
  IF expected IS NOT NULL AND expected <> current THEN
    RAISE EXCEPTION 'stream % is at version %, not %', append.stream, current, expected;
  END IF;
  INSERT INTO events (stream, version, type, data)
  SELECT append.stream, current + e.n, e.type, e.data
  FROM unnest(types, datas) WITH ORDINALITY AS e(type, data, n);
  RETURN current + cardinality(types);
END $$;

-- The same for one event, which is faster.
CREATE FUNCTION append(stream text, type text, data jsonb, expected bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  current bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(append.stream, 0));
  SELECT coalesce(max(e.version), 0) INTO current FROM events e WHERE e.stream = append.stream;
  IF expected IS NOT NULL AND expected <> current THEN
    RAISE EXCEPTION 'stream % is at version %, not %', append.stream, current, expected;
  END IF;
  INSERT INTO events (stream, version, type, data)
  VALUES (append.stream, current + 1, append.type, append.data);
  RETURN current + 1;
END $$;

CREATE FUNCTION load(stream text) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
  state jsonb := '{}';
  event record;
BEGIN
  FOR event IN
    SELECT e.type, e.data FROM events e WHERE e.stream = load.stream ORDER BY e.version
  LOOP
    CASE event.type
      WHEN 'OrderCreated' THEN
        state := state || jsonb_build_object('status', 'created', 'customer', event.data #> '{customer,id}',
                                             'total', 0, 'items', 0, 'paid', 0);
      WHEN 'ItemAdded' THEN
        state := state || jsonb_build_object('total', (state ->> 'total')::bigint + (event.data ->> 'amount')::bigint,
                                             'items', (state ->> 'items')::bigint + 1);
      WHEN 'PaymentReceived' THEN
        state := state || jsonb_build_object('status', 'paid',
                                             'paid', (state ->> 'paid')::bigint + (event.data ->> 'amount')::bigint);
      WHEN 'AddressChanged' THEN
        state := state || jsonb_build_object('email', event.data #> '{customer,email}');
      WHEN 'KeyAdded' THEN
        state := state || event.data;
      ELSE
        NULL;
    END CASE;
  END LOOP;
  RETURN state;
END $$;
