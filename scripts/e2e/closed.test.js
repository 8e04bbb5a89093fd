// A server that is given no key: whoever runs it sends from PHP and the shell without typing one, and a stranger who
// comes through the gate is refused on every tag.
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const ID = 'a-person-of-the-closed-tests';
let state, server, gate, file, key, others;

/** The environment of the user who runs the server. Nothing of the machine's own keys comes in. */
const environment = () => ({ XDG_STATE_HOME: state, TOCSIN_KEY: '', TOCSIN_KEY_FILE: '' });
const php = (call, args, { options = {}, env = {} } = {}) =>
  e2e.php(server.url, call, args, { retries: 0, ...options }, { ...environment(), ...env });
const shell = (args, env = {}) =>
  e2e.run(path.join(e2e.bin, 'server'), args, { env: { ...environment(), ...env } });
const broadcast = (env) => shell(['broadcast', '--tag', 'orders', '--to', server.url, 'hello'], env);

before(async () => {
  state = e2e.temporary();
  server = await e2e.startServer([], {
    log: 'server-closed', usual: ['--open', 'chat:broadcast'], env: { ...environment(), RUNTIME_DIRECTORY: '/proc/none' },
  });
  gate = await e2e.startGate(server, [], { log: 'gate-closed' });
  const port = server.address.split(':').at(-1);
  file = path.join(state, 'tocsin', `send-${port}.key`);
  key = readFileSync(file, 'utf8').trim();
  others = path.join(e2e.temporary(), 'other.key');
});
after(e2e.endAll);

test('the log says where the key is, and nothing prints the key', async () => {
  await server.says(new RegExp(`the key in ${file.replaceAll('.', '\\.')} permits send and broadcast`));
  assert.equal(statSync(file).mode & 0o777, 0o640);
  assert.ok(!e2e.printed.join('').includes(key));
});

test('a stranger who comes through the gate is denied on every tag that is not opened', async () => {
  for (const tag of ['orders', 'notifications', 'anything']) {
    for (const action of [{ action: 'send', id: ID }, { action: 'broadcast' }, { action: 'drop', id: ID }]) {
      const message = action.action === 'drop' ? {} : { message: 'from a stranger' };
      const { code, stdout } = await e2e.run('curl', ['-s', '-k', '-d', JSON.stringify({ ...action, tag, ...message }),
        '-H', 'Content-Type: application/json', `${gate.url}messages`]);
      assert.equal(code, 0);
      assert.equal(JSON.parse(stdout).error, 'denied', `${action.action} on ${tag}: ${stdout}`);
    }
  }
  const { stdout } = await e2e.run('curl', ['-s', '-k', '-d', '{"action":"broadcast","tag":"chat","message":1}',
    '-H', 'Content-Type: application/json', `${gate.url}messages`]);
  assert.equal(JSON.parse(stdout).ok, 'broadcast');
});

test('shell and PHP of the same user need no key to be typed', async () => {
  const { code, stderr } = await broadcast();
  assert.equal(code, 0, stderr);
  assert.equal((await php('broadcast', ['orders', 'hello'])).clients, 0);
  assert.equal((await php('send', ['orders', ID, 'hello'])).stored, true);
  const { messages } = await php('inbox', ['orders', ID]);
  assert.deepEqual(messages.map(({ message }) => message), ['hello']);
  const dropped = await php('drop', ['orders', ID]);
  assert.match(dropped.message, /drop needs a key, and none is configured/);
});

test('a key that is given wins over the one that is found, and the error names the one that was used', async () => {
  const wrong = 'a-wrong-key-of-enough-length';
  writeFileSync(others, `${wrong}\n`);
  for (const env of [{ TOCSIN_KEY: wrong }, { TOCSIN_KEY_FILE: others }]) {
    const used = env.TOCSIN_KEY ? 'the key in TOCSIN_KEY was used' : `the key in ${others} was used`;
    const refused = await php('broadcast', ['orders', 1], { env });
    assert.equal(refused.error, 'denied');
    assert.ok(refused.message.includes(used), refused.message);
    const { code, stderr } = await broadcast(env);
    assert.equal(code, 77);
    assert.ok(stderr.includes(used), stderr);
  }
  for (const options of [{ key: wrong }, { key_file: others }]) {
    assert.equal((await php('broadcast', ['orders', 1], { options })).error, 'denied');
  }
  assert.equal((await php('broadcast', ['orders', 1], { options: { key_file: file }, env: { TOCSIN_KEY: wrong } })).clients, 0);
});

test('a key file that cannot be read is an exception of the call', async () => {
  const missing = await php('broadcast', ['orders', 1], { options: { key_file: '/nowhere/send.key' } });
  assert.equal(missing.error, 'denied');
  assert.match(missing.message, /PHP cannot read the key file \/nowhere\/send\.key/);
  const both = await php('broadcast', ['orders', 1], { options: { key, key_file: file } });
  assert.match(both.invalid, /either the option key or the option key_file/);
  writeFileSync(others, '\n');
  assert.match((await php('broadcast', ['orders', 1], { options: { key_file: others } })).message, /is not a key/);
});

test('a file that others may change is not taken, and the error names every place', async () => {
  const places = [/TOCSIN_KEY/, /TOCSIN_KEY_FILE/, /\/etc\/tocsin\/send-\d+\.key/, /\/run\/tocsin\/send-\d+\.key/];
  const refused = async (reason) => {
    const { code, stderr } = await broadcast();
    const { error, message } = await php('broadcast', ['orders', 1]);
    assert.deepEqual([code, error], [77, 'denied']);
    for (const told of [stderr, message]) {
      for (const place of [...places, reason]) assert.match(told, place);
      assert.ok(!told.includes(key));
    }
  };
  chmodSync(file, 0o660);
  await refused(/may change it/);
  chmodSync(file, 0o640);
  renameSync(file, `${file}.away`);
  await refused(/does not exist/);
  renameSync(`${file}.away`, file);
  assert.equal((await broadcast()).code, 0);
});

test('a key that was found goes to a loopback address only', async () => {
  // The system connects to this machine for 0.0.0.0, which is no loopback address.
  const elsewhere = server.url.replace('127.0.0.1', '0.0.0.0');
  const refused = await e2e.php(elsewhere, 'broadcast', ['orders', 1], { retries: 0 }, environment());
  assert.equal(refused.error, 'denied');
  assert.match(refused.message, /0\.0\.0\.0 is not a loopback address/);
  const { code, stderr } = await shell(['broadcast', '--tag', 'orders', '--to', elsewhere, 'x']);
  assert.equal(code, 77);
  assert.match(stderr, /0\.0\.0\.0 is not a loopback address/);
});
