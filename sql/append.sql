-- Appending: versions, expected versions, batches, ids.
\set VERBOSITY sqlstate
SELECT es_append('Order-1', 'OrderCreated');
\set VERBOSITY default
SELECT es_create_store();
SELECT es_append('Order-1', 'OrderCreated', '{"customer_id": 123, "total_amount_cents": 5000}', expected_version => 0);
SELECT es_append('Order-1', 'PaymentReceived', '{"payment_method": "credit_card"}', expected_version => 1);
SELECT es_append('Order-1', 'PaymentReceived', '{"payment_method": "credit_card"}', expected_version => 1);
SELECT es_append_events('Order-1', '[{"type": "A"}, {"type": "B", "data": {"x": 1}, "tags": ["a", "b"], "metadata": {"k": 1}}]', 2);
SELECT version, type, data, metadata, tags FROM es_read('Order-1');
SELECT es_drop_store('es', confirm => true);
