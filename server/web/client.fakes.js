// For the tests of client.js: a WebSocket, a clock and a page that they move by hand.
import { afterEach, beforeEach } from 'node:test';

import { Tocsin } from './client.js';

const real = { setTimeout, clearTimeout, queueMicrotask };
const { now: realNow } = Date;
const { random } = Math;
const BROWSER = ['document', 'addEventListener', 'navigator', 'sessionStorage'];
const ofNode = Object.fromEntries(BROWSER.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));

export let now, timers, sockets;

export class FakeSocket {
  sent = [];
  closedByClient = false;
  constructor(url) {
    this.url = url;
    sockets.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closedByClient = true; }
  open() { this.onopen({}); }
  says(frame) { this.onmessage({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) }); }
  dies(code, reason = '') { this.onclose({ code, reason }); }
  all(action) { return this.sent.filter((frame) => frame.action === action); }
  last(action) { return this.all(action).at(-1); }
  /** Answers the last `set`; `about` is what its reply has besides the usual. */
  confirms(epoch = 'k1', about = {}) {
    const { tag, ref, since } = this.last('set');
    const recovered = since && since.epoch === epoch;
    this.says({ ok: 'set', ref, tag, epoch, recovered, unread: [], ...about });
  }
  live(seq, tag = 'notifications') { this.says({ event: 'live', tag, seq }); }
  /** A message to this person; `about` may make it another. */
  direct(seq, about = {}) { this.says({ tag: 'notifications', seq, at: seq, message: `m${seq}`, direct: true, ...about }); }
  broadcast(seq) { this.direct(seq, { direct: undefined }); }
}

beforeEach(() => {
  now = 0;
  timers = new Map();
  sockets = [];
  let last = 0;
  globalThis.setTimeout = (run, ms, ...args) => (timers.set(++last, { run: () => run(...args), due: now + ms }), last);
  globalThis.clearTimeout = (timer) => timers.delete(timer);
  Math.random = () => 0.5;
  Date.now = () => 1e12 + now;
});

afterEach(() => {
  Object.assign(globalThis, real);
  Math.random = random;
  Date.now = realNow;
  for (const name of BROWSER) {
    delete globalThis[name];
    if (ofNode[name]) Object.defineProperty(globalThis, name, ofNode[name]);
  }
});

/** A tab's storage. */
export class Storage {
  items = new Map();
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, String(value)); }
  get text() { return [...this.items].flat().join('\n'); }
}

/** What client.js needs of a page around it. */
export function inPage(storage = new Storage()) {
  const page = Object.assign(new EventTarget(), { hidden: false });
  const network = new EventTarget();
  const navigator = { onLine: true };
  const values = {
    document: { value: page },
    addEventListener: { value: network.addEventListener.bind(network) },
    navigator: { value: navigator },
    // A function stands for a storage that may not even be looked at.
    sessionStorage: typeof storage === 'function' ? { get: storage } : { value: storage },
  };
  for (const name of BROWSER) Object.defineProperty(globalThis, name, { ...values[name], configurable: true });
  return {
    storage,
    goes: (type) => { navigator.onLine = type === 'online'; network.dispatchEvent(new Event(type)); },
    is: (hidden) => { page.hidden = hidden; page.dispatchEvent(new Event('visibilitychange')); },
    thaws: () => page.dispatchEvent(new Event('resume')),
    shows: (persisted) => network.dispatchEvent(Object.assign(new Event('pageshow'), { persisted })),
  };
}

/** Moves the clock, running what falls due on the way in its order. */
export function pass(ms) {
  const until = now + ms;
  for (;;) {
    const [next] = [...timers].filter(([, { due }]) => due <= until).sort(([, a], [, b]) => a.due - b.due);
    if (!next) break;
    timers.delete(next[0]);
    now = next[1].due;
    next[1].run();
  }
  now = until;
}

export const ID = 'an-id-of-somebody';

/** A client and what it has told. */
export function made(options, url = 'wss://shop.example:9091/ws') {
  const tocsin = new Tocsin(url, { WebSocket: FakeSocket, ...options });
  const seen = { message: [], unread: [], read: [], gap: [], state: [], error: [], registered: [] };
  for (const type of Object.keys(seen)) tocsin.addEventListener(type, ({ detail }) => seen[type].push(detail));
  return { tocsin, seen };
}

/** A client whose registration on `notifications` is confirmed; its own socket is the youngest. */
export function listening(registering = {}) {
  const client = made();
  client.tocsin.register('notifications', { id: ID, ...registering });
  const socket = sockets.at(-1);
  socket.open();
  socket.confirms();
  return { ...client, socket };
}
