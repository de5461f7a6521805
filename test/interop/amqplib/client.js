'use strict';
// Checks a broker with amqplib, the Node client.
//
// Reads AMQP_URL, prints one line per check and exits 0 only if all pass. Every name carries one
// random prefix and is deleted at the end.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const amqp = require('amqplib');

const PUBLISHED = 100;
const PREFETCH = 10;
const WAIT_MS = 20000;

const prefix = `interop.node.${crypto.randomBytes(4).toString('hex')}`;
const exchange = `${prefix}.x`;
const queue = `${prefix}.q`;
const deadExchange = `${prefix}.dlx`;
const deadQueue = `${prefix}.dead`;
let connection;

// within fails a wait that the broker never ends, with words that say what was waited for.
function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// open returns a channel whose server-sent close is kept in channel.closedWith.
async function open(kind = 'createChannel') {
  const channel = await connection[kind]();
  channel.closedWith = new Promise((resolve) => channel.once('error', resolve));
  return channel;
}

async function expectClose(channel, code, text, operation) {
  const outcome = operation().then(() => undefined, () => undefined);
  const error = await within('channel close', channel.closedWith);
  await outcome;
  assert.equal(error.code, code);
  assert.ok(error.message.endsWith(`"${text}"`), `closed with ${error.message}, want ${text}`);
}

async function take(channel, name = queue) {
  const message = await channel.get(name);
  assert.notEqual(message, false, `${name} is empty`);
  return message;
}

async function ready(name = queue) {
  const channel = await open();
  const { messageCount } = await channel.checkQueue(name);
  await channel.close();
  return messageCount;
}

async function connect() {
  connection = await within('connection', amqp.connect(process.env.AMQP_URL));
  connection.on('error', (error) => console.log(`connection error: ${error.message}`));
  const { capabilities } = connection.connection.serverProperties;
  for (const name of ['publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'exchange_exchange_bindings']) {
    assert.equal(capabilities[name], true, `server capability ${name}`);
  }
}

async function declare(channel) {
  await channel.assertExchange(exchange, 'direct', { durable: true });
  await channel.assertExchange(deadExchange, 'fanout', { durable: true });
  for (let i = 0; i < 2; i++) { // the second time it exists and is equivalent
    const ok = await channel.assertQueue(queue, { durable: true, deadLetterExchange: deadExchange });
    assert.deepEqual({ ...ok }, { queue, messageCount: 0, consumerCount: 0 });
  }
  await channel.assertQueue(deadQueue, { durable: true });
  await channel.bindQueue(queue, exchange, 'work');
  await channel.bindQueue(deadQueue, deadExchange, '');
}

async function confirms() {
  const channel = await open('createConfirmChannel');
  let confirmed = 0;
  for (let i = 0; i < PUBLISHED; i++) {
    channel.publish(exchange, 'work', Buffer.from(`message ${i}`), { persistent: true }, (error) => { if (!error) confirmed++; });
  }
  await within('confirms', channel.waitForConfirms());
  await channel.close();
  assert.equal(confirmed, PUBLISHED);
}

async function prefetch(channel) {
  await channel.prefetch(PREFETCH);
  let received = 0;
  let held = [];
  const done = new Promise((resolve, reject) => {
    const onMessage = async (message) => {
      try {
        assert.equal(message.content.toString(), `message ${received}`);
        received++;
        held.push(message);
        assert.ok(held.length <= PREFETCH, `holding ${held.length} unacknowledged messages`);
        if (held.length < PREFETCH) return;
        // While a full prefetch is held the queue must still count the rest as ready.
        const now = received;
        assert.equal(await ready(), PUBLISHED - now);
        assert.equal(received, now, 'deliveries beyond the prefetch');
        const last = held[PREFETCH - 1];
        held = [];
        channel.ack(last, true);
        if (received === PUBLISHED) resolve();
      } catch (error) {
        reject(error);
      }
    };
    channel.consume(queue, onMessage).catch(reject);
  });
  await within('hundred deliveries', done);
}

async function deadLetter(channel) {
  channel.publish(exchange, 'work', Buffer.from('bad'), { persistent: true, headers: { kept: 'yes' } });
  const message = await take(channel);
  const arrived = new Promise((resolve, reject) => { channel.consume(deadQueue, resolve, { noAck: true }).catch(reject); });
  channel.nack(message, false, false);
  const dead = await within('dead letter', arrived);
  const { headers } = dead.properties;
  assert.equal(dead.content.toString(), 'bad');
  assert.equal(dead.fields.routingKey, 'work');
  assert.equal(headers['x-death'].length, 1);
  const { time, ...death } = headers['x-death'][0];
  assert.equal(time['!'], 'timestamp');
  assert.deepEqual(death, { reason: 'rejected', count: 1, queue, exchange, 'routing-keys': ['work'] });
  assert.equal(headers['x-first-death-reason'], 'rejected');
  assert.equal(headers['x-first-death-queue'], queue);
  assert.equal(headers.kept, 'yes');
}

async function requeue(channel) {
  channel.publish(exchange, 'work', Buffer.from('again'));
  const first = await take(channel);
  assert.equal(first.fields.redelivered, false);
  channel.reject(first, true);
  const second = await take(channel);
  assert.equal(second.fields.redelivered, true);
  channel.ack(second);
}

async function headersRoundTrip(channel) {
  const headers = {
    yes: true, no: false, byte: 7, short: -1600, int: -320000, long: 2 ** 40, double: 2.25, text: 'grüße, 世界', empty: '', none: null,
    array: [1, 'two', true, { deep: 3 }], table: { inner: { leaf: 'x' } },
    time: { '!': 'timestamp', value: 1700000000 }, decimal: { '!': 'decimal', value: { places: 2, digits: 314 } },
  };
  const properties = {
    contentType: 'application/json', contentEncoding: 'identity', priority: 3, correlationId: 'corr', replyTo: 'reply',
    expiration: '600000', messageId: 'id-1', timestamp: 1700000000, type: 'order', appId: 'interop',
  };
  channel.publish(exchange, 'work', Buffer.from('{}'), { ...properties, headers, persistent: true });
  const message = await take(channel);
  channel.ack(message);
  assert.deepEqual({ ...message.properties.headers }, headers);
  for (const [name, value] of Object.entries(properties)) assert.equal(message.properties[name], value, name);
  assert.equal(message.properties.deliveryMode, 2);
}

async function missingQueue(channel) {
  const name = `${queue}.missing`;
  await expectClose(channel, 404, `NOT_FOUND - no queue '${name}' in vhost '/'`, () => channel.checkQueue(name));
}

async function inequivalent(channel) {
  await expectClose(channel, 406, `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${deadQueue}' in vhost '/': `
    + "received 'false' but current is 'true'", () => channel.assertQueue(deadQueue, { durable: false }));
  const other = await open();
  await expectClose(other, 406, `PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue '${queue}' in vhost '/': `
    + `received none but current is the value '${deadExchange}' of type 'longstr'`, () => other.assertQueue(queue, { durable: true }));
}

async function mandatory() {
  const channel = await open('createConfirmChannel');
  let returned;
  channel.on('return', (message) => { returned = message; });
  channel.publish(exchange, 'nowhere', Buffer.from('lost'), { mandatory: true });
  await within('confirm', channel.waitForConfirms());
  await channel.close();
  assert.ok(returned, 'confirmed without having been returned first');
  const { replyCode, replyText, routingKey } = returned.fields;
  assert.deepEqual({ replyCode, replyText, routingKey }, { replyCode: 312, replyText: 'NO_ROUTE', routingKey: 'nowhere' });
  assert.equal(returned.content.toString(), 'lost');
}

async function get(channel) {
  assert.equal(await channel.get(queue), false);
  channel.publish(exchange, 'work', Buffer.from('one'));
  channel.publish(exchange, 'work', Buffer.from('two'));
  for (const [body, left] of [['one', 1], ['two', 0]]) {
    const message = await take(channel);
    assert.equal(message.content.toString(), body);
    assert.equal(message.fields.messageCount, left);
    channel.ack(message);
  }
}

async function big(channel) {
  const body = crypto.randomBytes(1 << 20);
  channel.publish(exchange, 'work', body, { persistent: true });
  const message = await take(channel);
  channel.ack(message);
  assert.ok(message.content.equals(body), `the body changed on the way (${message.content.length} bytes received)`);
}

// A wrong password and a missing vhost: closes of a connection that was never open.
async function refusedConnections() {
  const refusal = async (change) => {
    const url = new URL(process.env.AMQP_URL);
    change(url);
    try {
      await (await within('answer', amqp.connect(url.href))).close();
    } catch (error) {
      return error.message.replace(/^.*terminated by server: /, '');
    }
    throw new Error('connected');
  };
  assert.equal(await refusal((url) => { url.password = 'wrong'; }),
    '403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."');
  // Of a close at this later moment the library tells no more than that it came.
  assert.match(await refusal((url) => { url.pathname = '/interop-missing'; }), /ConnectionClose/);
}

async function serverCancel(channel) {
  const name = `${queue}.doomed`;
  await channel.assertQueue(name, { durable: true });
  const cancelled = new Promise((resolve, reject) => {
    channel.consume(name, (message) => (message === null ? resolve() : reject(new Error('a delivery')))).catch(reject);
  });
  const other = await open();
  await other.checkQueue(name);
  await other.deleteQueue(name);
  await within('basic.cancel', cancelled);
  await other.close();
}

async function cleanUp(channel) {
  const left = [];
  for (const name of [queue, deadQueue]) left.push((await channel.deleteQueue(name)).messageCount);
  await channel.deleteExchange(exchange);
  await channel.deleteExchange(deadExchange);
  assert.deepEqual(left, [0, 0], 'messages left in the queues');
  await expectClose(channel, 404, `NOT_FOUND - no queue '${queue}' in vhost '/'`, () => channel.checkQueue(queue));
}

async function main() {
  if (!process.env.AMQP_URL) throw new Error('set AMQP_URL, for example amqp://guest:guest@localhost:5672/');
  let failed = 0;
  const report = async (name, check) => {
    try {
      await check();
      console.log(`ok   ${name}`);
      return true;
    } catch (error) {
      failed++;
      console.log(`FAIL ${name}: ${error.message}`);
      return false;
    }
  };
  const onChannel = (check) => async () => {
    const channel = await open();
    let closed = false;
    channel.once('close', () => { closed = true; });
    channel.once('error', () => { closed = true; });
    try {
      await check(channel);
    } finally {
      if (!closed) await channel.close();
    }
  };
  if (!await report('connect', connect)) return 1;
  if (!await report('declare durable exchanges, queues, bindings', onChannel(declare))) return 1;
  for (const [name, check] of [
    ['publish 100 with confirms', confirms],
    ['consume with prefetch 10', prefetch],
    ['nack without requeue is dead-lettered', deadLetter],
    ['rejected message comes back redelivered', requeue],
    ['headers of every type round trip', headersRoundTrip],
    ['passive declare of a missing queue closes with 404', missingQueue],
    ['redeclare with other arguments closes with 406', inequivalent],
    ['mandatory message returns before its confirm', mandatory],
    ['basic.get', get],
    ['1 MiB message', big],
    ['wrong password is refused with 403, missing vhost refused', refusedConnections],
    ['consumer is cancelled when its queue goes', serverCancel],
    ['clean up', cleanUp],
  ]) await report(name, onChannel(check));
  await connection.close();
  return failed;
}

main().then((failed) => { process.exitCode = failed ? 1 : 0; }, (error) => {
  console.log(`FAIL ${error.message}`);
  process.exitCode = 1;
});
