// @ts-check
/**
 * Tocsin in the browser: one WebSocket, any number of tags.
 *
 *     import { Tocsin } from 'https://shop.example:9091/client.js';
 *     const tocsin = new Tocsin();
 *     tocsin.register('notifications', { id, onmessage: ({ message }) => popUp(message.text) });
 *
 * What a message holds is never interpreted here. It may come from strangers: show it with
 * `textContent`, never with `innerHTML`.
 */

/** The widest wait before the first attempt to come back; it doubles with each further one. */
const BACKOFF_FIRST_MS = 2_000;
const BACKOFF_CAP_MS = 30_000;
/** No server asks for a longer wait than this in earnest. */
const BYE_CAP_MS = 600_000;
/** How long a WebSocket may take to open. */
const CONNECT_MS = 20_000;
/** Looked at this often: a connection that was quiet for the whole span is asked for a sign of life. */
const QUIET_MS = 25_000;
/** How long that sign of life may take. */
const PONG_MS = 10_000;
/** How long a `send` or `broadcast` waits for its answer, reconnections included. */
const ANSWER_MS = 30_000;
/** Calls that may wait at a time, so that a page left open offline does not grow. */
const CALLS_MAX = 64;
/** The server closes the connection for good over a longer frame, so none is sent. */
const FRAME_MAX = 131_072;
/** Coming back after one of these would only repeat what the server has just ended. */
const STAY_AWAY = new Set([1002, 1003, 1007, 1009, 4004, 4005, 4500]);
/** Refusals of `set` that pass; all others mean that the registration itself is wrong. */
const PASSING = new Set(['unavailable', 'rate_limited']);

/**
 * @typedef {'idle' | 'connecting' | 'open' | 'waiting' | 'stopped'} State
 *   `idle`: nothing is registered and nothing waits to be sent, so no connection is needed.
 *   `waiting`: for the next attempt. `stopped`: by `stop()`, or by a close code that says so.
 *
 * @typedef {object} Message
 * @property {string} tag
 * @property {number} seq       its number in the server's log
 * @property {number} at        when it was sent, in milliseconds since 1970
 * @property {any} message      what the sender gave, as JSON.parse reads it
 * @property {boolean} direct   whether it was sent to this ID alone
 * @property {string} raw       the frame as it came, for numbers that JSON.parse would round
 *
 * @typedef {object} Registering
 * @property {string} [id]      who listens; without it only broadcasts arrive
 * @property {string} [key]     the key for listening, where that is protected
 * @property {Record<string, string>} [keys]  keys by action, for later calls on this tag
 * @property {(message: Message) => void} [onmessage]
 *
 * @typedef {{ tag: string, active: boolean, since: { epoch: string, seq: number } | null } & Registering} Registration
 *
 * @typedef {object} Sending
 * @property {string} [key]     the key of this tag and action, where it is protected
 * @property {number} [ttl]     seconds after which nobody needs the message any more
 * @property {string} [mid]     the message's own name: under one mid it is delivered once
 *
 * @typedef {object} Receipt
 * @property {string} mid
 * @property {number} seq
 * @property {number} clients   registrations that it was handed to
 * @property {boolean} [stored] whether an inbox keeps it for the person's return
 * @property {boolean} [duplicate]  whether this mid had been accepted before
 */

/** Why the server (or the way to it) refused something. */
export class TocsinError extends Error {
  /**
   * @param {string} code    as in the protocol: `denied`, `weak_id`, `unavailable` …
   * @param {string} detail  for people
   * @param {{ tag?: string, mid?: string, outcome?: string }} [about]
   */
  constructor(code, detail, about = {}) {
    super(`${code}: ${detail}`);
    this.name = 'TocsinError';
    this.code = code;
    this.detail = detail;
    this.tag = about.tag;
    /** Give this to the next attempt, and the message is delivered once whatever happened. */
    this.mid = about.mid;
    /** `refused`: surely not delivered. `unknown`: it may have been. */
    this.outcome = about.outcome;
  }
}

/** Events: `message` ({@link Message}), `state`, `registered` and `error`, each with its `detail`. */
export class Tocsin extends EventTarget {
  /** @type {string} */ #url;
  /** @type {typeof WebSocket} */ #WebSocket;
  /** @type {State} */ #state = 'idle';
  /** @type {WebSocket | null} */ #socket = null;
  /** The one deadline of the present state: to open, to be quiet, to wait. */
  #timer = /** @type {any} */ (undefined);
  #attempts = 0;
  #heard = false;
  /** @type {number | null} */ #byeMs = null;
  /** The present wait, while the page may still shorten it: once, and never what a server asked for. */
  #hurry = 0;
  #asking = false;
  /** Ends listening to the page's own events. @type {AbortController | null} */ #page = null;
  #lastRef = 0;
  /** @type {Map<string, Registration>} */
  #registrations = new Map();
  /** What `set` is under way on this connection. @type {Map<number, Registration>} */
  #sets = new Map();
  /** Calls without an answer; they outlive connections. @type {Map<number, { frame: string, settle: (reply: any) => void }>} */
  #calls = new Map();

  /**
   * @param {string | URL} [url]  of the server's `/ws`; by default the one beside this file
   * @param {{ WebSocket?: typeof WebSocket }} [options]  another implementation, for Node
   */
  constructor(url, options = {}) {
    super();
    const resolved = url === undefined
      ? new URL('ws', import.meta.url)
      : new URL(url, globalThis.location?.href ?? import.meta.url);
    resolved.protocol = resolved.protocol.replace(/^http/, 'ws');
    if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not a WebSocket address: ${resolved}`);
    this.#url = resolved.href;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * Listens on a tag from now on, through every reconnection. The same tag again replaces the
   * registration. A refusal comes as an `error` event with the tag.
   * @param {string} tag
   * @param {Registering} [options]
   */
  register(tag, { id, key, keys, onmessage } = {}) {
    const before = this.#registrations.get(tag);
    const same = before !== undefined && before.id === id;
    this.#registrations.set(tag, {
      tag, id, key, keys, onmessage,
      // Until the server confirms another ID, what still arrives is for the one before.
      active: same && before.active,
      // A cursor belongs to one tag and ID.
      since: same ? before.since : null,
    });
    if (this.#state === 'open') this.#set(tag);
    else this.#wake();
  }

  /** Stops listening on a tag. @param {string} tag */
  unregister(tag) {
    if (this.#registrations.delete(tag) && this.#state === 'open') {
      this.#socket?.send(JSON.stringify({ action: 'unset', tag }));
    }
  }

  /**
   * To one ID and nobody else.
   * @param {string} tag
   * @param {string} id
   * @param {any} message
   * @param {Sending} [options]
   * @returns {Promise<Receipt>}
   */
  send(tag, id, message, options) {
    return this.#call({ action: 'send', tag, id, message }, options);
  }

  /**
   * To everyone who listens on the tag.
   * @param {string} tag
   * @param {any} message
   * @param {Sending} [options]
   * @returns {Promise<Receipt>}
   */
  broadcast(tag, message, options) {
    return this.#call({ action: 'broadcast', tag, message }, options);
  }

  /** Closes the connection and stays away until `start()`. */
  stop() {
    this.#halt(1000, 'stopped by the page');
  }

  /** Comes back after `stop()` or a close code that means to stay away. */
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
    this.#byeMs = null;
    this.#hurry = 0;
    // A socket that was given up may still speak: nobody listens to it any more.
    const current = (/** @type {(event: any) => void} */ handle) => (/** @type {any} */ event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current(({ data }) => this.#received(data));
    socket.onclose = current(({ code, reason }) => this.#closed(code, reason));
    // `onclose` follows; but Node's `ws` throws what nobody listens to.
    socket.onerror = () => {};
    this.#arm(CONNECT_MS, () => this.#giveUp('no connection in time'));
    this.#become('connecting');
  }

  #opened() {
    this.#heard = true;
    this.#watch();
    this.#sets.clear();
    for (const tag of this.#registrations.keys()) this.#set(tag);
    // Again with their old mids: what the server had accepted is not delivered twice.
    for (const { frame } of this.#calls.values()) this.#socket?.send(frame);
    // Last: what its listeners send is sent once.
    this.#become('open');
  }

  /** Pings of the protocol are answered by the browser unseen, so a dead way shows only by silence. */
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
    this.#socket?.send('{"action":"ping"}');
    this.#arm(PONG_MS, () => (this.#heard ? this.#watch() : this.#giveUp('no sign of life')));
  }

  /** The page is looked at again, thawed, or on another network: what lasted so far may be dead. */
  #recheck() {
    // An answer that is awaited already is not awaited any longer for it.
    if (this.#state === 'open') this.#asking || this.#ask();
    else if (this.#hurry && navigator.onLine !== false) {
      // Not at once: a whole office comes back online in the same moment.
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
    page.addEventListener('resume', recheck, { signal });
    page.addEventListener('visibilitychange', () => page.hidden || recheck(), { signal });
  }

  /** A dead way would also swallow the closing handshake: leave without waiting for it. @param {string} why */
  #giveUp(why) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#closed(1006, why);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    if (STAY_AWAY.has(code)) return this.#halt(code, reason);
    this.#socket = null;
    clearTimeout(this.#timer);
    if (!this.#needed()) return this.#become('idle', { code, reason });
    const widest = Math.min(BACKOFF_CAP_MS, BACKOFF_FIRST_MS * 2 ** this.#attempts);
    const retryInMs = this.#byeMs ?? Math.round(Math.random() * widest);
    this.#attempts += 1;
    this.#hurry = this.#byeMs === null ? Date.now() + retryInMs : 0;
    this.#arm(retryInMs, () => this.#connect());
    this.#become('waiting', { code, reason, retryInMs });
  }

  /** @param {number} code @param {string} reason */
  #halt(code, reason) {
    if (this.#state === 'stopped') return;
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    socket?.close();
    this.#become('stopped', { code, reason });
    for (const { settle } of this.#calls.values()) {
      settle({ error: 'unavailable', detail: 'the connection was ended for good', outcome: 'unknown' });
    }
  }

  /** @param {number} ms @param {() => void} then */
  #arm(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  /** @param {State} state @param {object} [about] */
  #become(state, about) {
    if (this.#state === state) return;
    this.#state = state;
    if (state === 'idle' || state === 'stopped') {
      this.#page?.abort();
      this.#page = null;
    } else this.#listenToPage();
    this.#emit('state', { state, ...about });
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // ---- what goes out ----

  /** @param {string} tag */
  #set(tag) {
    const registration = this.#registrations.get(tag);
    if (!registration) return;
    const { id, key, keys, since } = registration;
    const ref = ++this.#lastRef;
    this.#sets.set(ref, registration);
    this.#socket?.send(JSON.stringify({ action: 'set', tag, id, key, keys, since: since ?? undefined, ref }));
  }

  /**
   * @param {{ action: string, tag: string, id?: string, message: any }} call
   * @param {Sending} [options]
   * @returns {Promise<Receipt>}
   */
  #call(call, { key, ttl, mid = randomHex() } = {}) {
    const { tag } = call;
    return new Promise((resolve, reject) => {
      const refuse = (/** @type {string} */ code, /** @type {string} */ detail, /** @type {string} */ outcome) =>
        reject(new TocsinError(code, detail, { tag, mid, outcome }));
      if (this.#state === 'stopped') return refuse('unavailable', 'stopped: start() comes back', 'refused');
      if (this.#calls.size >= CALLS_MAX) return refuse('unavailable', 'too many calls wait', 'refused');
      const ref = ++this.#lastRef;
      // JSON has no `undefined`: a message without one would leave the field out.
      const frame = JSON.stringify({ ...call, message: call.message ?? null, key, ttl, mid, ref });
      if (new TextEncoder().encode(frame).length > FRAME_MAX) {
        return refuse('too_large', `a frame holds at most ${FRAME_MAX} bytes`, 'refused');
      }
      const late = setTimeout(
        () => this.#calls.get(ref)?.settle({ error: 'unavailable', detail: 'no answer in time', outcome: 'unknown' }),
        ANSWER_MS,
      );
      const settle = (/** @type {any} */ reply) => {
        clearTimeout(late);
        this.#calls.delete(ref);
        if (reply.error) return refuse(reply.error, reply.detail ?? '', reply.outcome ?? 'refused');
        const { seq, clients, stored, duplicate } = reply;
        resolve({ mid, seq, clients, stored, duplicate });
      };
      this.#calls.set(ref, { frame, settle });
      if (this.#state === 'open') this.#socket?.send(frame);
      else this.#wake();
    });
  }

  // ---- what comes in ----

  /** @param {string} text */
  #received(text) {
    this.#heard = true;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return this.#emit('error', { code: 'bad_frame', detail: 'the server sent what is not JSON' });
    }
    if (frame.event !== undefined) this.#event(frame);
    else if (frame.ok !== undefined || frame.error !== undefined) this.#reply(frame);
    else this.#message(frame, text);
  }

  /** @param {any} frame */
  #event({ event, tag, seq, retry_in_ms: retry }) {
    if (event === 'live') this.#advance(tag, seq);
    else if (event === 'bye' && retry >= 0) this.#byeMs = Math.min(retry, BYE_CAP_MS);
  }

  /** @param {any} reply */
  #reply(reply) {
    const call = this.#calls.get(reply.ref);
    if (call) return call.settle(reply);
    const registration = this.#sets.get(reply.ref);
    this.#sets.delete(reply.ref);
    // Replaced or ended by the page in the meantime: the answer concerns nobody.
    if (registration && this.#registrations.get(registration.tag) !== registration) return;
    if (reply.error !== undefined) this.#refused(reply, registration);
    else if (registration && reply.ok === 'set') this.#confirmed(reply, registration);
  }

  /** @param {any} reply @param {Registration} registration */
  #confirmed({ epoch, recovered, unread }, registration) {
    registration.active = true;
    // Another epoch counts from its own beginning: a cursor of the last one means nothing in it.
    if (registration.since?.epoch !== epoch) registration.since = epoch === undefined ? null : { epoch, seq: 0 };
    this.#emit('registered', { tag: registration.tag, recovered: recovered === true, unread: unread ?? [] });
  }

  /** @param {any} reply @param {Registration} [registration] */
  #refused({ error: code, detail }, registration) {
    this.#emit('error', { code, detail, tag: registration?.tag });
    if (!registration) return;
    if (!PASSING.has(code)) return void this.#registrations.delete(registration.tag);
    const socket = this.#socket;
    setTimeout(() => {
      if (this.#socket === socket && this.#state === 'open') this.#set(registration.tag);
    }, Math.random() * BACKOFF_FIRST_MS);
  }

  /** @param {any} frame @param {string} raw */
  #message({ tag, seq, at, message, direct }, raw) {
    const registration = this.#registrations.get(tag);
    if (!registration?.active) return;
    this.#advance(tag, seq);
    const detail = { tag, seq, at, message, direct: direct === true, raw };
    this.#emit('message', detail);
    try {
      registration.onmessage?.(detail);
    } catch (error) {
      // The page's mistake: reported as such, and no reason to stop listening.
      queueMicrotask(() => { throw error; });
    }
  }

  /** @param {string} tag @param {number} seq */
  #advance(tag, seq) {
    const since = this.#registrations.get(tag)?.since;
    if (since && seq > since.seq) since.seq = seq;
  }
}

function randomHex() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
