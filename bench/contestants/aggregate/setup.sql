\ir ../floor/setup.sql

CREATE FUNCTION apply(state jsonb, type text, data jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  CASE type
    WHEN 'OrderCreated' THEN
      RETURN state || jsonb_build_object('status', 'created', 'customer', data #> '{customer,id}',
                                         'total', 0, 'items', 0, 'paid', 0);
    WHEN 'ItemAdded' THEN
      RETURN state || jsonb_build_object('total', (state ->> 'total')::bigint + (data ->> 'amount')::bigint,
                                         'items', (state ->> 'items')::bigint + 1);
    WHEN 'PaymentReceived' THEN
      RETURN state || jsonb_build_object('status', 'paid',
                                         'paid', (state ->> 'paid')::bigint + (data ->> 'amount')::bigint);
    WHEN 'AddressChanged' THEN
      RETURN state || jsonb_build_object('email', data #> '{customer,email}');
    WHEN 'KeyAdded' THEN
      RETURN state || data;
    ELSE
      RETURN state;
  END CASE;
END $$;

CREATE AGGREGATE fold(type text, data jsonb) (sfunc = apply, stype = jsonb, initcond = '{}');
