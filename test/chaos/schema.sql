-- What the clients work on.  Every kind of read model, of handler and of fold is
-- there, and each can be compared with what the events make.
CREATE EXTENSION eventsourcing;
CREATE EXTENSION amcheck;
SELECT es_create_store();

-- Folds: S by rules, of which the keeper knows two variants; Acct by an apply
-- function, with a decider that never lets a balance become negative.
CREATE FUNCTION apply_account(state jsonb, event es_event) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('balance', coalesce((state->>'balance')::bigint, 0) +
                              CASE event.type WHEN 'Deposited' THEN 1 WHEN 'Withdrawn' THEN -1 ELSE 0 END *
                              (event.data->>'amount')::bigint);
END $$;

CREATE FUNCTION decide_account(state jsonb, command text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF command = 'withdraw' AND (payload->>'amount')::bigint > coalesce((state->>'balance')::bigint, 0) THEN
        RAISE 'not enough money' USING ERRCODE = 'P0B01';
    END IF;
    RETURN jsonb_build_array(jsonb_build_object(
        'type', CASE command WHEN 'withdraw' THEN 'Withdrawn' ELSE 'Deposited' END, 'data', payload));
END $$;

SELECT es_create_aggregate('S', rules => '{"E": {"$inc": {"n": 1, "sum": "$.k"}, "$set": {"last": "$$version"}}}', snapshot_every => 20);
SELECT es_create_aggregate('Acct', 'apply_account(jsonb, es_event)', snapshot_every => 7);
SELECT es_create_decider('Acct', 'decide_account(jsonb, text, jsonb)');

-- Read models: inline by event and by stream, async by batch.
CREATE TABLE totals (category text PRIMARY KEY, n bigint, sum bigint);
SELECT es_create_projection('totals', tables => '{totals}', types => '{Deposited,Withdrawn,Rare}', script => $$
    INSERT INTO totals SELECT split_part(stream, '-', 1), 1, (data->>'amount')::bigint FROM new_events
    ON CONFLICT (category) DO UPDATE SET n = totals.n + 1, sum = totals.sum + EXCLUDED.sum
$$);
CREATE TABLE latest (stream text PRIMARY KEY, version bigint, position bigint, n bigint);
SELECT es_create_projection('latest', tables => '{latest}', granularity => 'stream', script => $$
    INSERT INTO latest SELECT stream, version, position, 1 FROM new_events
    ON CONFLICT (stream) DO UPDATE SET version = EXCLUDED.version, position = EXCLUDED.position, n = latest.n + 1
$$);
CREATE TABLE counts (stream text PRIMARY KEY, n bigint, version bigint, positions numeric);
SELECT es_create_projection('counts', tables => '{counts}', mode => 'async', granularity => 'batch', script => $$
    INSERT INTO counts SELECT stream, count(*), max(version), sum(position) FROM new_events GROUP BY stream
    ON CONFLICT (stream) DO UPDATE SET n = counts.n + EXCLUDED.n, version = greatest(counts.version, EXCLUDED.version),
                                       positions = counts.positions + EXCLUDED.positions
$$);
CREATE TABLE trail (position bigint PRIMARY KEY, stream text, version bigint, previous bigint);
SELECT es_create_projection('trail', tables => '{trail}', mode => 'async', types => '{Deposited,Withdrawn}', script => $$
    INSERT INTO trail SELECT position, stream, version,
                             (SELECT max(t.version) FROM trail t WHERE t.stream = e.stream) FROM new_events e
$$);
CREATE INDEX ON trail (stream, version);

-- Handlers: one whose every effect counts, and fails at times; one that appends.
CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, stream text, version bigint);
SELECT es_create_handler('effects', backoff => '10 milliseconds', max_backoff => '100 milliseconds', max_attempts => 1000000,
    types => '{Deposited,Withdrawn}', script => $$
    INSERT INTO effects (position, stream, version)
    SELECT position, stream, version + 0 / (random() > 0.02)::int FROM new_events
$$);
SELECT es_create_handler('echo', category => 'Acct', types => '{Withdrawn}', backoff => '10 milliseconds', max_backoff => '100 milliseconds',
    max_attempts => 1000000, script => $$
    SELECT es_append('Echo-' || position % 5, 'Echoed', jsonb_build_object('of', position)) FROM new_events
$$);

-- What consumers outside of the database compete for.
SELECT es_create_subscription('outside', backoff => '5 milliseconds', max_backoff => '50 milliseconds', max_attempts => 1000000);
