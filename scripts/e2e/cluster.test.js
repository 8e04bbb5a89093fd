// Three servers that share a log in NATS, behind one name, restarted one after the other while messages
// are published: every client sees each message once and in order. Needs NATS_SERVER, the program
// nats-server; without it, it is skipped.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';

import WebSocket from 'ws';

import { Tocsin } from '../../server/web/client.js';
import * as e2e from './harness.js';

const TAG = 'shop';
const SERVERS = 3;
const CLIENTS = 60;
const ROUNDS = 2;
/** Each sends one message after the other. */
const PUBLISHERS = 4;

after(e2e.endAll);

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** One node, with its store in a directory of its own. */
async function startNats() {
  const directory = e2e.temporary();
  const program = new e2e.Program('nats', process.env.NATS_SERVER,
    ['-a', '127.0.0.1', '-p', '-1', '-js', '-sd', directory]);
  const [, address] = await program.says(/Listening for client connections on (\S+)/);
  await program.says(/Server is ready/);
  return `nats://${address}`;
}

/** What has one name for all servers: each connection goes to the next one of those that serve. */
async function startBalancer() {
  const serving = [];
  let next = 0;
  const balancer = net.createServer((client) => {
    next += 1;
    const port = serving[next % serving.length];
    const onward = net.connect(port, '127.0.0.1');
    for (const [one, other] of [[client, onward], [onward, client]]) {
      one.on('error', () => {}).on('close', () => other.destroy());
    }
    client.pipe(onward).pipe(client);
  });
  await new Promise((resolve) => { balancer.listen(0, '127.0.0.1', resolve); });
  e2e.atEnd(() => balancer.close());
  return { serving, port: balancer.address().port };
}

/** One action, on a connection of its own. */
function post(port, key, action) {
  const body = JSON.stringify(action);
  return new Promise((resolve, reject) => {
    const request = http.request({
      port, host: '127.0.0.1', path: '/messages', method: 'POST', agent: false,
      headers: { authorization: `Bearer ${key}`, 'content-length': Buffer.byteLength(body) },
    }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (piece) => { text += piece; });
      answer.on('end', () => { try { resolve(JSON.parse(text)); } catch (error) { reject(error); } });
    });
    request.on('error', reject);
    request.end(body);
  });
}

test('three servers are restarted one after the other under load: all seen, once, in order', { skip: !process.env.NATS_SERVER }, async (t) => {
  const nats = await startNats();
  const directory = e2e.temporary();
  const keyFile = path.join(directory, 'key');
  const key = randomBytes(32).toString('hex');
  writeFileSync(keyFile, key, { mode: 0o600 });
  const config = path.join(directory, 'server.toml');
  // Clients come back spread over five seconds, in which more is sent than is kept otherwise.
  writeFileSync(config, 'ring = 100000\nring-bytes = "64MiB"\ninbox = 10000\n');
  const balancer = await startBalancer();
  let number = 0;
  const start = async () => {
    number += 1;
    const program = new e2e.Program(`server-cluster-${number}`, path.join(e2e.bin, 'server'), [
      '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--nats', nats, '--nats-replicas', '1',
      '--id-key-file', path.join(directory, 'id.key'), '--config', config,
      ...['send', 'broadcast'].flatMap((action) => ['--protect', `${TAG}:${action}:${keyFile}`]),
    ]);
    const [, port] = await program.says(/^listening server \S+:(\d+)$/m);
    await program.says(/^listening admin /m);
    balancer.serving.push(Number(port));
    return { program, port: Number(port) };
  };
  const servers = [];
  for (let count = 0; count < SERVERS; count += 1) servers.push(await start());

  const ids = await Promise.all(Array.from({ length: CLIENTS }, () => e2e.tool('server', ['new-id'])));
  const clients = await Promise.all(ids.map(async (id) => {
    const tocsin = new Tocsin(`ws://127.0.0.1:${balancer.port}/ws`, { WebSocket });
    e2e.atEnd(() => tocsin.stop());
    const client = { id, seen: [], gaps: [] };
    tocsin.addEventListener('gap', ({ detail }) => client.gaps.push(detail));
    const listens = new Promise((resolve) => { tocsin.addEventListener('registered', resolve, { once: true }); });
    tocsin.register(TAG, { id, onmessage: ({ seq }) => { client.seen.push(seq); } });
    await listens;
    return client;
  }));

  const expected = new Map(ids.map((id) => [id, []]));
  let retries = 0;
  let published = 0;
  /** Tried under one mid until it is accepted; its seq. */
  const publish = async (action) => {
    published += 1;
    const named = { ...action, tag: TAG, mid: `message-${published}` };
    for (;;) {
      const reply = await post(balancer.port, key, named).catch(() => ({ error: 'unavailable' }));
      if (reply.ok) return reply.seq;
      assert.equal(reply.error, 'unavailable', JSON.stringify(reply));
      retries += 1;
      await pause(20);
    }
  };
  let over = false;
  const publishing = Array.from({ length: PUBLISHERS }, async (_, publisher) => {
    for (let turn = publisher; !over; turn += PUBLISHERS) {
      const seq = await publish({ action: 'broadcast', message: `for all ${turn}` });
      for (const id of ids) expected.get(id).push(seq);
      const id = ids[turn % CLIENTS];
      expected.get(id).push(await publish({ action: 'send', id, message: `for one ${turn}` }));
    }
  });

  for (let round = 0; round < ROUNDS; round += 1) {
    for (let place = 0; place < SERVERS; place += 1) {
      const { program, port } = servers[place];
      // As a balancer does that looks at /readyz: no newcomers first.
      balancer.serving.splice(balancer.serving.indexOf(port), 1);
      assert.equal(await program.stop(), 0);
      servers[place] = await start();
    }
  }
  over = true;
  await Promise.all(publishing);
  const last = await publish({ action: 'broadcast', message: 'the last' });
  for (const id of ids) expected.get(id).push(last);
  await e2e.within((async () => {
    while (!clients.every(({ seen }) => seen.includes(last))) await pause(20);
  })(), () => 'everyone sees the last message', 60_000);
  for (const { id, seen, gaps } of clients) {
    assert.deepEqual(seen, expected.get(id).sort((one, other) => one - other));
    assert.deepEqual(gaps, []);
  }
  t.diagnostic(`${published} messages through ${ROUNDS * SERVERS} restarts, ${retries} tried again: all seen, once, in order`);
});
