// Run by `node --test`: what client.js does when the server refuses a registration, for guests, and after a logout.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { FakeSocket, ID, inPage, listening, pass, sockets } from './client.fakes.js';
import { Tocsin } from './client.js';

const { error: realError } = console;
let printed;

beforeEach(() => {
  printed = [];
  console.error = (...words) => printed.push(words.join(' '));
});
afterEach(() => { console.error = realError; });

/** A page that listens on `tag`, and the refusal that it gets. */
function refused(tocsin, tag, error, detail) {
  tocsin.register(tag, { id: ID });
  const socket = sockets.at(-1);
  if (tocsin.state !== 'open') socket.open();
  socket.says({ error, detail, ref: socket.last('set').ref });
}

test('without a listener for `error` the console shows each refusal once', () => {
  const tocsin = new Tocsin('wss://shop.example:9091/ws', { WebSocket: FakeSocket });
  tocsin.addEventListener('state', () => {});
  refused(tocsin, 'orders', 'denied', 'set on orders needs its key');
  assert.deepEqual(printed, ['Tocsin: denied orders set on orders needs its key']);
  refused(tocsin, 'orders', 'denied', 'set on orders needs its key');
  assert.equal(printed.length, 1, 'the same refusal is not shown again');
  refused(tocsin, 'news', 'bad_tag', 'no such tag');
  refused(tocsin, 'orders', 'weak_id', 'an ID has 16 characters or more');
  assert.equal(printed.length, 3);
  sockets[0].says('{');
  assert.equal(printed.length, 4);
  assert.ok(!printed.join().includes(ID));
});

test('a page that is refused again and again fills neither memory nor the console', () => {
  const tocsin = new Tocsin('wss://shop.example:9091/ws', { WebSocket: FakeSocket });
  for (let n = 0; n < 200; n += 1) refused(tocsin, `t${n}`, 'bad_tag', 'no such tag');
  assert.equal(printed.length, 64);
});

test('a registration that the server refuses for a while is shown once', () => {
  const tocsin = new Tocsin('wss://shop.example:9091/ws', { WebSocket: FakeSocket });
  tocsin.register('orders', { id: ID });
  sockets[0].open();
  for (let n = 0; n < 3; n += 1) {
    sockets[0].says({ error: 'rate_limited', detail: `try again in ${n + 1} ms`, ref: sockets[0].last('set').ref });
    pass(1000);
  }
  assert.equal(sockets[0].all('set').length, 4);
  assert.deepEqual(printed, ['Tocsin: rate_limited orders try again in 1 ms']);
});

test('with a listener for `error` the console shows nothing', () => {
  const tocsin = new Tocsin('wss://shop.example:9091/ws', { WebSocket: FakeSocket });
  const seen = [];
  tocsin.addEventListener('error', { handleEvent: ({ detail }) => seen.push(detail.code) });
  refused(tocsin, 'orders', 'denied', 'set on orders needs its key');
  assert.deepEqual([seen, printed], [['denied'], []]);
});

for (const id of ['', null, undefined]) {
  test(`a guest, whose ID is ${JSON.stringify(id)}, listens without an ID`, () => {
    const { storage } = inPage();
    const { tocsin, seen, socket } = listening({ id });
    assert.equal('id' in socket.last('set'), false);
    socket.live(3);
    socket.broadcast(4);
    assert.deepEqual(seen.message.map(({ seq }) => seq), [4]);
    assert.deepEqual(seen.unread, []);
    // The same guest, registered in another way, is no other person: nothing is asked again.
    tocsin.register('notifications', {});
    assert.deepEqual(socket.last('set').since, { epoch: 'k1', seq: 4 });
    assert.equal(storage.items.size, 1);
  });
}

test('after a logout the page shows nothing of the person and does not listen for them again', () => {
  const { tocsin, seen, socket } = listening();
  tocsin.register('news');
  socket.confirms();
  socket.live(1, 'news');
  socket.live(1);
  socket.direct(2);
  socket.direct(3);
  socket.dies(4004, 'logged out');
  assert.deepEqual(tocsin.unread('notifications'), []);
  assert.deepEqual(seen.read, [{ tag: 'notifications', seqs: [2, 3] }]);
  assert.equal(seen.unread.at(-1).count, 0);
  assert.equal(seen.state.at(-1).state, 'stopped');
  tocsin.start();
  sockets[1].open();
  assert.deepEqual(sockets[1].sent.map(({ tag, id }) => [tag, id]), [['news', undefined]]);
});

test('a logout in the middle of a replay ends with an empty list, too', () => {
  const { tocsin, seen, socket } = listening();
  socket.direct(2);
  socket.dies(4004, 'logged out');
  assert.deepEqual(tocsin.unread('notifications'), []);
  assert.equal(seen.unread.at(-1).count, 0);
});

test('a page may register the next person while it handles the logout', () => {
  const { tocsin, seen, socket } = listening();
  socket.live(1);
  socket.direct(2);
  tocsin.addEventListener('read', () => tocsin.register('notifications', { id: 'the-id-of-the-next-one' }), { once: true });
  socket.dies(4004, 'logged out');
  assert.equal(seen.state.at(-1).state, 'stopped');
  tocsin.start();
  sockets[1].open();
  assert.equal(sockets[1].last('set').id, 'the-id-of-the-next-one');
});

test('on Node 18, which has neither CustomEvent nor crypto, events and mids are as usual', async () => {
  const kept = ['CustomEvent', 'crypto'].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name] of kept) Object.defineProperty(globalThis, name, { value: undefined, configurable: true });
  let n = 0;
  Math.random = () => (n += 1) / 1000;
  try {
    const { tocsin, seen, socket } = listening();
    assert.equal(seen.registered.length, 1);
    for (const message of ['one', 'two']) tocsin.broadcast('chat', message).catch(() => {});
    const mids = socket.all('broadcast').map(({ mid }) => mid);
    assert.match(mids[0], /^[0-9a-f]{32}$/);
    assert.equal(new Set(mids).size, 2);
  } finally {
    for (const [name, property] of kept) if (property) Object.defineProperty(globalThis, name, property); else delete globalThis[name];
  }
});
