// Other people's clients, and our own as a package: each registers or sends, and receives what it should.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import WebSocket from 'ws';

import * as e2e from './harness.js';

const TAG = 'notifications';
/** What any step on the way might change, were it to read more of it than it must. */
const MESSAGE = '{"text":"<b>\\u2028 \u2028 \\"q\\" 🔔 \\/","n":9223372036854775807,"price":1.50,"e":1E2,"t":1.50}';
let server, gate, root;

before(async () => {
  server = await e2e.startServer([], { log: 'server-clients' });
  gate = await e2e.startGate(server, [], { log: 'gate-clients' });
  root = path.join(await e2e.certs(), 'root.crt');
});
after(e2e.endAll);

const wss = () => gate.url.replace('https', 'wss') + 'ws';
const send = (id, ref) => `{"action":"send","tag":"${TAG}","id":"${id}","key":"${server.key}","message":${MESSAGE},"ref":"${ref}"}`;

/** npm `ws`: opens, sends the frames, and resolves with the first `count` that come. */
function withWs(frames, count, registered = () => {}) {
  const socket = new WebSocket(wss(), { ca: readFileSync(root) });
  const heard = [];
  return e2e.within(new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', (code) => reject(new Error(`closed with ${code} after ${heard}`)));
    socket.on('open', () => frames.forEach((frame) => socket.send(frame)));
    socket.on('message', (data, binary) => {
      assert.equal(binary, false);
      heard.push(String(data));
      if (heard.length === 2) registered();
      if (heard.length === count) resolve(heard);
    });
  }), () => `${count} frames; ${heard}`).finally(() => socket.terminate());
}

/** Python's `websockets`. */
async function withWebsockets(frames, count, registered = () => {}) {
  const script = path.join(e2e.top, 'scripts/e2e/websockets-client.py');
  const client = new e2e.Program('websockets', 'sh', ['-c', 'printf "%s\\n" "$2" | "$0" "$1" "$3" "$4" "$5"',
    e2e.python, script, frames.join('\n'), wss(), root, String(count)]);
  if (count > 1) {
    await client.says(/"event":"live"/);
    registered();
  }
  assert.equal(await e2e.within(client.ended, () => `${count} frames; ${client.out}`), 0, client.out);
  return client.out.trimEnd().split('\n');
}

async function withCurl([frame]) {
  const { code, stdout, stderr } = await e2e.run('curl', ['--silent', '--show-error', '--fail', '--cacert', root,
    '--data-binary', '@-', `${gate.url}messages`], { input: frame });
  assert.equal(code, 0, stderr);
  return [stdout.trimEnd()];
}

const senders = { ws: withWs, websockets: withWebsockets, curl: withCurl };

for (const [name, listen] of [['ws', withWs], ['websockets', withWebsockets]]) {
  test(`${name} registers through the gate and receives, byte for byte, what each sender sends`, async () => {
    const id = await e2e.tool('server', ['new-id']);
    const registered = deferred();
    const count = 2 + Object.keys(senders).length;
    const listening = listen([`{"action":"set","tag":"${TAG}","id":"${id}","ref":1}`], count, registered.resolve);
    await Promise.race([registered.promise, listening]);
    for (const [sender, sends] of Object.entries(senders)) {
      const [reply] = await sends([send(id, sender)], 1);
      const { ok, ref, clients } = JSON.parse(reply);
      assert.deepEqual({ ok, ref, clients }, { ok: 'send', ref: sender, clients: 1 });
    }
    const [set, live, ...messages] = await listening;
    assert.equal(JSON.parse(set).ok, 'set');
    assert.equal(JSON.parse(live).event, 'live');
    assert.equal(messages.length, Object.keys(senders).length);
    for (const frame of messages) {
      const begun = `{"tag":"${TAG}","seq":${JSON.parse(frame).seq},"at":${JSON.parse(frame).at},"message":`;
      assert.equal(frame, `${begun}${MESSAGE},"direct":true}`);
    }
  });
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve) => { made.resolve = resolve; });
  return made;
}

/** An application that has installed the package. */
async function installed() {
  const app = e2e.temporary();
  const packed = await e2e.run('npm', ['pack', '--silent', '--pack-destination', app], { cwd: path.join(e2e.top, 'clients/js') });
  assert.equal(packed.code, 0, packed.stderr);
  const directory = path.join(app, 'node_modules/@tocsin/client');
  mkdirSync(directory, { recursive: true });
  const archive = path.join(app, packed.stdout.trim().split('\n').at(-1));
  assert.equal((await e2e.run('tar', ['-xzf', archive, '--strip-components=1', '-C', directory])).code, 0);
  symlinkSync(path.join(e2e.top, 'scripts/e2e/node_modules/ws'), path.join(app, 'node_modules/ws'));
  return { app, directory };
}

test('the package holds the very file that the server gives to pages, small and with its types', async () => {
  const { directory } = await installed();
  const served = Buffer.from(await (await fetch(`${server.url}/client.js`)).arrayBuffer());
  assert.deepEqual(readFileSync(path.join(directory, 'client.js')), served);
  assert.ok(gzipSync(served).length <= 6.5 * 1024, `${gzipSync(served).length} bytes compressed`);
  const { exports } = JSON.parse(e2e.read(path.join(directory, 'package.json')));
  assert.match(e2e.read(path.join(directory, exports['.'].types)), /export class Tocsin /);
  const workspace = e2e.read(path.join(e2e.top, 'Cargo.toml')).match(/^version = "(.*)"$/m)[1];
  assert.equal(JSON.parse(e2e.read(path.join(directory, 'package.json'))).version, workspace);
});

test('under Node, as its README shows: listens through the gate, comes back after a restart', async () => {
  const { app } = await installed();
  const [, code] = e2e.read(path.join(e2e.top, 'clients/js/README.md')).match(/^```js\n(.*?)^```$/ms);
  assert.ok(code.includes('wss://shop.example:9091/ws'));
  writeFileSync(path.join(app, 'app.mjs'), code.replace('wss://shop.example:9091/ws', wss()));
  const program = new e2e.Program('npm-client', process.execPath, [path.join(app, 'app.mjs')], { env: { NODE_EXTRA_CA_CERTS: root } });
  await program.says(/^listening$/m);
  await program.says(/^delivered to 0$/m);
  const broadcast = (message) => e2e.post(server, { action: 'broadcast', tag: TAG, key: server.key, message });
  assert.equal((await broadcast('before')).reply.clients, 1);
  await program.says(/^before$/m);
  assert.equal(await server.stop('SIGKILL'), 'SIGKILL');
  server = await e2e.startServer([], { listen: server.address, log: 'server-clients' });
  await program.says(/^listening\n[^]*^listening$/m);
  assert.equal((await broadcast('after')).reply.clients, 1);
  await program.says(/^after$/m);
});
