// Types within client.js. They stand here because every byte of client.js goes to every page.
import type * as declared from '../../clients/js/client.d.ts';

export type Message = declared.Message;
export type Receipt = declared.Receipt;
export type State = declared.State;
/** What client.js gives to pages is typed as it is declared to them. */
export type Tocsin = declared.Tocsin;
export type TocsinError = declared.TocsinError;

/** What was marked as read here: up to `seq`, or `only` these. */
export interface Mark {
  seq?: number;
  only?: number[];
  /** The server has confirmed it. */
  done?: boolean;
  /** Of the page that marked it; a mark that the page before left has none. */
  settle?: Settle;
}

/** What of a registration outlives its page, in the tab. */
export interface Stored {
  /** Up to where messages were handed to the page. */
  since?: declared.Cursor | null;
  /** Whether everything up to there was: only then is it a cursor for the server. */
  live: boolean;
  /** What the server has not confirmed. */
  marks: Mark[];
}

export interface Registration extends Stored {
  tag: string;
  id?: string;
  key?: string;
  keys?: Record<string, string>;
  last?: number;
  onmessage?: (message: Message) => void;
  /** Where the tab keeps `Stored`; '' for nowhere. */
  slot: string;
  /** Of its latest `set`. */
  ref?: number;
  /** On this connection. Before, what arrives under the tag is for the ID before. */
  active?: boolean;
  /** Between the reply to `set` and `live`. */
  replaying: boolean;
  unread: Map<number, Message>;
  /** Whether `unread` lacks nothing that the inbox keeps. */
  whole: boolean;
}

/** A call without an answer. */
export interface Call {
  frame: string;
  settle: Settle;
}

/** Takes a reply of the server, or a refusal made here in its words. */
export type Settle = (reply: any) => void;
/** Makes one of a promise's two ends: it resolves with `result` unless the reply is a refusal. */
export type Refusing = (
  resolve: (result: any) => void,
  reject: (error: Error) => void,
  about: { tag?: string; mid?: string },
) => (reply: any, result?: any) => void;
/** Lets a handler have the events of one socket only. */
export type Guard = (handle: (event: any) => void) => (event: any) => void;

export type Registrations = Map<string, Registration>;
export type Answers = Map<number, Settle>;
export type Calls = Map<number, Call>;

/** The private methods that take more than plain values. */
export interface Inner {
  set(registration: Registration): void;
  tell(registration: Registration, mark: Mark): void;
  confirmed(reply: any, registration: Registration): void;
  refused(reply: any, registration?: Registration): void;
  remove(registration: Registration, mark: Mark): number[];
  call(call: { action: string; tag: string; id?: string; message: any }, options?: declared.Sending): Promise<declared.Receipt>;
}
