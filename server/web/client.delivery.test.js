// Run by `node --test`: what client.js does so that every message is seen once, on page after page.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ID, inPage, listening, made, pass, sockets, Storage, timers } from './client.fakes.js';

const TAG = 'notifications';
const seqs = (messages) => messages.map(({ seq }) => seq);

/** The tab goes on to another page: nothing of the one before runs any more. */
function nextPage(registering) {
  timers.clear();
  return listening(registering);
}

/** The frame that a page which listens now has asked with, without what every one has. */
function asked({ socket }) {
  const { action, tag, id, ref, ...rest } = socket.last('set');
  return rest;
}

// ---- the cursor ----

test('the tab’s next page goes on where this one ended, and asks for the whole list', () => {
  inPage();
  const first = listening();
  assert.deepEqual(asked(first), {});
  first.socket.direct(42);
  first.socket.live(44);
  first.socket.broadcast(45);
  assert.deepEqual(asked(nextPage()), { since: { epoch: 'k1', seq: 45 }, unread: true });
});

test('without an ID there is a cursor too, but no list', () => {
  inPage();
  const first = listening({ id: undefined });
  first.socket.live(44);
  assert.deepEqual(asked(nextPage({ id: undefined })), { since: { epoch: 'k1', seq: 44 } });
  assert.deepEqual(first.seen.unread, []);
});

test('another tab, ID, tag or server has a cursor of its own', () => {
  const { storage } = inPage();
  listening().socket.live(44);
  assert.deepEqual(asked(nextPage({ id: 'somebody-else-with-an-id' })), {});
  for (const [url, tag] of [['wss://other.example/ws', TAG], [undefined, 'orders']]) {
    made(undefined, url).tocsin.register(tag, { id: ID });
    sockets.at(-1).open();
    assert.equal(sockets.at(-1).last('set').since, undefined);
  }
  inPage(new Storage());
  assert.deepEqual(asked(nextPage()), {});
  inPage(storage);
  assert.ok(asked(nextPage()).since);
});

test('an ID is not in the tab’s storage, and its hash does not lead back to it', () => {
  const { storage } = inPage();
  listening().socket.direct(42);
  assert.match(storage.text, /^tocsin:notifications:-?\d{1,10}\n\{"epoch":"k1","seq":42,/);
  assert.ok(!storage.text.includes(ID));
});

for (const [what, storage] of [
  ['forbidden', () => { throw new DOMException('no', 'SecurityError'); }],
  ['missing', () => undefined],
  ['full', { getItem: () => null, setItem() { throw new DOMException('full', 'QuotaExceededError'); } }],
]) {
  test(`where storage is ${what}, the page goes on by itself`, () => {
    inPage(storage);
    const { seen, socket } = listening();
    socket.direct(42);
    socket.dies(1006);
    pass(1000);
    sockets[1].open();
    assert.deepEqual(sockets[1].last('set').since, undefined, 'its replay had not ended');
    sockets[1].confirms('k1', { unread: [42] });
    sockets[1].direct(42);
    sockets[1].live(43);
    sockets[1].dies(1006);
    pass(2000);
    sockets[2].open();
    assert.deepEqual(sockets[2].last('set').since, { epoch: 'k1', seq: 43 });
    assert.deepEqual(seqs(seen.message), [42]);
  });
}

test('rubbish in the storage is as good as nothing', () => {
  const { storage } = inPage();
  listening().socket.live(44);
  const [[slot]] = storage.items;
  for (const rubbish of ['', '{', 'null', '7', '{"epoch":"k1","seq":44,"live":true}',
    ...['"k1","seq":"44"', '"k1","seq":4.4', '"k1"', '7,"seq":44'].map((cursor) => `{"epoch":${cursor},"live":true,"marks":[]}`)]) {
    storage.setItem(slot, rubbish);
    assert.deepEqual(asked(nextPage()), {}, rubbish);
  }
});

test('a cursor that the page gives is where a tab begins that has none', () => {
  inPage();
  const since = { epoch: 'k1', seq: 41 };
  const first = listening({ since });
  assert.deepEqual(asked(first), { since: { epoch: 'k1', seq: 41 }, unread: true });
  first.socket.direct(41, { seen: true });
  first.socket.direct(43);
  assert.deepEqual(seqs(first.seen.message), [43]);
  assert.deepEqual(since, { epoch: 'k1', seq: 41 }, 'it is the page’s own');
  assert.deepEqual(asked(nextPage({ since: { epoch: 'k1', seq: 50 } })).since, { epoch: 'k1', seq: 43 });
});

test('where the page wants none, each begins anew, with so many of the last broadcasts', () => {
  const { storage } = inPage();
  const first = listening({ id: undefined, since: null, last: 20 });
  assert.deepEqual(asked(first), { last: 20 });
  first.socket.live(44);
  first.socket.dies(1006);
  pass(1000);
  sockets[1].open();
  assert.deepEqual(sockets[1].last('set').since, { epoch: 'k1', seq: 44 }, 'but not after a reconnection');
  assert.deepEqual(asked(nextPage({ id: undefined, since: null, last: 20 })), { last: 20 });
  assert.equal(storage.items.size, 0);
});

test('outside of a page nothing is stored, though there be a storage', () => {
  const { storage } = inPage();
  delete globalThis.document;
  listening().socket.live(44);
  assert.equal(storage.items.size, 0);
});

test('a first replay that was cut off is asked for anew, and handed over once', () => {
  inPage();
  const first = listening();
  first.socket.direct(42);
  // Here 43, of which the page knows nothing, may have been on its way.
  const second = nextPage();
  assert.deepEqual(asked(second), {}, 'broadcasts of old would come along with a cursor');
  second.socket.direct(42);
  second.socket.direct(43);
  second.socket.live(44);
  assert.deepEqual(seqs(second.seen.message), [43]);
  assert.deepEqual(seqs(second.tocsin.unread(TAG)), [42, 43]);
});

test('what a replay brings again is handed over once', () => {
  const { seen, socket } = listening();
  for (const seq of [42, 43]) socket.direct(seq);
  socket.direct(43);
  socket.broadcast(44);
  socket.live(44);
  socket.broadcast(44);
  const [first] = seen.unread.at(-1).messages;
  socket.direct(42, { seen: true });
  assert.equal(seen.unread.length, 1, 'nor does the list change');
  socket.direct(45);
  assert.deepEqual(seqs(seen.message), [42, 43, 44, 45]);
  assert.equal(seen.unread.at(-1).messages[0], first);
});

test('what was lost is told', () => {
  inPage();
  const { seen, socket } = listening();
  socket.live(44);
  assert.deepEqual(seen.gap, []);
  socket.says({ event: 'gap', tag: TAG });
  assert.deepEqual(seen.gap, [{ tag: TAG }]);
  const next = made();
  next.tocsin.register(TAG, { id: ID });
  sockets[1].open();
  sockets[1].confirms('k1', { recovered: false });
  assert.deepEqual(next.seen.registered, [{ tag: TAG, recovered: false, unread: [] }]);
  assert.deepEqual(next.seen.gap, [{ tag: TAG }]);
  sockets[1].direct(44);
  sockets[1].direct(60);
  assert.deepEqual(seqs(next.seen.message), [60]);
});

test('another epoch counts anew, for messages, list and marks', async () => {
  inPage();
  const { tocsin, seen, socket } = listening();
  for (const seq of [42, 43]) socket.direct(seq);
  socket.live(44);
  socket.dies(1006);
  const marked = tocsin.markRead(TAG, 42);
  pass(1000);
  sockets[1].open();
  sockets[1].confirms('k2');
  await marked;
  assert.equal(sockets[1].last('read'), undefined, 'its numbers would name other messages');
  assert.deepEqual(seen.gap, [{ tag: TAG }]);
  assert.deepEqual(seen.read, [], 'nobody has read them');
  sockets[1].direct(3);
  sockets[1].live(5);
  assert.deepEqual(seqs(seen.message), [42, 43, 3]);
  assert.deepEqual(seqs(tocsin.unread(TAG)), [3]);
  assert.deepEqual(asked(nextPage()).since, { epoch: 'k2', seq: 5 });
});

test('a server whose log went back is followed', () => {
  const { seen, socket } = listening({ since: { epoch: 'k1', seq: 100 } });
  socket.live(80);
  socket.direct(81);
  assert.deepEqual(seqs(seen.message), [81]);
});

test('the same ID again on a tag goes on, with what is new about it', () => {
  const heard = [];
  const { tocsin, seen, socket } = listening();
  socket.direct(42);
  tocsin.register(TAG, { id: ID, onmessage: ({ seq }) => heard.push(seq) });
  socket.direct(43);
  socket.confirms('k1', { unread: [42, 43] });
  socket.live(43);
  socket.direct(44);
  assert.deepEqual([heard, seqs(seen.message), seqs(tocsin.unread(TAG))], [[43, 44], [42, 43, 44], [42, 43, 44]]);
});

test('registered twice at once, the first replay counts, and only the last refusal', () => {
  const { tocsin, seen } = made();
  for (const key of ['wrong', 'right']) tocsin.register(TAG, { id: ID, key });
  sockets[0].open();
  tocsin.register(TAG, { id: ID, key: 'right' });
  const [first, second] = sockets[0].all('set');
  sockets[0].says({ error: 'denied', detail: '', ref: first.ref });
  assert.deepEqual(seen.error, []);
  sockets[0].says({ ok: 'set', tag: TAG, epoch: 'k1', unread: [42], ref: second.ref });
  sockets[0].direct(42);
  sockets[0].live(42);
  assert.deepEqual(seqs(seen.message), [42]);
});

test('a page that the back button brings from the cache goes on where the tab is', () => {
  const page = inPage();
  const first = listening();
  for (const seq of [42, 43]) first.socket.direct(seq);
  first.socket.live(43);
  const asleep = [...timers];
  const second = nextPage();
  second.socket.direct(42, { seen: true });
  second.socket.direct(43, { seen: true });
  second.socket.live(43);
  second.socket.direct(44);
  second.tocsin.markRead(TAG, 42);
  // Back.
  timers.clear();
  for (const [number, timer] of asleep) timers.set(number, timer);
  page.shows(true);
  first.socket.dies(1006);
  pass(1000);
  const socket = sockets.at(-1);
  socket.open();
  assert.deepEqual(socket.last('set').since, { epoch: 'k1', seq: 44 });
  assert.equal(socket.last('set').unread, true);
  socket.confirms('k1', { unread: [43, 44] });
  for (const seq of [43, 44]) socket.direct(seq, { seen: true });
  socket.live(44);
  assert.deepEqual(seqs(first.seen.message), [42, 43]);
  assert.deepEqual(first.seen.read, [{ tag: TAG, seqs: [42] }]);
  assert.deepEqual(seqs(first.tocsin.unread(TAG)), [43, 44]);
});

test('a page that is shown for the first time asks once', () => {
  const page = inPage();
  const { socket } = listening();
  page.shows(false);
  assert.equal(socket.all('set').length, 1);
  page.shows(true);
  assert.equal(socket.all('set').length, 2, 'and a cached one whose connection has lasted asks again');
});

// ---- the list ----

test('the list is told when a replay has ended, and then with each change, before the message', () => {
  const { tocsin, seen, socket } = listening();
  const order = [];
  for (const type of ['unread', 'message']) tocsin.addEventListener(type, () => order.push(type));
  for (const seq of [40, 42]) socket.direct(seq, { seen: true });
  socket.direct(43);
  assert.deepEqual([seen.unread, order], [[], ['message']]);
  socket.live(44);
  socket.direct(45);
  socket.broadcast(46);
  assert.deepEqual(order, ['message', 'unread', 'unread', 'message', 'message']);
  assert.deepEqual(seen.unread.map(({ tag, count, messages }) => [tag, count, seqs(messages)]),
    [[TAG, 3, [40, 42, 43]], [TAG, 4, [40, 42, 43, 45]]]);
  assert.deepEqual(tocsin.unread(TAG)[3], { tag: TAG, seq: 45, at: 45, message: 'm45', direct: true,
    raw: '{"tag":"notifications","seq":45,"at":45,"message":"m45","direct":true}' });
  assert.deepEqual(tocsin.unread('elsewhere'), []);
});

test('an empty list is told too, so that a bell knows', () => {
  const { seen, socket } = listening();
  socket.live(44);
  assert.deepEqual(seen.unread, [{ tag: TAG, messages: [], count: 0 }]);
});

test('what another device has read leaves the list and is told', () => {
  const { seen, socket } = listening();
  for (const seq of [42, 43, 44, 45]) socket.direct(seq);
  socket.live(45);
  socket.says({ event: 'read', tag: TAG, only: [43, 99] });
  socket.says({ event: 'read', tag: TAG, seq: 44 });
  socket.says({ event: 'read', tag: TAG, seq: 44 });
  socket.says({ event: 'read', tag: 'elsewhere', seq: 45 });
  assert.deepEqual(seen.read, [{ tag: TAG, seqs: [43] }, { tag: TAG, seqs: [42, 44] }]);
  assert.deepEqual(seen.unread.map(({ count }) => count), [4, 3, 1]);
});

test('what another device has read meanwhile leaves the list on coming back', () => {
  const { tocsin, seen, socket } = listening();
  for (const seq of [42, 43]) socket.direct(seq);
  socket.live(44);
  socket.dies(1006);
  pass(1000);
  sockets[1].open();
  assert.equal(sockets[1].last('set').unread, undefined, 'the list is known');
  sockets[1].confirms('k1', { unread: [43, 46] });
  assert.deepEqual(seen.read, [{ tag: TAG, seqs: [42] }]);
  sockets[1].direct(46);
  sockets[1].live(46);
  assert.deepEqual(seqs(tocsin.unread(TAG)), [43, 46]);
  assert.deepEqual(seen.unread.map(({ count }) => count), [2, 2]);
});

test('a list that no reply speaks of is left alone', () => {
  const { seen, socket } = listening();
  socket.direct(42);
  socket.dies(1006);
  pass(1000);
  sockets[1].open();
  sockets[1].confirms('k1', { unread: undefined });
  assert.deepEqual(seen.read, []);
});

test('a page that is left open remembers so many and no more', () => {
  const { tocsin, socket } = listening();
  for (let seq = 1; seq <= 1001; seq += 1) socket.direct(seq);
  assert.equal(tocsin.unread(TAG).length, 1000);
  assert.equal(tocsin.unread(TAG)[0].seq, 2);
});

// ---- marks ----

/** Somebody with three unread messages and all of them shown. */
function reader() {
  const client = listening();
  for (const seq of [42, 43, 44]) client.socket.direct(seq);
  client.socket.live(45);
  return client;
}

for (const [what, which, told, left] of [
  ['all that was shown', undefined, { seq: 45 }, []],
  ['up to one', 43, { seq: 43 }, [44]],
  ['only some', { only: [43] }, { only: [43] }, [42, 44]],
]) {
  test(`marks ${what} as read: here at once, on the server, and not as if another had`, async () => {
    const { tocsin, seen, socket } = reader();
    const marked = tocsin.markRead(TAG, which);
    assert.deepEqual(seqs(tocsin.unread(TAG)), left);
    assert.equal(seen.unread.at(-1).count, left.length);
    const { ref, ...frame } = socket.last('read');
    assert.deepEqual(frame, { action: 'read', tag: TAG, ...told });
    socket.says({ ok: 'read', ref });
    assert.equal(await marked, undefined);
    assert.deepEqual(seen.read, []);
  });
}

test('marking nothing asks for nothing', async () => {
  const { tocsin, socket } = listening();
  await tocsin.markRead(TAG);
  await tocsin.markRead(TAG, { only: [] });
  const { tocsin: early } = made();
  early.register(TAG, { id: ID });
  await early.markRead(TAG);
  assert.equal(socket.last('read'), undefined);
});

test('what was marked is told again after a reconnection, once the server has confirmed the log', async () => {
  const { tocsin, seen, socket } = reader();
  const first = tocsin.markRead(TAG, { only: [42] });
  socket.dies(1006);
  const second = tocsin.markRead(TAG, 43);
  pass(1000);
  sockets[1].open();
  const third = tocsin.markRead(TAG, { only: [44] });
  assert.equal(sockets[1].last('read'), undefined);
  sockets[1].confirms('k1', { unread: [42, 43, 44] });
  const told = sockets[1].all('read');
  assert.deepEqual(told.map(({ only, seq }) => only ?? seq), [[42], 43, [44]]);
  for (const { ref } of told) sockets[1].says({ ok: 'read', ref });
  sockets[1].live(45);
  await Promise.all([first, second, third]);
  assert.deepEqual(tocsin.unread(TAG), []);
  assert.deepEqual(seen.read, []);
});

test('what was marked right before the page went is told by the next, which does not show it', () => {
  inPage();
  reader().tocsin.markRead(TAG, { only: [42] });
  const second = nextPage();
  const { ref, only } = second.socket.last('read');
  assert.deepEqual(only, [42]);
  for (const seq of [42, 43, 44]) second.socket.direct(seq, { seen: true });
  second.socket.live(45);
  assert.deepEqual(seqs(second.tocsin.unread(TAG)), [43, 44]);
  second.socket.says({ ok: 'read', ref });
  assert.equal(nextPage().socket.last('read'), undefined);
});

test('a mark that the server cannot take just now is tried again, another refusal is final', async () => {
  const { tocsin, socket } = reader();
  const marked = tocsin.markRead(TAG, 43);
  socket.says({ error: 'unavailable', detail: '', outcome: 'unknown', ref: socket.last('read').ref });
  pass(2000);
  assert.equal(socket.all('read').length, 2);
  socket.says({ ok: 'read', ref: socket.last('read').ref });
  await marked;
  const refused = tocsin.markRead(TAG, 44);
  socket.says({ error: 'bad_request', detail: 'no', ref: socket.last('read').ref });
  await assert.rejects(refused, { code: 'bad_request', tag: TAG, outcome: 'refused' });
});

test('a mark is refused where nothing is registered, when stopped, or where too many wait', async () => {
  const { tocsin, socket } = reader();
  await assert.rejects(tocsin.markRead('elsewhere'), { code: 'not_registered', outcome: 'refused' });
  socket.dies(1006);
  const marks = Array.from({ length: 64 }, () => tocsin.markRead(TAG, 42));
  await assert.rejects(tocsin.markRead(TAG, 43), { code: 'unavailable', outcome: 'refused' });
  tocsin.stop();
  for (const mark of marks) await assert.rejects(mark, { code: 'unavailable', outcome: 'unknown' });
  await assert.rejects(tocsin.markRead(TAG, 43), { code: 'unavailable', outcome: 'refused' });
  assert.deepEqual(seqs(tocsin.unread(TAG)), [43, 44], 'what was refused is still there');
  tocsin.start();
  sockets[1].open();
  sockets[1].confirms();
  assert.equal(sockets[1].all('read').length, 64, 'but what had been marked is told');
});

test('leaving a tag: what the server was told is answered yet, the rest waits for its return', async () => {
  inPage();
  const { tocsin, socket } = reader();
  const told = tocsin.markRead(TAG, 42);
  tocsin.unregister(TAG);
  assert.deepEqual(socket.sent.slice(-2).map(({ action }) => action), ['read', 'unset']);
  socket.says({ ok: 'read', ref: socket.last('read').ref });
  await told;

  tocsin.register(TAG, { id: ID });
  socket.confirms();
  socket.live(45);
  socket.dies(1006);
  const waiting = tocsin.markRead(TAG, 43);
  tocsin.register(TAG, { id: 'somebody-else-with-an-id' });
  await assert.rejects(waiting, { code: 'not_registered', outcome: 'unknown' });
  pass(1000);
  sockets[1].open();
  sockets[1].confirms();
  assert.equal(sockets[1].last('read'), undefined, 'nothing of one is told as if of another');
  tocsin.register(TAG, { id: ID });
  sockets[1].confirms();
  assert.equal(sockets[1].last('read').seq, 43);
});

test('a mark that waits for another attempt is not told as if of another ID', () => {
  const { tocsin, socket } = reader();
  tocsin.markRead(TAG, 43);
  socket.says({ error: 'rate_limited', detail: '', ref: socket.last('read').ref });
  tocsin.register(TAG, { id: 'somebody-else-with-an-id' });
  socket.confirms();
  pass(2000);
  assert.equal(socket.all('read').length, 1);
});

test('a refused registration takes its marks along', async () => {
  const { tocsin, socket } = reader();
  socket.dies(1006);
  const marked = tocsin.markRead(TAG, 43);
  pass(1000);
  sockets[1].open();
  sockets[1].says({ error: 'denied', detail: 'no longer', ref: sockets[1].last('set').ref });
  await assert.rejects(marked, { code: 'denied' });
});

test('of an ID before, nothing is listed, marked or advanced', () => {
  const { tocsin, seen, socket } = reader();
  tocsin.register(TAG, { id: 'somebody-else-with-an-id' });
  socket.direct(46);
  socket.live(46);
  socket.says({ event: 'read', tag: TAG, seq: 46 });
  assert.deepEqual(tocsin.unread(TAG), []);
  assert.deepEqual([seen.read, seqs(seen.message)], [[], [42, 43, 44]]);
  socket.confirms();
  socket.direct(40);
  assert.deepEqual(seqs(seen.message), [42, 43, 44, 40], 'its own may be older');
});
