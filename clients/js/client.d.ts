// The types of client.js. scripts/test compares the two.

/**
 * `idle`: nothing is registered and nothing waits to be sent, so no connection is needed.
 * `waiting`: for the next attempt. `stopped`: by `stop()`, or by a close code that says so.
 */
export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'stopped';

export interface Message<T = any> {
  tag: string;
  /** Its number in the server's log. */
  seq: number;
  /** When it was sent, in milliseconds since 1970. */
  at: number;
  /** What the sender gave, as JSON.parse reads it. */
  message: T;
  /** Whether it was sent to this ID alone. */
  direct: boolean;
  /** The frame as it came, for numbers that JSON.parse would round. */
  raw: string;
}

/** A place in the server's log: what comes after it has not been seen. */
export interface Cursor {
  epoch: string;
  seq: number;
}

export interface Registering<T = any> {
  /** Who listens; without it only broadcasts arrive. */
  id?: string;
  /** The key for listening, where that is protected. */
  key?: string;
  /** Keys by action, for later calls on this tag. */
  keys?: Record<string, string>;
  /** How many of the last broadcasts come too where there is no cursor; 1,000 at most. */
  last?: number;
  /**
   * Where a tab begins that has no cursor of its own yet, such as what PHP's `inbox()` gave. `null`:
   * every page begins anew, with what `last` says.
   */
  since?: Cursor | null;
  onmessage?: (message: Message<T>) => void;
}

export interface Sending {
  /** The key of this tag and action, where it is protected. */
  key?: string;
  /** Seconds after which nobody needs the message any more. */
  ttl?: number;
  /** The message's own name: under one mid it is delivered once. Made for each message unless given. */
  mid?: string;
}

export interface Receipt {
  mid: string;
  seq: number;
  /** Registrations that it was handed to. */
  clients: number;
  /** One of several servers did not answer in time: it may have been handed to more than `clients`. */
  partial?: boolean;
  /** Whether an inbox keeps it for the person's return; only of `send`. */
  stored?: boolean;
  /** Whether this mid had been accepted before. */
  duplicate?: boolean;
}

export interface StateChange {
  state: State;
  /** The close code, 1006 where there was none; with `waiting`, `stopped` and `idle`. */
  code?: number;
  reason?: string;
  /** Until the next attempt; with `waiting`. */
  retryInMs?: number;
}

export interface Registered {
  tag: string;
  /** Whether everything since the last connection has been, or is being, replayed. */
  recovered: boolean;
  /** The numbers of the messages that an inbox keeps unread. */
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
  /** The numbers of the messages that need not be shown any longer. */
  seqs: number[];
}

export interface Gap {
  tag: string;
}

export interface Fault {
  /** As in the protocol: `denied`, `weak_id`, `bad_tag` … */
  code: string;
  /** For people. */
  detail: string;
  /** Of the registration that was refused. */
  tag?: string;
}

export interface Events {
  message: CustomEvent<Message>;
  /** The list of unread messages has changed, or is known for the first time. */
  unread: CustomEvent<Unread>;
  /** Messages were read on another device or page of the same person, or are no longer kept. */
  read: CustomEvent<Read>;
  /** Messages were lost: the server keeps only so many, and only so long. */
  gap: CustomEvent<Gap>;
  state: CustomEvent<StateChange>;
  registered: CustomEvent<Registered>;
  error: CustomEvent<Fault>;
}

/** What is used of a WebSocket: the browser's own, Node's, or that of the package `ws`. */
export type WebSocketConstructor = new (url: string) => {
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(text: string): void;
  close(): void;
};

/** Why the server (or the way to it) refused something. */
export class TocsinError extends Error {
  constructor(code: string, detail: string, about?: { tag?: string; mid?: string; outcome?: string });
  /** As in the protocol: `denied`, `weak_id`, `unavailable` … */
  code: string;
  /** For people. */
  detail: string;
  tag?: string;
  /** Give this to the next attempt, and the message is delivered once whatever happened. */
  mid?: string;
  /** `refused`: surely not delivered. `unknown`: it may have been. */
  outcome?: string;
}

export class Tocsin extends EventTarget {
  /**
   * @param url of the server's `/ws`; by default the one beside client.js
   * @param options another implementation of WebSocket
   */
  constructor(url?: string | URL, options?: { WebSocket?: WebSocketConstructor });
  get state(): State;
  /**
   * Listens on a tag from now on, through every reconnection, and goes on where the tab's page
   * before has ended. The same tag again replaces the registration. A refusal comes as an `error`
   * event with the tag.
   */
  register<T = any>(tag: string, options?: Registering<T>): void;
  /** Stops listening on a tag. */
  unregister(tag: string): void;
  /** The messages that the tag's inbox keeps for the registered ID, the oldest first. */
  unread(tag: string): Message[];
  /**
   * Takes messages out of the inbox, and out of `unread` at once: up to a seq, by default up to the
   * last that came; or `only` some, 1,000 at most. Resolves when the server has noted it; until
   * then it is told again, by the tab's next page too. Rejects with a TocsinError.
   */
  markRead(tag: string, which?: number | { only: number[] }): Promise<void>;
  /** To one ID and nobody else. Rejects with a TocsinError. */
  send(tag: string, id: string, message: any, options?: Sending): Promise<Receipt>;
  /** To everyone who listens on the tag. Rejects with a TocsinError. */
  broadcast(tag: string, message: any, options?: Sending): Promise<Receipt>;
  /** Closes the connection and stays away until `start()`. */
  stop(): void;
  /** Comes back after `stop()` or a close code that means to stay away. */
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
