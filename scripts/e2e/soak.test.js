// 200 clients whose networks fail again and again while messages are published: each message is seen
// by everyone it concerns, once and in order. Runs for SOAK_SECONDS; without that it is skipped.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import WebSocket from 'ws';

import { Tocsin } from '../../server/web/client.js';
import * as e2e from './harness.js';

const TAG = 'notifications';
const SECONDS = Number(process.env.SOAK_SECONDS ?? 0);
const CLIENTS = 200;
/** Up to so long a network works, and is away. */
const WORKS_MS = 4_000;
const AWAY_MS = 2_000;
/**
 * So often everyone gets a message alone, and one with all others. Who waits for the widest backoff has
 * missed fewer than are kept.
 */
const EACH_MS = 1_500;
const ALL_MS = 600;
const TICK_MS = 50;

after(e2e.endAll);

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const upTo = (ms) => pause(Math.random() * ms);

/** A client on a network of its own, and what it has been handed. */
async function inNode(server, id) {
  const network = await e2e.startNetwork(server.address.split(':').at(-1));
  const tocsin = new Tocsin(`ws://127.0.0.1:${network.port}/ws`, { WebSocket });
  e2e.atEnd(() => tocsin.stop());
  const seen = [];
  const gaps = [];
  tocsin.addEventListener('gap', ({ detail }) => gaps.push(detail));
  const sees = new Map();
  const listens = new Promise((resolve) => { tocsin.addEventListener('registered', resolve, { once: true }); });
  tocsin.register(TAG, { id, onmessage: ({ seq }) => { seen.push(seq); sees.get(seq)?.(); } });
  await listens;
  return {
    id, network,
    sees: (seq) => new Promise((resolve) => { if (seen.includes(seq)) resolve(); else sees.set(seq, resolve); }),
    seen: () => ({ seen, gaps }),
  };
}

/** The same in a real browser, through the gate. */
async function inBrowser(server, id) {
  const gate = await e2e.startGate(server, [], { log: 'gate-soak' });
  const network = await e2e.startNetwork(gate.port);
  const site = await e2e.startSite(() => `<script type="module">
    import { Tocsin } from '${network.url}client.js';
    window.seen = [];
    window.gaps = [];
    const tocsin = new Tocsin();
    tocsin.addEventListener('gap', ({ detail }) => gaps.push(detail));
    tocsin.addEventListener('registered', () => { window.listens = true; });
    tocsin.register('${TAG}', { id: '${id}', onmessage: ({ seq }) => seen.push(seq) });
  </script>`);
  const browser = await e2e.startBrowser();
  const tab = await e2e.openTab(await browser.newContext(), site);
  await tab.waitForFunction(() => window.listens);
  return {
    id, network,
    sees: (last) => tab.waitForFunction((seq) => window.seen.includes(seq), last, { timeout: 0 }),
    seen: () => tab.evaluate(() => ({ seen: window.seen, gaps: window.gaps })),
  };
}

/** Cuts the network at random times, until `isOver`; how often. */
async function fails(network, isOver) {
  let times = 0;
  for (;;) {
    await upTo(WORKS_MS);
    if (isOver()) return times;
    network.cut();
    times += 1;
    await upTo(AWAY_MS);
    network.mend();
  }
}

test(`${CLIENTS} clients, each dropped again and again for ${SECONDS} s: all seen, once, in order`, { skip: !SECONDS }, async (t) => {
  const server = await e2e.startServer([], { log: 'server-soak' });
  const ids = await Promise.all(Array.from({ length: CLIENTS }, () => e2e.tool('server', ['new-id'])));
  const clients = await Promise.all(ids.map((id, index) => (index === 0 ? inBrowser : inNode)(server, id)));

  const expected = new Map(ids.map((id) => [id, []]));
  const publish = async (people, all) => {
    const send = people.map((id) => ({ action: 'send', tag: TAG, id, message: 'for one' }));
    const broadcast = Array.from({ length: all }, () => ({ action: 'broadcast', tag: TAG, message: 'for all' }));
    const { reply } = await e2e.post(server, [...send, ...broadcast], { authorization: `Bearer ${server.key}` });
    for (const [index, { seq, error }] of reply.entries()) {
      assert.equal(error, undefined);
      for (const id of index < people.length ? [people[index]] : ids) expected.get(id).push(seq);
    }
    return reply.at(-1).seq;
  };

  const begun = performance.now();
  const elapsed = () => performance.now() - begun;
  let over = false;
  const failing = clients.map(({ network }) => fails(network, () => over));
  let toEach = 0;
  let toAll = 0;
  while (elapsed() < SECONDS * 1000) {
    const due = Math.floor((elapsed() / EACH_MS) * CLIENTS);
    const dueAll = Math.floor(elapsed() / ALL_MS);
    const people = Array.from({ length: due - toEach }, (_, index) => ids[(toEach + index) % CLIENTS]);
    if (people.length || dueAll > toAll) await publish(people, dueAll - toAll);
    [toEach, toAll] = [due, dueAll];
    await pause(TICK_MS);
  }
  over = true;
  const last = await publish([], 1);
  const times = await Promise.all(failing);
  const waiting = new Set(ids);
  // The widest backoff, and an attempt in it that may still fail.
  await e2e.within(Promise.all(clients.map(async ({ id, sees }) => { await sees(last); waiting.delete(id); })),
    () => `${waiting.size} clients see the last message`, 90_000);

  let deliveries = 0;
  for (const { id, seen: told } of clients) {
    const { seen, gaps } = await told();
    assert.deepEqual(seen, expected.get(id));
    assert.deepEqual(gaps, []);
    deliveries += seen.length;
  }
  assert.ok(Math.min(...times) >= 1, 'every network has failed');
  const drops = times.reduce((sum, one) => sum + one);
  t.diagnostic(`${toEach + toAll + 1} messages, ${deliveries} deliveries, ${drops} drops: all seen, once, in order`);
});
