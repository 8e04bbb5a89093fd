// Keys and IDs stay where they belong: after a full run at the highest log level, with every way of
// giving them rightly and wrongly, none is found in anything that the programs have printed or told.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const TAG = 'notifications';
const random = (prefix) => `${prefix}-${randomBytes(20).toString('hex')}`;
/** By name, so that a failure does not print them either. */
const secrets = {
  'ID of the page': random('page'),
  'ID of the listener': random('listener'),
  'ID of nobody': random('nobody'),
  'ID in a bad frame': random('bad'),
  'weak ID': '90817263544536271809',
  'key of send': random('send'),
  'key of broadcast': random('broadcast'),
  'key of set': random('set'),
  'wrong key': random('wrong'),
  'key in a bad body': random('body'),
};
/** What was told to a client: replies, messages, the status. */
const told = [];
let server, gate, page;

before(async () => {
  const directory = e2e.temporary();
  const file = (name) => path.join(directory, name.replaceAll(' ', '-'));
  for (const [name, secret] of Object.entries(secrets)) writeFileSync(file(name), `${secret}\n`, { mode: 0o600 });
  secrets.file = file;
  Object.defineProperty(secrets, 'file', { enumerable: false });
  server = await e2e.startServer(['--log', 'trace',
    '--protect', `orders:send:${file('key of send')}`,
    '--protect', `orders:broadcast:${file('key of broadcast')}`,
    '--protect', `staff:set:${file('key of set')}`,
  ], { log: 'server-trace' });
  gate = await e2e.startGate(server, ['--log', 'trace'], { log: 'gate-trace' });
  page = await e2e.visit(await e2e.startBrowser(), `${gate.url}#id=${secrets['ID of the page']}`);
});
after(e2e.endAll);

/** Frames in their order on one WebSocket of the page; until as many answers have come. */
async function frames(sent, answers) {
  const received = await page.evaluate(([url, texts, count]) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    const heard = [];
    socket.onopen = () => texts.forEach((text) => socket.send(text));
    socket.onmessage = ({ data }) => {
      heard.push(data);
      if (heard.length === count) { socket.close(); resolve(heard); }
    };
    socket.onclose = ({ code }) => reject(new Error(`closed with ${code} after ${heard.length} answers: ${heard}`));
  }), [`wss://localhost:${gate.port}/ws`, sent.map((frame) => (typeof frame === 'string' ? frame : JSON.stringify(frame))), answers]);
  told.push(...received);
  return received.map((text) => JSON.parse(text));
}

async function post(body, headers) {
  const answer = await e2e.post(server, body, headers);
  told.push(JSON.stringify(answer.reply), JSON.stringify([...answer.headers]));
  return answer;
}

const cli = async (...args) => {
  const { code, stdout, stderr } = await e2e.run(path.join(e2e.bin, 'server'), [...args.slice(0, 1), '--to', server.url, ...args.slice(1)]);
  return { code, text: stdout + stderr };
};

test('a full run, with everything given rightly and wrongly', async () => {
  const key = secrets['key of send'];
  const wrong = secrets['wrong key'];
  const id = secrets['ID of nobody'];

  const replies = await frames([
    { action: 'send', tag: 'orders', id, key: wrong, message: 'x', ref: 4 },
    { action: 'set', tag: 'orders', id: secrets['ID of the listener'], keys: { send: key, broadcast: wrong }, ref: 1 },
    { action: 'send', tag: 'orders', id: secrets['ID of the listener'], message: 'x', mid: 'm1', ref: 2 },
    { action: 'send', tag: 'orders', id, key, message: 'x', ref: 3 },
    { action: 'broadcast', tag: 'orders', key, message: 'x', ref: 5 },
    { action: 'broadcast', tag: 'orders', key: secrets['key of broadcast'], message: 'x', ref: 6 },
    { action: 'set', tag: 'staff', id, key: wrong, ref: 7 },
    { action: 'set', tag: 'staff', id, key: secrets['key of set'], ref: 8 },
    { action: 'set', tag: TAG, id: secrets['weak ID'], ref: 9 },
    { action: secrets['ID in a bad frame'], ref: 10 },
    { action: 'send', tag: TAG, id: secrets['ID in a bad frame'], key: wrong, unknown: wrong, message: 1, ref: 11 },
    { action: 'send', tag: secrets['ID in a bad frame'].repeat(3), id, message: 1, ref: 12 },
    `{"action":"send","tag":"${TAG}","id":"${secrets['ID in a bad frame']}","key":"${wrong}",`,
    { action: 'send', tag: TAG, id: [secrets['ID in a bad frame']], key: { [wrong]: wrong }, message: 1, ref: 14 },
    { action: 'unset', tag: 'orders', ref: 15 },
    { action: 'ping', ref: 16 },
  ], 16 + 2 /* messages */ + 2 /* live */);
  const errors = Object.fromEntries(replies.filter(({ ref }) => ref).map(({ ref, error }) => [ref, error]));
  assert.equal(errors[4], 'denied');
  assert.equal(errors[5], 'denied');
  assert.equal(errors[7], 'denied');
  assert.equal(errors[9], 'weak_id');
  for (const ref of [10, 11, 12, 14]) assert.ok(errors[ref], `frame ${ref} is refused`);
  for (const ref of [1, 2, 3, 6, 8, 15, 16]) assert.equal(errors[ref], undefined, `frame ${ref} is taken`);

  const order = { action: 'send', tag: 'orders', id, message: 'x' };
  assert.equal((await post(order, { authorization: `Bearer ${key}` })).status, 200);
  assert.equal((await post(order, { authorization: `Bearer ${wrong}` })).status, 403);
  assert.equal((await post(order, { authorization: `Basic ${wrong}` })).status >= 400, true);
  assert.equal((await post({ ...order, key: wrong })).status, 403);
  assert.equal((await post([order, { ...order, key }])).status, 200);
  assert.equal((await post(`{"action":"send","key":"${secrets['key in a bad body']}","id":"${id}`)).status, 400);
  assert.equal((await post({ ...order, [secrets['key in a bad body']]: 1 })).status, 400);
  // Where no secret belongs, but where a mistake may put one.
  for (const at of [`/${id}`, `/ws?id=${id}&key=${wrong}`, `/messages?key=${wrong}`]) {
    told.push(await (await fetch(server.url + at)).text(), await (await fetch(server.admin + at)).text());
  }

  const file = secrets.file;
  assert.equal((await cli('send', '--tag', 'orders', '--id-file', file('ID of nobody'), '--key-file', file('key of send'), 'x')).code, 0);
  assert.equal((await cli('send', '--tag', 'orders', '--id-file', file('ID of nobody'), '--key-file', file('wrong key'), 'x')).code, 77);
  assert.equal((await cli('send', '--tag', TAG, '--id-file', file('weak ID'), 'x')).code, 65);
  const denied = await e2e.php(server.url, 'send', ['orders', id, 'x'], { key: wrong });
  assert.equal(denied.error, 'denied');
  assert.equal((await e2e.php(server.url, 'send', ['orders', id, 'x'], { key })).clients, 0);

  await e2e.php(server.url, 'send', [TAG, secrets['ID of the page'], 'for the page'], { key: server.key });
  await e2e.arrives(page, 'for the page');
  for (const at of ['status', 'healthz', 'metrics']) told.push(await (await fetch(`${server.admin}/${at}`)).text());
});

test('neither keys nor IDs are in what was printed or told', async () => {
  assert.equal(await gate.stop(), 0);
  assert.equal(await server.stop(), 0);
  // The search is sound only if there was something to search: both logs tell of single connections.
  assert.match(server.out, /DEBUG/);
  assert.match(gate.out, /DEBUG|access: peer=/);
  const everything = [server.out, gate.out, ...told, ...e2e.printed].join('\n');
  assert.ok(everything.includes('"error":"denied"'));
  const found = Object.keys(secrets).filter((name) => everything.includes(secrets[name]));
  assert.deepEqual(found, []);
});

test('nor is a message’s text in the logs', () => {
  assert.ok(!`${server.out}${gate.out}`.includes('for the page'));
});
