-- What every store of the benchmark has beside the contestant's own objects:
-- the events that fills are made of.

CREATE SCHEMA bench;

-- The event number `version` of a stream.  All shapes are what the benchmark's
-- folds understand; 'order' has the same 215 bytes of data as single appends.
CREATE FUNCTION bench.event(shape text, version bigint, OUT type text, OUT data jsonb)
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF shape = 'growing' THEN
    type := 'KeyAdded';
    data := jsonb_build_object('key_' || version, version);
  ELSE
    type := CASE WHEN version = 1 THEN 'OrderCreated'
                 ELSE (ARRAY['ItemAdded', 'PaymentReceived', 'AddressChanged'])[version % 3 + 1] END;
    data := jsonb_build_object(
      'order', 4711,
      'customer', jsonb_build_object('id', 123, 'email', 'ada@example.com'),
      'lines', jsonb_build_array(
        jsonb_build_object('sku', 'A-1001', 'qty', 2, 'cents', 1999),
        jsonb_build_object('sku', 'B-2002', 'qty', 1, 'cents', 4999)),
      'amount', 1000 + version % 9000,
      'note', 'please ring twice');
  END IF;
END $$;

-- A slice of every stream's events.
CREATE FUNCTION bench.events(shape text, from_version bigint, to_version bigint)
RETURNS TABLE (version bigint, type text, data jsonb)
LANGUAGE sql IMMUTABLE AS $$
  SELECT v, e.type, e.data
  FROM generate_series(from_version, to_version) v, bench.event(shape, v) e
$$;

-- Fills go through a history in steps, so that streams grow side by side.
CREATE FUNCTION bench.steps(events bigint, size bigint DEFAULT 10)
RETURNS TABLE (from_version bigint, to_version bigint)
LANGUAGE sql IMMUTABLE AS $$
  SELECT v, least(v + size - 1, events) FROM generate_series(1, events, size) v
$$;
