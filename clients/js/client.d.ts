// The types of client.js. scripts/test checks that the two agree.

/**
 * `idle`: nothing is registered and nothing waits to be sent, so no connection is needed.
 * `waiting`: it reconnects after a while. `stopped`: by `stop()`, or by a close code after which it does not reconnect.
 */
export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'stopped';

export interface Message<T = any> {
  tag: string;
  /** The message's number in the server's log. */
  seq: number;
  /** When it was sent, in milliseconds since 1970. */
  at: number;
  /** What the sender sent, as JSON.parse reads it. */
  message: T;
  /** Whether it was sent to this ID alone. */
  direct: boolean;
  /** The frame as text, for numbers that JSON.parse would round. */
  raw: string;
}

/** A position in the server's log: messages after it have not been received. */
export interface Cursor {
  epoch: string;
  seq: number;
}

export interface Registering<T = any> {
  /** The person's ID. Without it, or if it is empty, only broadcasts arrive. */
  id?: string;
  /** The key for `set`, if the tag needs one. */
  key?: string;
  /** Keys by action, for later calls on this tag. */
  keys?: Record<string, string>;
  /** How many earlier broadcasts to deliver if there is no cursor; at most 1,000. */
  last?: number;
  /**
   * Where to start in a tab that has no cursor yet, such as `epoch` and `seq` from PHP's `inbox()`. `null`:
   * store no cursor, so that every page starts with what `last` says.
   */
  since?: Cursor | null;
  onmessage?: (message: Message<T>) => void;
}

export interface Sending {
  /** The key for this tag and action, if they need one. */
  key?: string;
  /** After so many seconds the message is no longer delivered. */
  ttl?: number;
  /** The message's own name: sent again with the same mid, it is delivered once. By default a random one. */
  mid?: string;
}

export interface Receipt {
  mid: string;
  seq: number;
  /** How many registrations it was delivered to. */
  clients: number;
  /** One of several servers did not answer in time, so it may have reached more than `clients`. */
  partial?: boolean;
  /** Whether an inbox stores it until the person comes back; only for `send`. */
  stored?: boolean;
  /** Whether this mid had been accepted before. */
  duplicate?: boolean;
}

export interface StateChange {
  state: State;
  /** The close code, or 1006 if there was none; with `waiting`, `stopped` and `idle`. */
  code?: number;
  reason?: string;
  /** Milliseconds until the next attempt; with `waiting`. */
  retryInMs?: number;
}

export interface Registered {
  tag: string;
  /** Whether everything since the last connection is delivered. `false` can be a false alarm; `true` never is. */
  recovered: boolean;
  /** The seqs of the unread messages in the inbox. */
  unread: number[];
}

export interface Unread {
  tag: string;
  /** The oldest first. */
  messages: Message[];
  count: number;
}

export interface Read {
  tag: string;
  /** The seqs of the messages to remove from the screen. */
  seqs: number[];
}

export interface Gap {
  tag: string;
}

export interface Fault {
  /** The error code of the protocol: `denied`, `weak_id`, `bad_tag` … */
  code: string;
  /** The explanation, for people. */
  detail: string;
  /** The tag of the registration that was refused. */
  tag?: string;
}

/** An event of a Tocsin object. In a listener, `detail` says what happened. */
export interface TocsinEvent<T> extends Event {
  readonly detail: T;
}

export interface Events {
  message: TocsinEvent<Message>;
  /** The list of unread messages has changed, or is known for the first time. */
  unread: TocsinEvent<Unread>;
  /** Messages were read on another device or page of the same person, or are no longer stored. */
  read: TocsinEvent<Read>;
  /** Messages were lost: the server stores a limited number of them, for a limited time. */
  gap: TocsinEvent<Gap>;
  state: TocsinEvent<StateChange>;
  registered: TocsinEvent<Registered>;
  error: TocsinEvent<Fault>;
}

/** The part of WebSocket that the client uses: the browser's, Node's, or that of the package `ws`. */
export type WebSocketConstructor = new (url: string) => {
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(text: string): void;
  close(): void;
};

/** The reason for which the server, or this client, refused a request. */
export class TocsinError extends Error {
  constructor(code: string, detail: string, about?: { tag?: string; mid?: string; outcome?: string });
  /** The error code of the protocol: `denied`, `weak_id`, `unavailable` … */
  code: string;
  /** The explanation, for people. */
  detail: string;
  tag?: string;
  /** Send again with this mid, and the message is delivered once, whatever happened. */
  mid?: string;
  /** `refused`: certainly not delivered. `unknown`: perhaps delivered. */
  outcome?: string;
}

export class Tocsin extends EventTarget {
  /**
   * @param url the server's `/ws`; by default `ws` on the server that client.js came from
   * @param options another implementation of WebSocket
   */
  constructor(url?: string | URL, options?: { WebSocket?: WebSocketConstructor });
  get state(): State;
  /**
   * Listens on a tag, also after every reconnection, and continues where the previous page of this tab
   * stopped. Registering on the same tag again replaces the registration. If the server refuses, there
   * is an `error` event with the tag; if nobody listens to `error`, the console shows it once.
   */
  register<T = any>(tag: string, options?: Registering<T>): void;
  /** Stops listening on a tag. */
  unregister(tag: string): void;
  /** The unread messages in the inbox of the registered ID, the oldest first. */
  unread(tag: string): Message[];
  /**
   * Marks messages as read: all up to a seq (by default the last received one), or `only` some, at most
   * 1,000. They leave `unread` at once, and the inbox on all devices. Resolves when the server has confirmed
   * it; until then the client repeats it, also on the tab's next page. Rejects with a TocsinError.
   */
  markRead(tag: string, which?: number | { only: number[] }): Promise<void>;
  /** Sends a message to one ID and nobody else. Rejects with a TocsinError. */
  send(tag: string, id: string, message: any, options?: Sending): Promise<Receipt>;
  /** Sends a message to everyone who listens on the tag. Rejects with a TocsinError. */
  broadcast(tag: string, message: any, options?: Sending): Promise<Receipt>;
  /** Closes the connection. It stays closed until `start()`. */
  stop(): void;
  /**
   * Connects again after `stop()`, or after a close code that ended the connection for good. After a logout
   * (4004) it does not listen for that person again: call `register()` with the ID of whoever logs in.
   */
  start(): void;

  addEventListener<K extends keyof Events>(
    type: K,
    listener: ((event: Events[K]) => void) | { handleEvent(event: Events[K]): void } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof Events>(
    type: K,
    listener: ((event: Events[K]) => void) | { handleEvent(event: Events[K]): void } | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
