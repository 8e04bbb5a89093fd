// Pages that sleep, change networks or outlive the server, and clients that are merely quiet: all of
// them through the gate, all of them registered when it matters.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import WebSocket from 'ws';

import * as e2e from './harness.js';

const TAG = 'notifications';
// Twice this is how long a busy machine may stop a client from answering.
const PING_MS = 1000;
let server, gate, browser;

before(async () => {
  server = await e2e.startServer(['--ping-interval', `${PING_MS}ms`], { log: 'server-awake' });
  gate = await e2e.startGate(server, [], { log: 'gate-awake' });
  browser = await e2e.startBrowser();
});
after(e2e.endAll);

const registrations = async () => (await (await fetch(`${server.admin}/status`)).json()).tags[TAG]?.registrations ?? 0;

async function registered(count) {
  const tried = (async () => { while (await registrations() !== count); })();
  await e2e.within(tried, () => `${count} registrations`);
}

const sendTo = async (id, message) => (await e2e.send(server, id, message)).clients;

test('a quiet client stays for many ping intervals, and no pong is taken for a message', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const socket = new WebSocket(`wss://localhost:${gate.port}/ws`, { ca: readFileSync(path.join(await e2e.certs(), 'root.crt')) });
  e2e.atEnd(() => socket.terminate());
  const heard = [];
  let pings = 0;
  const told = new Promise((resolve, reject) => {
    socket.on('open', () => socket.send(JSON.stringify({ action: 'set', tag: TAG, id })));
    socket.on('message', (data) => heard.push(JSON.parse(data)) === 3 && resolve());
    socket.on('close', (code) => reject(new Error(`closed with ${code} after ${pings} pings`)));
    socket.on('error', reject);
    socket.on('ping', async () => {
      pings += 1;
      // Besides the answer that `ws` gives: pongs that nobody asked for, with what a message holds.
      if (pings < 8) socket.pong(JSON.stringify({ action: 'broadcast', tag: TAG, key: server.key, message: 'a pong' }).slice(0, 125));
      else if (pings === 8) socket.pong(JSON.stringify({ action: 'send', tag: TAG, id, message: 'pong' }).slice(0, 125));
      else if (pings === 12) assert.equal(await sendTo(id, 'at last'), 1);
    });
  });
  await e2e.within(told, () => `the message after 12 pings; ${pings}: ${JSON.stringify(heard)}`);
  assert.deepEqual(heard.map((frame) => frame.ok ?? frame.event ?? frame.message), ['set', 'live', 'at last']);
  socket.removeAllListeners('close').terminate();
  await registered(0);
});

test('what is sent arrives in the page byte for byte, and is shown as text', async () => {
  const page = await e2e.visit(browser, 'about:blank', { listens: false });
  const frames = [];
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(payload)));
  await page.goto(gate.url);
  await e2e.isListening(page);
  const id = await page.locator('#own-id').textContent();
  const text = '<script>alert(1)</script> "double" \'single\' & \u2028\u2029 🔔 </b>';
  const odd = '{"big":9223372036854775807,"price":1.50,"e":1E+2,"s":"\\u003cscript>\\u2028"}';
  for (const [message, shown] of [[JSON.stringify(text), text], [odd, odd], ['9007199254740993', '9007199254740993']]) {
    const { reply } = await e2e.post(server, `{"action":"send","tag":"${TAG}","id":"${id}","key":"${server.key}","message":${message}}`);
    assert.equal(reply.clients, 1);
    await page.waitForFunction((expected) => document.querySelector('#pop-ups > :last-child p')?.textContent === expected, shown);
    assert.ok(frames.some((frame) => frame.includes(`"message":${message},"direct":true}`)), frames.at(-1));
  }
  assert.equal(await page.locator('#pop-ups script, #received script').count(), 0);
  assert.deepEqual(page.faults, []);
  await page.context().close();
  await registered(0);
});

/** All of the browser stands still, as on a laptop that is closed, until what it gives is called. */
async function sleeps() {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  assert.ok(processInfo.some(({ type }) => type === 'renderer'), JSON.stringify(processInfo));
  const all = (signal) => { for (const { id } of processInfo) process.kill(id, signal); };
  all('SIGSTOP');
  e2e.atEnd(() => { try { all('SIGCONT'); } catch { /* it has ended */ } });
  return () => all('SIGCONT');
}

test('a page on a laptop that slept is off the lists, and on them again when it wakes', async () => {
  const page = await e2e.visit(browser, gate.url);
  const wakes = await sleeps();
  // Nobody answers pings: two intervals later it is gone.
  await registered(0);
  assert.equal(await sendTo(page.id, 'to a sleeper'), 0);
  wakes();
  await registered(1);
  await e2e.isListening(page);
  assert.equal(await sendTo(page.id, 'good morning'), 1);
  await e2e.arrives(page, 'good morning');

  // And where it wakes to another server, which knows nothing of it.
  const wakesAgain = await sleeps();
  assert.equal(await server.stop('SIGKILL'), 'SIGKILL');
  server = await e2e.startServer(['--ping-interval', `${PING_MS}ms`], { listen: server.address, log: 'server-awake' });
  assert.equal(await registrations(), 0);
  wakesAgain();
  await registered(1);
  await e2e.isListening(page);
  assert.equal(await sendTo(page.id, 'on another day'), 1);
  await e2e.arrives(page, 'on another day');
  await page.context().close();
  await registered(0);
});

test('a page on another network listens again, though nobody closed its connection', async () => {
  const network = await e2e.startNetwork(gate.port);
  const page = await e2e.visit(browser, network.url);
  // After it nothing is on its way, which would pass for an answer.
  assert.equal(await sendTo(page.id, 'from this network'), 1);
  await e2e.arrives(page, 'from this network');
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Network.enable');
  const conditions = (offline) => ({ offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  // Watched from inside: it may be back sooner than anybody outside would look.
  const left = page.evaluate(() => new Promise((resolve) => {
    const state = document.querySelector('#state');
    new MutationObserver(() => state.dataset.state === 'open' || resolve(state.dataset.state))
      .observe(state, { attributes: true });
  }));
  network.stall();
  await cdp.send('Network.emulateNetworkConditions', conditions(true));
  await cdp.send('Network.emulateNetworkConditions', conditions(false));
  // Asked at once, given up after 10 s, back within 2 s more. A client that is not told of networks
  // would not even have asked by then.
  await e2e.within(left, () => 'the connection is given up', 22_000);
  await e2e.isListening(page);
  await registered(1);
  assert.equal(await sendTo(page.id, 'from the other network'), 1);
  await e2e.arrives(page, 'from the other network');
  await page.context().close();
  await registered(0);
});

test('while the server is away the page tries within the bounds of its backoff, and is back after it', async () => {
  const page = await e2e.visit(browser, gate.url);
  const attempts = [];
  let third;
  const tried = new Promise((resolve) => { third = resolve; });
  page.on('websocket', () => attempts.push(performance.now()) === 3 && third());
  const lost = performance.now();
  assert.equal(await server.stop('SIGKILL'), 'SIGKILL');
  await e2e.within(tried, () => `three attempts; ${attempts}`);
  const waits = attempts.map((at, index) => at - (attempts[index - 1] ?? lost));
  // Behind the gate an attempt fails only after the gate has tried its server for some seconds.
  const GATE_MS = 8_000;
  for (const [index, wait] of waits.entries()) {
    assert.ok(wait <= Math.min(30_000, 2_000 * 2 ** index) + GATE_MS, `attempt ${index + 1} after ${wait} ms`);
  }
  server = await e2e.startServer(['--ping-interval', `${PING_MS}ms`], { listen: server.address, log: 'server-awake' });
  await page.locator('#state[data-state=open]').waitFor({ timeout: 30_000 + GATE_MS });
  await registered(1);
  assert.equal(await sendTo(page.id, 'welcome back'), 1);
  await e2e.arrives(page, 'welcome back');
});
