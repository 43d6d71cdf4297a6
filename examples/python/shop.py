#!/usr/bin/python3
"""An order desk over the event store, with psycopg 3 (Debian: python3-psycopg).

Copy what you need: append with retry, a batch, load, a consumer, and reading
your own writes.  Run as a program it tries all of it on the (fresh) database of
PGHOST, PGPORT, PGDATABASE, ..., and prints one line for each.

Works behind a pooler in transaction mode: no session state, no prepared
statements (prepare_threshold=None).
"""
import json
import uuid

import psycopg


def connect():
    return psycopg.connect("", autocommit=True, prepare_threshold=None)


def load(conn, stream):
    """The version and state of a stream."""
    return conn.execute("SELECT version, state FROM es_load(%s)", [stream]).fetchone()


def append(conn, stream, events, expected_version=None):
    """Appends all events or none; returns the stream's new version."""
    return conn.execute("SELECT es_append_events(%s, %s, %s)",
                        [stream, json.dumps(events), expected_version]).fetchone()[0]


def decide_and_append(conn, stream, decide, attempts=10):
    """Appends what decide(state) returns, on the state that it saw.

    A rival that was faster is SQLSTATE ZE001: load again, decide again.
    """
    for _ in range(attempts):
        version, state = load(conn, stream)
        events = decide(state)
        if not events:
            return version
        try:
            return append(conn, stream, events, version)
        except psycopg.Error as error:
            if error.sqlstate != "ZE001":
                raise
    raise RuntimeError(f"{stream}: {attempts} conflicts in a row")


def consume(conn, subscription, consumer, handle, max_count=100):
    """Hands a batch of events to handle(event); returns how many there were.

    What handle() raises is a failed attempt: the event comes again later, and
    the others of its stream wait behind it.
    """
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        events = cursor.execute("SELECT * FROM es_fetch(%s, %s, %s)",
                                [subscription, consumer, max_count]).fetchall()
    failed = set()
    for event in events:
        if event["stream"] in failed:
            continue
        try:
            handle(event)
        except Exception as error:
            failed.add(event["stream"])
            conn.execute("SELECT es_nack(%s, %s, %s, %s)", [subscription, consumer, event["position"], str(error)])
        else:
            conn.execute("SELECT es_ack(%s, %s, %s)", [subscription, consumer, [event["position"]]])
    return len(events)


def main():
    conn = connect()
    conn.execute("CREATE EXTENSION IF NOT EXISTS eventsourcing")
    conn.execute("SELECT es_create_store()")
    conn.execute("SELECT es_create_aggregate('Order', rules => %s)", [json.dumps({
        "OrderCreated": {"$set": {"status": "created", "total": "$.total"}},
        "ItemAdded": {"$inc": {"total": "$.price"}},
        "OrderPaid": {"$set": {"status": "paid"}}})])
    conn.execute("CREATE TABLE order_totals (stream text PRIMARY KEY, total bigint)")
    conn.execute("""SELECT es_create_projection('totals', tables => '{order_totals}', mode => 'async', script => $$
        INSERT INTO order_totals SELECT stream, (data->>'total')::bigint FROM new_events WHERE type = 'OrderCreated';
        UPDATE order_totals t SET total = t.total + (e.data->>'price')::bigint
          FROM new_events e WHERE e.stream = t.stream AND e.type = 'ItemAdded' $$)""")
    conn.execute("SELECT es_create_subscription('mail', types => '{OrderPaid}')")

    def check(what, good):
        print(f"{'ok' if good else 'not ok'} - python: {what}", flush=True)

    order = f"Order-{uuid.uuid4()}"
    check("a new stream", append(conn, order, [{"type": "OrderCreated", "data": {"total": 5000}}], 0) == 1)

    # a rival appends between our load and our append, once
    rival, calls = connect(), []

    def pay(state):
        calls.append(state["total"])
        if len(calls) == 1:
            append(rival, order, [{"type": "ItemAdded", "data": {"price": 700}}])
        return [] if state["status"] == "paid" else [{"type": "OrderPaid"}]

    check("append with retry", decide_and_append(conn, order, pay) == 3 and calls == [5000, 5700])
    check("load", load(conn, order) == (3, {"status": "paid", "total": 5700}))
    check("nothing to do", decide_and_append(conn, order, pay) == 3)

    batch = [{"type": "ItemAdded", "data": {"price": i}, "event_id": str(uuid.uuid4())} for i in range(100)]
    check("a batch", append(conn, order, batch, 3) == 103)
    check("the same batch again", append(conn, order, batch, 3) == 103)

    # read your own writes from a model that follows behind
    conn.execute("CALL es_run('totals')")
    position = conn.execute("SELECT max(position) FROM es_read(%s)", [order]).fetchone()[0]
    conn.execute("CALL es_wait('totals', %s::bigint)", [position])
    total = conn.execute("SELECT total FROM order_totals WHERE stream = %s", [order]).fetchone()[0]
    check("read your writes", total == 5700 + sum(range(100)))

    sent, attempts = [], []

    def mail(event):
        attempts.append(event["attempt"])
        if event["attempt"] == 1:
            raise IOError("the mail server is away")
        sent.append(event["stream"])

    consume(conn, "mail", "python", mail)
    check("a failed attempt", (sent, attempts) == ([], [1]))
    conn.execute("SELECT pg_sleep(0.1)")
    while not sent:
        consume(conn, "mail", "python", mail)
    check("comes again", (sent, attempts) == ([order], [1, 2]))
    check("and then no more", consume(conn, "mail", "python", mail) == 0)


if __name__ == "__main__":
    main()
