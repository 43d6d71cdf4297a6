-- What a migration would run once: the store, the aggregate, the read model, the
-- handlers.
CREATE EXTENSION IF NOT EXISTS eventsourcing;
SELECT es_create_store();

-- What the aggregate's apply methods did in Ruby.
SELECT es_create_aggregate('Order', snapshot_every => 100, rules => '{
  "OrderCreated":    {"$set": {"status": "created", "customer_id": "$.customer_id",
                               "total_amount_cents": "$.total_amount_cents", "items": "$.items"}},
  "ItemAdded":       {"$push": {"items": "$.item"}, "$inc": {"total_amount_cents": "$.item.price_cents"}},
  "PaymentReceived": {"$set": {"status": "paid", "paid_at": "$$recorded_at", "payment_method": "$.payment_method"}}}');

-- OrderProjector: the read model, in the transaction that appends.
CREATE TABLE order_read_models (
    order_id           text PRIMARY KEY,
    customer_id        int NOT NULL,
    status             text NOT NULL,
    total_amount_cents bigint NOT NULL,
    updated_at         timestamptz NOT NULL
);
SELECT es_create_projection('order_read_model', tables => '{order_read_models}', script => $$
    INSERT INTO order_read_models (order_id, customer_id, status, total_amount_cents, updated_at)
    SELECT stream, (data->>'customer_id')::int, 'created', (data->>'total_amount_cents')::bigint, recorded_at
      FROM new_events WHERE type = 'OrderCreated';

    UPDATE order_read_models o
       SET total_amount_cents = o.total_amount_cents + coalesce((e.data #>> '{item,price_cents}')::bigint, 0),
           status = CASE e.type WHEN 'PaymentReceived' THEN 'paid' ELSE o.status END,
           updated_at = e.recorded_at
      FROM new_events e
     WHERE o.order_id = e.stream AND e.type IN ('ItemAdded', 'PaymentReceived')
$$);

-- The inventory and e-mail handlers: after the commit, each on its own, each
-- retried on its own.
CREATE TABLE reservations (order_id text, sku text, PRIMARY KEY (order_id, sku));
SELECT es_create_handler('inventory', types => '{OrderCreated,ItemAdded}', script => $$
    INSERT INTO reservations
    SELECT e.stream, i.item->>'sku'
      FROM new_events e
     CROSS JOIN LATERAL jsonb_array_elements(coalesce(e.data->'items', jsonb_build_array(e.data->'item'))) i (item)
    ON CONFLICT DO NOTHING
$$);
CREATE TABLE mails (id bigint GENERATED ALWAYS AS IDENTITY, order_id text, subject text);
SELECT es_create_handler('mail', types => '{PaymentReceived}', script => $$
    INSERT INTO mails (order_id, subject)
    SELECT stream, 'Thank you for your payment of order ' || stream FROM new_events
$$);
