CREATE FUNCTION apply(state jsonb, event es_event) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  CASE event.type
    WHEN 'OrderCreated' THEN
      RETURN state || jsonb_build_object('status', 'created', 'customer', event.data #> '{customer,id}',
                                         'total', 0, 'items', 0, 'paid', 0);
    WHEN 'ItemAdded' THEN
      RETURN state || jsonb_build_object('total', (state ->> 'total')::bigint + (event.data ->> 'amount')::bigint,
                                         'items', (state ->> 'items')::bigint + 1);
    WHEN 'PaymentReceived' THEN
      RETURN state || jsonb_build_object('status', 'paid',
                                         'paid', (state ->> 'paid')::bigint + (event.data ->> 'amount')::bigint);
    WHEN 'AddressChanged' THEN
      RETURN state || jsonb_build_object('email', event.data #> '{customer,email}');
    WHEN 'KeyAdded' THEN
      RETURN state || event.data;
    ELSE
      RETURN state;
  END CASE;
END $$;

SELECT es_create_aggregate('Order', snapshot_every => :snapshot_every, apply => 'apply(jsonb, es_event)');
