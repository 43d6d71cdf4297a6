-- es_given() and es_then(), as a user's tests would use them.
BEGIN;
SELECT plan(6);
SELECT es_create_store();
SELECT es_create_aggregate('Account', rules => '{
    "Deposited": {"$inc": {"balance": "$.amount"}},
    "Withdrawn": {"$inc": {"balance": "$.amount"}}}');
CREATE FUNCTION decide_account(state jsonb, command text, payload jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce((state ->> 'balance')::numeric, 0) < (payload ->> 'amount')::numeric THEN
        RAISE EXCEPTION 'insufficient funds';
    END IF;
    RETURN jsonb_build_array(jsonb_build_object('type', 'Withdrawn', 'data',
               jsonb_build_object('amount', - (payload ->> 'amount')::numeric)));
END $$;
SELECT es_create_decider('Account', 'decide_account(jsonb, text, jsonb)');

SELECT es_given('Account-1', '[{"type": "Deposited", "data": {"amount": 10}}]');
SELECT es_execute('Account-1', 'withdraw', '{"amount": 4}');
SELECT es_then('Account-1', '[{"type": "Withdrawn", "data": {"amount": -4}}]', 'what is there can be withdrawn');

SELECT es_given('Account-2', '[{"type": "Deposited", "data": {"amount": 10}}]');
SELECT throws_ok($$SELECT es_execute('Account-2', 'withdraw', '{"amount": 11}')$$, 'insufficient funds');
SELECT es_then('Account-2', '[]', 'what is refused leaves no event');

SELECT es_given('Account-4', '[]');
SELECT es_then('Account-4', '[]', 'nothing happened');

-- They can fail.
SELECT es_given('Account-3', '[{"type": "Deposited", "data": {"amount": 10}, "metadata": {"actor": "ann"}},
    {"type": "Deposited", "metadata": null, "event_id": null, "tags": null}]');
SELECT es_append('Account-3', 'Closed');
SELECT check_test(
    (SELECT string_agg(line, E'\n') FROM es_then('Account-3', '[]', 'nothing') line),
    false, 'an event that was not expected', 'nothing');

SELECT * FROM finish();
ROLLBACK;
