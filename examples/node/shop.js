// An order desk over the event store, with pg, and a consumer that sends mail with
// nodemailer (npm install pg nodemailer).
//
// Copy what you need: append with retry, a batch, load, a consumer, and reading
// your own writes.  Run as a program it tries all of it on the (fresh) database of
// PGHOST, PGPORT, PGDATABASE, ..., against a small SMTP server of its own, and prints
// one line for each.
'use strict';
const { randomUUID } = require('node:crypto');
const net = require('node:net');
const { Pool } = require('pg');
const nodemailer = require('nodemailer');

async function value(db, sql, ...args) {
  const { rows } = await db.query(sql, args);
  return Object.values(rows[0])[0];
}

// The version and state of a stream.
async function load(db, stream) {
  const { rows } = await db.query('SELECT version, state FROM es_load($1)', [stream]);
  return { version: Number(rows[0].version), state: rows[0].state };
}

// Appends all events or none; returns the stream's new version.
async function append(db, stream, events, expectedVersion = null) {
  return Number(await value(db, 'SELECT es_append_events($1, $2, $3)', stream, JSON.stringify(events), expectedVersion));
}

// Appends what decide(state) returns, on the state that it saw.  A rival that was
// faster is SQLSTATE ZE001: load again, decide again.
async function decideAndAppend(db, stream, decide, attempts = 10) {
  for (let i = 0; i < attempts; i++) {
    const { version, state } = await load(db, stream);
    const events = await decide(state);
    if (events.length === 0) return version;
    try {
      return await append(db, stream, events, version);
    } catch (error) {
      if (error.code !== 'ZE001') throw error;
    }
  }
  throw new Error(`${stream}: ${attempts} conflicts in a row`);
}

// Hands a batch of events to handle(event); returns how many there were.  What
// handle() throws is a failed attempt: the event comes again later, and the others
// of its stream wait behind it.
async function consume(db, subscription, consumer, handle, maxCount = 100) {
  const { rows } = await db.query('SELECT * FROM es_fetch($1, $2, $3)', [subscription, consumer, maxCount]);
  const failed = new Set();
  for (const event of rows) {
    if (failed.has(event.stream)) continue;
    try {
      await handle(event);
    } catch (error) {
      failed.add(event.stream);
      await db.query('SELECT es_nack($1, $2, $3, $4)', [subscription, consumer, event.position, error.message]);
      continue;
    }
    await db.query('SELECT es_ack($1, $2, $3)', [subscription, consumer, [event.position]]);
  }
  return rows.length;
}

// An SMTP server that refuses the first mail and keeps the others.
function smtpSink(mails) {
  let refused = false;
  return net.createServer((socket) => {
    let data = null;
    let buffer = '';
    socket.write('220 sink\r\n');
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      buffer += chunk;
      for (let end = buffer.indexOf('\r\n'); end >= 0; end = buffer.indexOf('\r\n')) {
        const line = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        if (data !== null) {
          if (line === '.') {
            mails.push(data);
            data = null;
            socket.write('250 kept\r\n');
          } else data += `${line}\n`;
        } else if (/^MAIL/.test(line) && !refused) {
          refused = true;
          socket.write('451 try again later\r\n');
        } else if (/^DATA/.test(line)) {
          data = '';
          socket.write('354 go on\r\n');
        } else if (/^QUIT/.test(line)) socket.end('221 bye\r\n');
        else socket.write('250 ok\r\n');
      }
    });
  });
}

async function main() {
  const db = new Pool();
  const check = (what, good) => console.log(`${good ? 'ok' : 'not ok'} - node: ${what}`);

  await db.query('CREATE EXTENSION IF NOT EXISTS eventsourcing');
  await db.query('SELECT es_create_store()');
  await db.query("SELECT es_create_aggregate('Order', rules => $1)", [JSON.stringify({
    OrderCreated: { $set: { status: 'created', total: '$.total' } },
    ItemAdded: { $inc: { total: '$.price' } },
    OrderPaid: { $set: { status: 'paid' } },
  })]);
  await db.query('CREATE TABLE order_totals (stream text PRIMARY KEY, total bigint)');
  await db.query(`SELECT es_create_projection('totals', tables => '{order_totals}', mode => 'async', script => $$
    INSERT INTO order_totals SELECT stream, (data->>'total')::bigint FROM new_events WHERE type = 'OrderCreated';
    UPDATE order_totals t SET total = t.total + (e.data->>'price')::bigint
      FROM new_events e WHERE e.stream = t.stream AND e.type = 'ItemAdded' $$)`);
  await db.query("SELECT es_create_subscription('mail', types => '{OrderPaid}')");

  const order = `Order-${randomUUID()}`;
  check('a new stream', await append(db, order, [{ type: 'OrderCreated', data: { total: 5000 } }], 0) === 1);

  // a rival appends between our load and our append, once
  const calls = [];
  const pay = async (state) => {
    calls.push(state.total);
    if (calls.length === 1) await append(db, order, [{ type: 'ItemAdded', data: { price: 700 } }]);
    return state.status === 'paid' ? [] : [{ type: 'OrderPaid' }];
  };
  check('append with retry', await decideAndAppend(db, order, pay) === 3 && calls.join() === '5000,5700');
  const loaded = await load(db, order);
  check('load', loaded.version === 3 && loaded.state.status === 'paid' && loaded.state.total === 5700);
  check('nothing to do', await decideAndAppend(db, order, pay) === 3);

  const batch = Array.from({ length: 100 }, (_, i) => ({ type: 'ItemAdded', data: { price: i }, event_id: randomUUID() }));
  check('a batch', await append(db, order, batch, 3) === 103);
  check('the same batch again', await append(db, order, batch, 3) === 103);

  // read your own writes from a model that follows behind
  await db.query("CALL es_run('totals')");
  const position = await value(db, 'SELECT max(position) FROM es_read($1)', order);
  await db.query(`CALL es_wait('totals', ${BigInt(position)})`);
  check('read your writes', Number(await value(db, 'SELECT total FROM order_totals WHERE stream = $1', order)) === 5700 + 4950);

  const mails = [];
  const sink = smtpSink(mails);
  await new Promise((resolve) => sink.listen(0, '127.0.0.1', resolve));
  const transport = nodemailer.createTransport({ host: '127.0.0.1', port: sink.address().port, secure: false, ignoreTLS: true });
  const attempts = [];
  const mail = async (event) => {
    attempts.push(event.attempt);
    await transport.sendMail({ from: 'shop@example.org', to: 'you@example.org', subject: `Paid: ${event.stream}`, text: 'Thank you.' });
  };
  await consume(db, 'mail', 'node', mail);
  check('a mail that is refused', mails.length === 0 && attempts.join() === '1');
  while (mails.length === 0) {
    await consume(db, 'mail', 'node', mail);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  check('is sent at the next attempt', mails[0].includes(`Subject: Paid: ${order}`) && attempts.join() === '1,2');
  check('and no more', await consume(db, 'mail', 'node', mail) === 0 && mails.length === 1);

  transport.close();
  sink.close();
  await db.end();
}

main().catch((error) => {
  console.log(`not ok - node: ${error.stack}`);
  process.exit(1);
});
