// @ts-check
/**
 * The Tocsin client for browsers: one WebSocket for any number of tags.
 *
 *     import { Tocsin } from 'https://shop.example:9091/client.js';
 *     const tocsin = new Tocsin();
 *     tocsin.register('notifications', { id, onmessage: ({ message }) => popUp(message) });
 *
 * A stranger may have written a message: show it with `textContent`, never with `innerHTML`.
 */
/** @import * as t from './client.types.d.ts' */

/** The longest wait before the first reconnection; it doubles with each. */
const BACKOFF_FIRST_MS = 2_000;
const BACKOFF_CAP_MS = 30_000;
/** The longest wait that `bye` may ask for. */
const BYE_CAP_MS = 600_000;
/** Time for a WebSocket to open. */
const CONNECT_MS = 20_000;
/** Silence before a ping, and the wait for its answer. */
const QUIET_MS = 25_000;
const PONG_MS = 10_000;
/** Time for the answer to a call, with reconnections. */
const ANSWER_MS = 30_000;
/** The most waiting calls and unread messages: a page left open must not grow. */
const CALLS_MAX = 64;
const UNREAD_MAX = 1_000;
/** The server closes the connection on a longer frame. */
const FRAME_MAX = 131_072;
/** Close codes after which the server would only close the connection again. */
const STAY_AWAY = new Set([1002, 1003, 1007, 1009, 4004, 4005, 4500]);
/** Errors after which the client tries again. */
const PASSING = new Set(['unavailable', 'rate_limited']);

/** Why the server, or this client, refused a request. */
export class TocsinError extends Error {
  /** @param {string} code @param {string} detail @param {{ tag?: string, mid?: string, outcome?: string }} [about] */
  constructor(code, detail, { tag, mid, outcome } = {}) {
    super(`${code}: ${detail}`);
    this.name = 'TocsinError';
    this.code = code;
    this.detail = detail;
    this.tag = tag;
    this.mid = mid;
    this.outcome = outcome;
  }
}

export class Tocsin extends EventTarget {
  #url;
  #WebSocket;
  /** @type {t.State} */ #state = 'idle';
  /** @type {WebSocket | undefined} */ #socket;
  /** The one deadline of the current state. @type {any} */ #timer;
  #attempts = 0;
  #heard = false;
  /** @type {number | undefined} */ #byeMs;
  /** The end of a wait that the page may shorten once, or 0. */
  #hurry = 0;
  #asking = false;
  /** Whether the page listens to `error`; else the console shows each kind once. */ #handled = false;
  #shown = new Set();
  /** Stops listening to the page. @type {AbortController | undefined} */ #page;
  #lastRef = 0;
  /** By tag. @type {t.Registrations} */ #registrations = new Map();
  /** By `ref`: replies that this connection awaits. @type {t.Answers} */ #answers = new Map();
  /** By `ref`: calls, which the next connection repeats. @type {t.Calls} */ #calls = new Map();

  /** @param {string | URL} [url] @param {{ WebSocket?: typeof WebSocket }} [options] */
  constructor(url, options = {}) {
    super();
    const resolved = new URL(url ?? 'ws', (url && globalThis.location?.href) ?? import.meta.url);
    resolved.protocol = resolved.protocol.replace(/^http/, 'ws');
    if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not a WebSocket URL: ${resolved}`);
    this.#url = resolved.href;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
  }

  get state() {
    return this.#state;
  }

  /** @type {EventTarget['addEventListener']} */
  addEventListener(...args) {
    this.#handled ||= args[0] === 'error';
    super.addEventListener(...args);
  }

  /** @type {t.Tocsin['register']} */
  register(tag, { id, key, keys, last, since, onmessage } = {}) {
    // The ID of a guest's page is empty.
    id ||= undefined;
    let registration = this.#registrations.get(tag);
    if (!registration || registration.id !== id) {
      if (registration) this.#leave(registration);
      // Only a page has a tab that stores the cursor for the next page.
      const slot = globalThis.document && since !== null ? `tocsin:${tag}:${digest(this.#url + id)}` : '';
      registration = {
        tag, id, slot, since: since && { ...since }, live: true, marks: [], ...load(slot),
        unread: new Map(), whole: false, replaying: false,
      };
      this.#registrations.set(tag, registration);
    }
    Object.assign(registration, { key, keys, last, onmessage });
    if (this.#state === 'open') this.#set(registration);
    else this.#wake();
  }

  /** @type {t.Tocsin['unregister']} */
  unregister(tag) {
    const registration = this.#registrations.get(tag);
    if (!registration) return;
    this.#leave(registration);
    this.#registrations.delete(tag);
    if (this.#state === 'open') this.#say({ action: 'unset', tag });
  }

  /** @type {t.Tocsin['unread']} */
  unread(tag) {
    return [...(this.#registrations.get(tag)?.unread.values() ?? [])].sort((a, b) => a.seq - b.seq);
  }

  /** @type {t.Tocsin['markRead']} */
  markRead(tag, which) {
    const registration = this.#registrations.get(tag);
    return new Promise((resolve, reject) => {
      const settle = refusing(resolve, reject, { tag });
      if (!registration) return settle({ error: 'not_registered', detail: `call register() on ${tag} first` });
      const refusal = this.#refusal(registration.marks.length);
      if (refusal) return settle(refusal);
      const mark = typeof which === 'object' ? { only: which.only, settle } : { seq: which ?? registration.since?.seq, settle };
      if (!(mark.only ? mark.only.length : mark.seq)) return settle({});
      this.#remove(registration, mark);
      this.#changed(registration);
      registration.marks.push(mark);
      save(registration);
      if (this.#state === 'open' && registration.active) this.#tell(registration, mark);
    });
  }

  /** @type {t.Tocsin['send']} */
  send(tag, id, message, options) {
    return this.#call({ action: 'send', tag, id, message }, options);
  }

  /** @type {t.Tocsin['broadcast']} */
  broadcast(tag, message, options) {
    return this.#call({ action: 'broadcast', tag, message }, options);
  }

  stop() {
    this.#halt(1000, 'the page called stop()');
  }

  start() {
    if (this.#state !== 'stopped') return;
    this.#attempts = 0;
    this.#become('idle');
    this.#wake();
  }

  // ---- the connection ----

  #wake() {
    if (this.#state === 'idle' && this.#needed()) this.#connect();
  }

  #needed() {
    return this.#registrations.size > 0 || this.#calls.size > 0;
  }

  #connect() {
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    this.#byeMs = undefined;
    this.#hurry = 0;
    // Ignores a socket that was given up.
    /** @type {t.Guard} */
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current(({ data }) => this.#received(data));
    socket.onclose = current(({ code, reason }) => this.#closed(code, reason));
    // `onclose` follows; but the package `ws` throws errors that have no listener.
    socket.onerror = () => {};
    this.#arm(CONNECT_MS, () => this.#closed(1006, `no connection within ${CONNECT_MS / 1000} s`));
    this.#become('connecting');
  }

  #opened() {
    this.#heard = true;
    this.#watch();
    this.#answers.clear();
    for (const registration of this.#registrations.values()) {
      registration.active = false;
      this.#set(registration);
    }
    // The mids stay the same, so nothing is delivered twice.
    for (const { frame } of this.#calls.values()) this.#socket?.send(frame);
    // Last, so that calls of its listeners are sent once.
    this.#become('open');
  }

  /** Pages cannot see the server's pings, so a dead connection shows only by silence. */
  #watch() {
    this.#asking = false;
    this.#arm(QUIET_MS, () => {
      this.#attempts = 0;
      if (!this.#heard) return this.#ask();
      this.#heard = false;
      this.#watch();
    });
  }

  #ask() {
    this.#heard = false;
    this.#asking = true;
    this.#say({ action: 'ping' });
    this.#arm(PONG_MS, () => (this.#heard ? this.#watch() : this.#closed(1006, 'the server does not answer')));
  }

  /** The page is visible again or on another network: the connection may be dead. */
  #recheck() {
    // A ping that is under way keeps its deadline.
    if (this.#state === 'open') this.#asking || this.#ask();
    else if (this.#hurry && navigator.onLine !== false) {
      // A random wait: a whole office may come back at the same moment.
      this.#attempts = 0;
      const left = Math.max(0, this.#hurry - Date.now());
      this.#arm(Math.min(left, Math.random() * BACKOFF_FIRST_MS), () => this.#connect());
      this.#hurry = 0;
    }
  }

  #listenToPage() {
    const page = globalThis.document;
    if (this.#page || !page) return;
    const { signal } = (this.#page = new AbortController());
    const recheck = () => this.#recheck();
    for (const type of ['online', 'offline']) addEventListener(type, recheck, { signal });
    addEventListener('pageshow', ({ persisted }) => persisted && this.#restored(), { signal });
    page.addEventListener('resume', recheck, { signal });
    page.addEventListener('visibilitychange', () => page.hidden || recheck(), { signal });
  }

  /** The back button shows this page again. */
  #restored() {
    for (const registration of this.#registrations.values()) {
      const { since, live } = { ...registration, ...load(registration.slot) };
      Object.assign(registration, { since, live, whole: false });
      if (this.#state === 'open') this.#set(registration);
    }
  }

  /** Does not wait for the closing handshake, which a dead connection never completes. */
  #letGo() {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#timer);
    socket?.close();
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    if (STAY_AWAY.has(code)) return this.#halt(code, reason);
    this.#letGo();
    if (!this.#needed()) return this.#become('idle', { code, reason });
    const widest = Math.min(BACKOFF_CAP_MS, BACKOFF_FIRST_MS * 2 ** this.#attempts);
    const retryInMs = this.#byeMs ?? Math.round(Math.random() * widest);
    this.#attempts += 1;
    this.#hurry = this.#byeMs === undefined ? Date.now() + retryInMs : 0;
    this.#arm(retryInMs, () => this.#connect());
    this.#become('waiting', { code, reason, retryInMs });
  }

  /** @param {number} code @param {string} reason */
  #halt(code, reason) {
    if (this.#state === 'stopped') return;
    this.#letGo();
    this.#become('stopped', { code, reason });
    const registrations = [...this.#registrations.values()];
    const marks = registrations.flatMap((registration) => registration.marks);
    for (const { settle } of [...this.#calls.values(), ...marks]) {
      settle?.({ error: 'unavailable', detail: 'the connection is stopped: call start()', outcome: 'unknown' });
    }
    // After a logout the page forgets the person, and start() does not listen for them again.
    for (const registration of registrations) {
      if (code !== 4004 || !registration.id) continue;
      this.#registrations.delete(registration.tag);
      registration.replaying = false;
      this.#readElsewhere(registration, { seq: Infinity });
    }
  }

  /** @param {number} ms @param {() => void} then */
  #arm(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  /** @param {t.State} state @param {object} [about] */
  #become(state, about) {
    if (this.#state === state) return;
    this.#state = state;
    if (state === 'idle' || state === 'stopped') {
      this.#page?.abort();
      this.#page = undefined;
    } else this.#listenToPage();
    this.#emit('state', { state, ...about });
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    // Node 18 has no CustomEvent.
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  /** @param {string} code @param {string} detail @param {string} [tag] */
  #fail(code, detail, tag) {
    this.#emit('error', { code, detail, tag });
    const kind = `Tocsin: ${code} ${tag ?? ''}`;
    if (this.#handled || this.#shown.has(kind) || this.#shown.size >= CALLS_MAX) return;
    this.#shown.add(kind);
    console.error(kind, detail);
  }

  // ---- requests ----

  /** @param {object} frame */
  #say(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** @type {t.Inner['set']} */
  #set(registration) {
    const { tag, id, key, keys, last, whole } = registration;
    const since = (registration.live && registration.since) || undefined;
    const unread = (since && id !== undefined && !whole) || undefined;
    const ref = (registration.ref = ++this.#lastRef);
    this.#answers.set(ref, (reply) => {
      // Replaced or ended meanwhile.
      if (!this.#has(registration)) return;
      if (!reply.error) this.#confirmed(reply, registration);
      else if (ref === registration.ref) this.#refused(reply, registration);
    });
    this.#say({ action: 'set', tag, id, key, keys, since, last, unread, ref });
  }

  /** @type {t.Inner['tell']} */
  #tell(registration, mark) {
    if (!this.#has(registration)) return;
    const { seq, only, settle } = mark;
    const ref = ++this.#lastRef;
    this.#answers.set(ref, (reply) => {
      if (PASSING.has(reply.error)) return this.#later(() => this.#tell(registration, mark));
      registration.marks = registration.marks.filter((other) => other !== mark);
      save(registration);
      settle?.(reply);
    });
    this.#say({ action: 'read', tag: registration.tag, seq, only, ref });
  }

  /** Tries again after a random wait on the same connection. @param {() => void} then */
  #later(then) {
    const socket = this.#socket;
    setTimeout(() => {
      if (this.#socket === socket && this.#state === 'open') then();
    }, Math.random() * BACKOFF_FIRST_MS);
  }

  /** @param {number} waiting */
  #refusal(waiting) {
    const detail = this.#state === 'stopped' ? 'the connection is stopped: call start()'
      : waiting >= CALLS_MAX && 'too many calls wait: try again later';
    return detail && { error: 'unavailable', detail };
  }

  /** @type {t.Inner['call']} */
  #call(call, { key, ttl, mid = randomHex() } = {}) {
    const { tag } = call;
    return new Promise((resolve, reject) => {
      const answer = refusing(resolve, reject, { tag, mid });
      const refusal = this.#refusal(this.#calls.size);
      if (refusal) return answer(refusal);
      const ref = ++this.#lastRef;
      // JSON has no `undefined`.
      const frame = JSON.stringify({ ...call, message: call.message ?? null, key, ttl, mid, ref });
      if (new Blob([frame]).size > FRAME_MAX) {
        return answer({ error: 'too_large', detail: `the message with tag and ID may have at most ${FRAME_MAX} bytes` });
      }
      /** @type {t.Settle} */
      const settle = (reply) => {
        clearTimeout(late);
        this.#calls.delete(ref);
        const { seq, clients, stored, duplicate, partial } = reply;
        answer(reply, { mid, seq, clients, stored, duplicate, partial });
      };
      const late = setTimeout(settle, ANSWER_MS, { error: 'unavailable', detail: `no answer within ${ANSWER_MS / 1000} s`, outcome: 'unknown' });
      this.#calls.set(ref, { frame, settle });
      if (this.#state === 'open') this.#socket?.send(frame);
      else this.#wake();
    });
  }

  // ---- replies, events and messages ----

  /** @param {string} text */
  #received(text) {
    this.#heard = true;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return this.#fail('bad_frame', 'the server sent a frame that is not JSON');
    }
    if (frame.event !== undefined) this.#event(frame);
    else if (frame.ok !== undefined || frame.error !== undefined) this.#reply(frame);
    else this.#message(frame, text);
  }

  /** @type {t.Settle} */
  #event({ event, tag, seq, only, retry_in_ms: retry }) {
    if (event === 'bye' && retry >= 0) this.#byeMs = Math.min(retry, BYE_CAP_MS);
    const registration = this.#registrations.get(tag);
    if (!registration?.active) return;
    if (event === 'gap') this.#emit('gap', { tag });
    else if (event === 'read') this.#readElsewhere(registration, { seq, only });
    else if (event === 'live') {
      const since = { ...registration.since, seq };
      Object.assign(registration, { since, live: true, whole: true, replaying: false });
      save(registration);
      this.#changed(registration);
    }
  }

  /** @type {t.Settle} */
  #reply(reply) {
    const settle = this.#calls.get(reply.ref)?.settle ?? this.#answers.get(reply.ref);
    this.#answers.delete(reply.ref);
    if (settle) settle(reply);
    else if (reply.error) this.#refused(reply);
  }

  /** @type {t.Inner['confirmed']} */
  #confirmed({ epoch, recovered, unread }, registration) {
    const { tag, since, marks } = registration;
    Object.assign(registration, { active: true, replaying: true });
    if (since?.epoch === epoch) {
      for (const mark of marks) this.#tell(registration, mark);
    } else {
      // Another epoch numbers its messages anew.
      for (const { settle } of marks) settle?.({});
      Object.assign(registration, { since: { epoch, seq: 0 }, live: false, marks: [], unread: new Map() });
    }
    this.#emit('registered', { tag, recovered: recovered === true, unread: unread ?? [] });
    if (recovered === false) this.#emit('gap', { tag });
    const gone = [...registration.unread.keys()].filter((seq) => unread?.includes(seq) === false);
    this.#readElsewhere(registration, { only: gone });
  }

  /** @type {t.Inner['refused']} */
  #refused(reply, registration) {
    const { error: code, detail } = reply;
    this.#fail(code, detail, registration?.tag);
    if (!registration) return;
    if (PASSING.has(code)) return this.#later(() => this.#has(registration) && this.#set(registration));
    this.#registrations.delete(registration.tag);
    for (const { settle } of registration.marks) settle?.(reply);
  }

  /** @param {any} frame @param {string} raw */
  #message({ tag, seq, at, message, direct = false, seen }, raw) {
    const registration = this.#registrations.get(tag);
    if (!registration?.active || !registration.since) return;
    const { since, unread, marks, onmessage } = registration;
    const detail = { tag, seq, at, message, direct, raw };
    if (direct && !unread.has(seq) && !marks.some((mark) => covers(mark, seq))) {
      unread.set(seq, detail);
      if (unread.size > UNREAD_MAX) unread.delete(this.unread(tag)[0].seq);
      if (!registration.replaying) this.#changed(registration);
    }
    // Repeated by the replay: this tab has shown it.
    if (seen || seq <= since.seq) return;
    since.seq = seq;
    save(registration);
    this.#emit('message', detail);
    try {
      onmessage?.(detail);
    } catch (error) {
      // An error of the page, reported as one.
      queueMicrotask(() => { throw error; });
    }
  }

  // ---- unread messages ----

  /** @type {t.Inner['tell']} */
  #readElsewhere(registration, mark) {
    const seqs = this.#remove(registration, mark);
    if (!seqs.length) return;
    this.#emit('read', { tag: registration.tag, seqs });
    if (!registration.replaying) this.#changed(registration);
  }

  /** @type {t.Inner['remove']} */
  #remove({ unread }, mark) {
    const seqs = [...unread.keys()].filter((seq) => covers(mark, seq));
    for (const seq of seqs) unread.delete(seq);
    return seqs;
  }

  /** @type {t.Inner['set']} */
  #changed({ tag, id }) {
    const messages = this.unread(tag);
    if (id !== undefined) this.#emit('unread', { tag, messages, count: messages.length });
  }

  /** @param {t.Registration} registration */
  #has(registration) {
    return this.#registrations.get(registration.tag) === registration;
  }

  /** The server still answers marks on an open connection. @type {t.Inner['set']} */
  #leave({ tag, active, marks }) {
    if (this.#state === 'open' && active) return;
    for (const { settle } of marks) settle?.({ error: 'not_registered', detail: `unregistered from ${tag}`, outcome: 'unknown' });
  }
}

/** @type {t.Refusing} */
function refusing(resolve, reject, about) {
  return ({ error, detail = '', outcome = 'refused' }, result) =>
    (error ? reject(new TocsinError(error, detail, { ...about, outcome })) : resolve(result));
}

/** @param {t.Mark} mark @param {number} seq */
function covers({ only, seq: last = 0 }, seq) {
  return only ? only.includes(seq) : seq <= last;
}

// ---- what the tab stores for its next page, if it can ----

/** @param {string} slot @returns {t.Stored | undefined} */
function load(slot) {
  try {
    const { epoch, seq, live, marks } = JSON.parse(sessionStorage.getItem(slot) ?? '');
    if (typeof epoch === 'string' && Number.isSafeInteger(seq)) return { since: { epoch, seq }, live, marks: [...marks] };
  } catch {
    // The page starts without a cursor.
  }
}

/** @param {t.Registration} registration */
function save({ slot, since, live, marks }) {
  try {
    if (slot) sessionStorage.setItem(slot, JSON.stringify({ ...since, live, marks }));
  } catch {
    // The next page starts without a cursor.
  }
}

/** FNV-1a: 32 bits distinguish a few IDs and reveal none. @param {string} text */
function digest(text) {
  return [...text].reduce((hash, char) => Math.imul(hash ^ char.charCodeAt(0), 0x01000193), 0x811c9dc5);
}

function randomHex() {
  // Node 18 has no global `crypto`. A mid need not be secret.
  const bytes = globalThis.crypto?.getRandomValues(new Uint8Array(16)) ?? Array.from({ length: 16 }, () => Math.random() * 256 | 0);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
