// Compiled, never run: client.js is what client.d.ts says, and both are of use to a page's author.
import * as js from '../../server/web/client.js';
import * as declared from '@tocsin/client';

/** Exact in both directions. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <T extends true>() => {};

// What client.js has, the declaration has, and nothing else.
holds<Same<keyof js.Tocsin, keyof declared.Tocsin>>();
holds<Same<keyof js.TocsinError, keyof declared.TocsinError>>();
holds<Same<keyof typeof js, keyof typeof declared>>();
export const tocsin: typeof declared.Tocsin = js.Tocsin;
export const error: typeof declared.TocsinError = js.TocsinError;
holds<Same<js.Tocsin['state'], declared.Tocsin['state']>>();
holds<Same<Parameters<js.Tocsin['register']>, Parameters<declared.Tocsin['register']>>>();
holds<Same<js.Tocsin['unread'], declared.Tocsin['unread']>>();
holds<Same<js.Tocsin['markRead'], declared.Tocsin['markRead']>>();
holds<Same<js.Tocsin['send'], declared.Tocsin['send']>>();
holds<Same<js.Tocsin['broadcast'], declared.Tocsin['broadcast']>>();

// As a page uses it.
export async function page(): Promise<number> {
  const client = new declared.Tocsin('wss://shop.example/ws', { WebSocket });
  client.register<{ text: string }>('notifications', { id: 'x', onmessage: ({ message }) => message.text.trim() });
  client.addEventListener('state', ({ detail }) => detail.retryInMs?.toFixed());
  client.addEventListener('error', ({ detail }) => detail.code.trim());
  client.addEventListener('unread', ({ detail }) => detail.messages.length - detail.count);
  client.addEventListener('read', ({ detail }) => detail.seqs.includes(1) && detail.tag.trim());
  client.addEventListener('gap', ({ detail }) => detail.tag.trim());
  client.register('chat', { last: 20, since: null });
  client.register('orders', { id: 'x', since: { epoch: 'k3', seq: 41 } });
  await client.markRead('orders');
  await client.markRead('orders', client.unread('orders')[0]?.seq);
  await client.markRead('orders', { only: [1, 2] });
  // @ts-expect-error not a seq
  await client.markRead('orders', '7');
  // @ts-expect-error there is no such event
  client.addEventListener('massage', () => {});
  // @ts-expect-error a tag is needed
  client.register();
  // @ts-expect-error no such option
  await client.send('t', 'id', 1, { tll: 3 });
  const { seq, clients, partial } = await client.broadcast('t', { any: ['thing'] }, { key: 'k', ttl: 60 });
  return partial ? seq : clients;
}
