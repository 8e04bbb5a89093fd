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
holds<Same<js.State, declared.State>>();
holds<Same<js.Message, declared.Message>>();
holds<Same<js.Registering, declared.Registering>>();
holds<Same<js.Sending, declared.Sending>>();
holds<Same<js.Receipt, declared.Receipt>>();
holds<Same<Parameters<js.Tocsin['send']>, Parameters<declared.Tocsin['send']>>>();
holds<Same<Parameters<js.Tocsin['broadcast']>, Parameters<declared.Tocsin['broadcast']>>>();

// As a page uses it.
export async function page(): Promise<number> {
  const client = new declared.Tocsin('wss://shop.example/ws', { WebSocket });
  client.register<{ text: string }>('notifications', { id: 'x', onmessage: ({ message }) => message.text.trim() });
  client.addEventListener('state', ({ detail }) => detail.retryInMs?.toFixed());
  client.addEventListener('error', ({ detail }) => detail.code.trim());
  // @ts-expect-error there is no such event
  client.addEventListener('massage', () => {});
  // @ts-expect-error a tag is needed
  client.register();
  // @ts-expect-error no such option
  await client.send('t', 'id', 1, { tll: 3 });
  const { seq } = await client.broadcast('t', { any: ['thing'] }, { key: 'k', ttl: 60 });
  return seq;
}
