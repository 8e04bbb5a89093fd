// Types for client.js. They are in a file of their own because every byte of client.js goes to every page.
import type * as declared from '../../clients/js/client.d.ts';

export type Message = declared.Message;
export type Receipt = declared.Receipt;
export type State = declared.State;
/** The public types are those that client.d.ts declares to pages. */
export type Tocsin = declared.Tocsin;
export type TocsinError = declared.TocsinError;

/** Messages that this page marked as read: all up to `seq`, or `only` these. */
export interface Mark {
  seq?: number;
  only?: number[];
  /** The server has confirmed it. */
  done?: boolean;
  /** Settles the promise of the page that marked it. A mark stored by an earlier page has none. */
  settle?: Settle;
}

/** The part of a registration that the tab stores for its next page. */
export interface Stored {
  /** The last message that was handed to the page. */
  since?: declared.Cursor | null;
  /** Whether all messages before it were too. Only then may the server use it as a cursor. */
  live: boolean;
  /** Marks that the server has not confirmed yet. */
  marks: Mark[];
}

export interface Registration extends Stored {
  tag: string;
  id?: string;
  key?: string;
  keys?: Record<string, string>;
  last?: number;
  onmessage?: (message: Message) => void;
  /** The key in sessionStorage for `Stored`; '' if nothing is stored. */
  slot: string;
  /** The `ref` of the latest `set`. */
  ref?: number;
  /** Whether this connection confirmed it. Until then, messages of the tag are for the previous ID. */
  active?: boolean;
  /** True from the reply to `set` until `live`. */
  replaying: boolean;
  unread: Map<number, Message>;
  /** Whether `unread` has everything that the inbox stores. */
  whole: boolean;
}

/** A call that waits for its answer. */
export interface Call {
  frame: string;
  settle: Settle;
}

/** Takes a reply of the server, or a refusal of this client in the same form. */
export type Settle = (reply: any) => void;
/** Makes one function of a promise's two: it rejects if the reply is a refusal, else resolves with `result`. */
export type Refusing = (
  resolve: (result: any) => void,
  reject: (error: Error) => void,
  about: { tag?: string; mid?: string },
) => (reply: any, result?: any) => void;
/** Wraps a handler so that it gets the events of the current socket only. */
export type Guard = (handle: (event: any) => void) => (event: any) => void;

export type Registrations = Map<string, Registration>;
export type Answers = Map<number, Settle>;
export type Calls = Map<number, Call>;

/** Signatures of private methods, for those with more than plain values. */
export interface Inner {
  set(registration: Registration): void;
  tell(registration: Registration, mark: Mark): void;
  confirmed(reply: any, registration: Registration): void;
  refused(reply: any, registration?: Registration): void;
  remove(registration: Registration, mark: Mark): number[];
  call(call: { action: string; tag: string; id?: string; message: any }, options?: declared.Sending): Promise<declared.Receipt>;
}
