// Run by `node --test`: the connection of client.js, what it sends, and whom it listens to.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FakeSocket, ID, inPage, listening, made, now, pass, sockets } from './client.fakes.js';
import { Tocsin } from './client.js';

const pings = (socket) => socket.all('ping').length;

test('connects with the first registration and no sooner', () => {
  const { tocsin, seen } = made();
  assert.equal(sockets.length, 0);
  tocsin.register('notifications', { id: ID, keys: { broadcast: 'k' } });
  assert.equal(sockets[0].url, 'wss://shop.example:9091/ws');
  sockets[0].open();
  const { ref, ...set } = sockets[0].last('set');
  assert.deepEqual(set, { action: 'set', tag: 'notifications', id: ID, keys: { broadcast: 'k' } });
  sockets[0].confirms();
  assert.deepEqual(seen.registered, [{ tag: 'notifications', recovered: false, unread: [] }]);
  assert.deepEqual(seen.state.map(({ state }) => state), ['connecting', 'open']);
});

test('http and https addresses become ws and wss; others are refused', () => {
  for (const [given, expected] of [['https://a/tocsin/ws', 'wss://a/tocsin/ws'], ['http://a:1/ws', 'ws://a:1/ws']]) {
    new Tocsin(given, { WebSocket: FakeSocket }).register('t');
    assert.equal(sockets.at(-1).url, expected);
  }
  assert.throws(() => new Tocsin('ftp://a/'), TypeError);
});

test('hands a message to the event and to the tag’s own handler, whatever it holds', () => {
  const heard = [];
  const { seen } = listening({ onmessage: (message) => heard.push(message) });
  const message = { ok: 'set', error: '<script>', event: ['bye'] };
  const frame = { tag: 'notifications', seq: 42, at: 5, message, direct: true };
  sockets[0].says(frame);
  sockets[0].says({ tag: 'elsewhere', seq: 43, at: 5, message });
  const expected = [{ ...frame, raw: JSON.stringify(frame) }];
  assert.deepEqual(heard, expected);
  assert.deepEqual(seen.message, expected);
});

test('the frame as it came is there for numbers that JSON.parse rounds', () => {
  const { seen } = listening();
  const raw = '{"tag":"notifications","seq":1,"at":1,"message":[9007199254740993,1.50]}';
  sockets[0].says(raw);
  assert.equal(seen.message[0].raw, raw);
});

test('a handler that throws is reported and stops nothing', () => {
  const { seen } = listening({ onmessage: () => { throw new Error('the page’s mistake'); } });
  const later = [];
  globalThis.queueMicrotask = (run) => later.push(run);
  sockets[0].says({ tag: 'notifications', seq: 1, at: 1, message: 'a' });
  sockets[0].says({ tag: 'notifications', seq: 2, at: 1, message: 'b' });
  assert.equal(seen.message.length, 2);
  assert.throws(later[0], /the page’s mistake/);
});

for (const code of [1000, 1001, 1005, 1006, 1011, 4000, 4001, 4002]) {
  test(`comes back after ${code}, registered as before, with the cursor`, () => {
    const { seen } = listening();
    sockets[0].says({ tag: 'notifications', seq: 42, at: 5, message: 1 });
    sockets[0].says({ event: 'live', tag: 'notifications', seq: 44 });
    sockets[0].dies(code, 'why');
    assert.deepEqual(seen.state.at(-1), { state: 'waiting', code, reason: 'why', retryInMs: 1000 });
    pass(999);
    assert.equal(sockets.length, 1);
    pass(1);
    sockets[1].open();
    assert.deepEqual(sockets[1].last('set').since, { epoch: 'k1', seq: 44 });
    sockets[1].confirms();
    sockets[1].says({ tag: 'notifications', seq: 45, at: 6, message: 2 });
    assert.equal(seen.message.length, 2);
  });
}

for (const code of [1002, 1003, 1007, 1009, 4005, 4500]) {
  test(`stays away after ${code} until it is started again`, () => {
    const { tocsin, seen } = listening();
    sockets[0].dies(code);
    assert.equal(tocsin.state, 'stopped');
    assert.equal(seen.state.at(-1).code, code);
    tocsin.register('chat');
    pass(3_600_000);
    assert.equal(sockets.length, 1);
    tocsin.start();
    sockets[1].open();
    assert.deepEqual(sockets[1].sent.map(({ tag }) => tag), ['notifications', 'chat']);
  });
}

test('the wait doubles up to 30 s, with full jitter, and starts anew after a lasting connection', () => {
  const { seen } = listening();
  const waits = [];
  const die = () => {
    sockets.at(-1).dies(1006);
    waits.push(seen.state.at(-1).retryInMs);
    pass(waits.at(-1));
  };
  Math.random = () => 1;
  for (let n = 0; n < 6; n += 1) die();
  assert.deepEqual(waits, [2000, 4000, 8000, 16000, 30000, 30000]);
  Math.random = () => 0.001;
  die();
  assert.equal(waits.at(-1), 30);
  Math.random = () => 1;
  sockets.at(-1).open();
  sockets.at(-1).confirms();
  pass(25_000);
  die();
  assert.equal(waits.at(-1), 2000);
});

test('waits as long as the server’s notice asks, once', () => {
  const { seen } = listening();
  sockets[0].says({ event: 'bye', retry_in_ms: 4210 });
  sockets[0].dies(1001);
  assert.equal(seen.state.at(-1).retryInMs, 4210);
  pass(4210);
  sockets[1].dies(1006);
  assert.equal(seen.state.at(-1).retryInMs, 2000);
});

test('gives up a connection that does not open, and hears nothing more of it', () => {
  const { tocsin, seen } = made();
  tocsin.register('notifications');
  pass(20_000);
  assert.equal(seen.state.at(-1).state, 'waiting');
  assert.ok(sockets[0].closedByClient);
  sockets[0].open();
  sockets[0].dies(4500);
  assert.equal(tocsin.state, 'waiting');
});

test('asks a quiet server for a sign of life, and comes back where none comes', () => {
  const { tocsin } = listening();
  pass(25_000); // the registration was heard in this span
  assert.equal(sockets[0].last('ping'), undefined);
  pass(25_000);
  assert.ok(sockets[0].last('ping'));
  sockets[0].says({ ok: 'ping' });
  pass(10_000);
  assert.equal(tocsin.state, 'open');
  pass(50_000);
  assert.equal(sockets[0].sent.filter(({ action }) => action === 'ping').length, 2);
  pass(10_000);
  assert.ok(sockets[0].closedByClient);
  assert.equal(tocsin.state, 'waiting');
});

for (const [what, happens] of [
  ['another network', (page) => page.goes('online')],
  ['no network', (page) => page.goes('offline')],
  ['being looked at', (page) => page.is(false)],
  ['being thawed', (page) => page.thaws()],
]) {
  test(`after ${what} an open connection must show that it lives`, () => {
    const page = inPage();
    const { tocsin, seen } = listening();
    happens(page);
    assert.equal(pings(sockets[0]), 1);
    sockets[0].says({ ok: 'ping' });
    pass(10_000);
    assert.equal(tocsin.state, 'open');
    happens(page);
    pass(10_000);
    assert.equal(seen.state.at(-1).state, 'waiting');
    assert.equal(seen.state.at(-1).code, 1006);
  });
}

for (const [what, happens] of [
  ['the network is back', (page) => page.goes('online')],
  ['somebody looks at the page', (page) => page.is(false)],
  ['the page is thawed', (page) => page.thaws()],
]) {
  test(`a long wait is cut short when ${what}, once, and not to nothing`, () => {
    const page = inPage();
    listening();
    Math.random = () => 1;
    for (let n = 0; n < 5; n += 1) {
      sockets.at(-1).dies(1006);
      if (n < 4) pass(30_000);
    }
    const count = sockets.length;
    Math.random = () => 0.5;
    happens(page);
    assert.equal(sockets.length, count);
    pass(999);
    happens(page);
    pass(1);
    assert.equal(sockets.length, count + 1);
  });
}

test('a wait that is nearly over is not made longer by being cut short', () => {
  const page = inPage();
  listening();
  Math.random = () => 1;
  for (let n = 0; n < 5; n += 1) {
    sockets.at(-1).dies(1006);
    if (n < 4) pass(30_000);
  }
  const count = sockets.length;
  pass(29_900);
  page.is(false);
  pass(100);
  assert.equal(sockets.length, count + 1);
});

test('events one after the other do not put off giving up a dead way', () => {
  const page = inPage();
  listening();
  for (let n = 0; n < 3; n += 1) {
    page.is(false);
    pass(4_000);
  }
  assert.equal(pings(sockets[0]), 1);
  assert.ok(sockets[0].closedByClient);
});

test('what a state listener sends on opening is sent once', () => {
  const { tocsin } = made();
  tocsin.addEventListener('state', ({ detail }) => {
    if (detail.state === 'open') tocsin.broadcast('chat', 'here').catch(() => {});
  });
  tocsin.register('notifications');
  sockets[0].open();
  assert.equal(sockets[0].sent.filter(({ action }) => action === 'broadcast').length, 1);
  assert.equal(sockets[0].sent.filter(({ action }) => action === 'set').length, 1);
  tocsin.stop();
});

test('nothing is tried while the browser knows of no network, beyond the backoff', () => {
  const page = inPage();
  listening();
  Math.random = () => 1;
  page.goes('offline');
  sockets[0].dies(1006);
  Math.random = () => 0.1;
  page.is(false);
  pass(1999);
  assert.equal(sockets.length, 1);
  pass(1);
  assert.equal(sockets.length, 2);
});

test('a page that becomes hidden asks nothing', () => {
  const page = inPage();
  listening();
  page.is(true);
  assert.equal(pings(sockets[0]), 0);
});

test('what the server’s notice asks is not cut short', () => {
  const page = inPage();
  listening();
  sockets[0].says({ event: 'bye', retry_in_ms: 20_000 });
  sockets[0].dies(1001);
  page.goes('online');
  page.is(false);
  pass(19_999);
  assert.equal(sockets.length, 1);
  pass(1);
  assert.equal(sockets.length, 2);
});

test('a client that is stopped no longer listens to the page, and again when it is started', () => {
  const page = inPage();
  const { tocsin } = listening();
  tocsin.stop();
  page.goes('online');
  pass(60_000);
  assert.equal(sockets.length, 1);
  tocsin.start();
  sockets[1].open();
  page.goes('online');
  assert.equal(pings(sockets[1]), 1);
});

test('an error of the WebSocket is left to its close', () => {
  listening();
  assert.equal(typeof sockets[0].onerror, 'function');
  sockets[0].onerror({});
});

/** 500 clients lose their server now. When each has come back, in milliseconds, with it away for `awayMs`. */
function allComeBack(awayMs, notice = () => {}) {
  // mulberry32: the same numbers in each run
  let seed = 20;
  Math.random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let n = Math.imul(seed ^ (seed >>> 15), seed | 1);
    n ^= n + Math.imul(n ^ (n >>> 7), n | 61);
    return ((n ^ (n >>> 14)) >>> 0) / 2 ** 32;
  };
  const back = [];
  let lost = false;
  class Restarting extends FakeSocket {
    constructor(url) {
      super(url);
      if (!lost) return;
      const isBack = now >= awayMs;
      if (isBack) back.push(now);
      // Or refused at once, as a port is on which nobody listens.
      setTimeout(() => (isBack ? this.open() : this.dies(1006)), 0);
    }
  }
  for (let n = 0; n < 500; n += 1) made({ WebSocket: Restarting }).tocsin.register('notifications');
  for (const socket of sockets) socket.open();
  lost = true;
  for (const [index, socket] of [...sockets].entries()) {
    notice(socket, index);
    socket.dies(1001);
  }
  pass(awayMs + 30_000);
  assert.equal(back.length, 500);
  return back;
}

/** The most within any span of that length. */
function comeBack(times, ms) {
  const sorted = [...times].sort((a, b) => a - b);
  return Math.max(...sorted.map((start, index) => sorted.filter((time, at) => at >= index && time < start + ms).length));
}

test('500 clients do not come back in the same second after a restart', () => {
  // The server is back before the first: evenly over two seconds.
  const soon = allComeBack(0);
  assert.ok(Math.max(...soon) <= 2000);
  assert.ok(comeBack(soon, 1000) < 300, `${comeBack(soon, 1000)} in a second`);
  assert.ok(comeBack(soon, 100) < 60, `${comeBack(soon, 100)} in a tenth of a second`);
});

test('nor after a server that was away for 20 s', () => {
  const back = allComeBack(20_000);
  assert.ok(Math.max(...back) <= 50_000);
  assert.ok(comeBack(back, 1000) < 60, `${comeBack(back, 1000)} in a second`);
});

test('nor before the time that the server’s notice gave to each', () => {
  const back = allComeBack(0, (socket, index) => socket.says({ event: 'bye', retry_in_ms: index * 60 }));
  assert.deepEqual(back, Array.from({ length: 500 }, (_, index) => index * 60));
});

test('send and broadcast resolve with what the server answers', async () => {
  const { tocsin } = listening();
  // Without a global `crypto` the mids come from here.
  let n = 0;
  Math.random = () => (n += 1) / 1000;
  const sent = tocsin.send('notifications', 'another-id-of-someone', { text: 'x' }, { key: 'k', ttl: 60 });
  const broadcast = tocsin.broadcast('chat', undefined);
  const [first, second] = sockets[0].sent.slice(-2);
  assert.match(first.mid, /^[0-9a-f]{32}$/);
  assert.notEqual(first.mid, second.mid);
  assert.deepEqual(first, {
    action: 'send', tag: 'notifications', id: 'another-id-of-someone', message: { text: 'x' },
    key: 'k', ttl: 60, mid: first.mid, ref: first.ref,
  });
  assert.equal(second.message, null);
  sockets[0].says({ ok: 'broadcast', ref: second.ref, seq: 8, clients: 3, partial: true });
  sockets[0].says({ ok: 'send', ref: first.ref, seq: 7, clients: 2, stored: true });
  assert.deepEqual(await sent, { mid: first.mid, seq: 7, clients: 2, stored: true, duplicate: undefined, partial: undefined });
  assert.deepEqual(await broadcast, { mid: second.mid, seq: 8, clients: 3, stored: undefined, duplicate: undefined, partial: true });
});

test('a refusal rejects with its code and leaves the rest alone', async () => {
  const { tocsin, seen } = listening();
  const refused = tocsin.broadcast('chat', 'x', { mid: 'mine' });
  sockets[0].says({ error: 'denied', detail: 'broadcast on chat needs its key', ref: sockets[0].last('broadcast').ref });
  await assert.rejects(refused, { name: 'TocsinError', code: 'denied', mid: 'mine', tag: 'chat' });
  assert.equal(tocsin.state, 'open');
  assert.deepEqual(seen.error, []);
});

test('what has no answer yet is sent again after a reconnection, under the same mid', async () => {
  const { tocsin } = listening();
  const sent = tocsin.send('notifications', 'another-id-of-someone', 'x');
  sockets[0].dies(1006);
  pass(1000);
  sockets[1].open();
  assert.deepEqual(sockets[1].last('send'), sockets[0].last('send'));
  sockets[1].says({ ok: 'send', ref: sockets[1].last('send').ref, seq: 9, clients: 0, stored: false, duplicate: true });
  assert.equal((await sent).duplicate, true);
});

test('a call without an answer is given up with an unknown outcome', async () => {
  const { tocsin } = listening();
  const sent = tocsin.send('notifications', 'another-id-of-someone', 'x');
  pass(30_000);
  await assert.rejects(sent, { code: 'unavailable', outcome: 'unknown' });
});

test('what the server would close the connection over is not sent', async () => {
  const { tocsin } = listening();
  await assert.rejects(tocsin.broadcast('chat', 'é'.repeat(70_000)), { code: 'too_large', outcome: 'refused' });
  assert.equal(sockets[0].last('broadcast'), undefined);
});

test('calls that wait are bounded', async () => {
  const { tocsin } = made();
  const calls = Array.from({ length: 64 }, () => tocsin.broadcast('chat', 'x'));
  await assert.rejects(tocsin.broadcast('chat', 'x'), { code: 'unavailable', outcome: 'refused' });
  tocsin.stop();
  for (const call of calls) await assert.rejects(call, { code: 'unavailable' });
  await assert.rejects(tocsin.broadcast('chat', 'x'), { outcome: 'refused' });
});

test('a refused registration is reported and not repeated', () => {
  const { tocsin, seen } = made();
  tocsin.register('notifications', { id: '12345' });
  sockets[0].open();
  sockets[0].says({ error: 'weak_id', detail: 'an ID has 16 characters or more', ref: sockets[0].last('set').ref });
  assert.deepEqual(seen.error, [{ code: 'weak_id', detail: 'an ID has 16 characters or more', tag: 'notifications' }]);
  sockets[0].dies(1006);
  assert.equal(tocsin.state, 'idle'); // nothing is left to come back for
  pass(60_000);
  assert.equal(sockets.length, 1);
});

test('a registration that the server cannot take just now is tried again', () => {
  const { tocsin } = made();
  tocsin.register('notifications');
  sockets[0].open();
  sockets[0].says({ error: 'unavailable', detail: 'busy', outcome: 'refused', ref: sockets[0].last('set').ref });
  pass(2000);
  assert.equal(sockets[0].sent.filter(({ action }) => action === 'set').length, 2);
});

test('under another ID nothing of the one before is shown', () => {
  const { tocsin, seen } = listening();
  tocsin.register('notifications', { id: 'another-id-of-someone' });
  sockets[0].says({ tag: 'notifications', seq: 50, at: 1, message: 'for the first' });
  assert.equal(seen.message.length, 0);
  assert.equal(sockets[0].last('set').since, undefined);
  sockets[0].confirms();
  sockets[0].says({ tag: 'notifications', seq: 51, at: 1, message: 'for the second' });
  assert.equal(seen.message.length, 1);
});

test('the answer to a registration that was replaced concerns nobody', () => {
  const { tocsin, seen } = made();
  tocsin.register('notifications', { id: '12345' });
  sockets[0].open();
  const stale = sockets[0].last('set').ref;
  tocsin.register('notifications', { id: ID });
  sockets[0].says({ error: 'weak_id', detail: '', ref: stale });
  assert.deepEqual(seen.error, []);
  sockets[0].confirms();
  assert.equal(seen.registered.length, 1);
});

test('unregister tells the server and hears nothing more', () => {
  const { tocsin, seen } = listening();
  tocsin.unregister('notifications');
  assert.deepEqual(sockets[0].last('unset'), { action: 'unset', tag: 'notifications' });
  sockets[0].says({ tag: 'notifications', seq: 50, at: 1, message: 'late' });
  assert.deepEqual(seen.message, []);
});

test('another epoch begins a cursor of its own', () => {
  listening();
  sockets[0].says({ event: 'live', tag: 'notifications', seq: 44 });
  sockets[0].dies(1006);
  pass(1000);
  sockets[1].open();
  sockets[1].confirms('k2');
  sockets[1].says({ event: 'live', tag: 'notifications', seq: 3 });
  sockets[1].dies(1006);
  pass(2000);
  sockets[2].open();
  assert.deepEqual(sockets[2].last('set').since, { epoch: 'k2', seq: 3 });
});

test('a frame that is not JSON is reported and stops nothing', () => {
  const { tocsin, seen } = listening();
  sockets[0].says('{"tag":');
  assert.equal(seen.error[0].code, 'bad_frame');
  assert.equal(tocsin.state, 'open');
});
