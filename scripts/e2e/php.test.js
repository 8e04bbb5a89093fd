// The PHP class against the real server, and against servers that misbehave.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const ID = 'a-person-of-the-php-tests';
let server, gate, key;

before(async () => {
  key = await e2e.tool('server', ['new-key']);
  const keyFile = path.join(e2e.temporary(), 'key');
  await e2e.run('sh', ['-c', 'cat > "$1"', 'sh', keyFile], { input: `${key}\n` });
  const pairs = ['orders:send', 'staff:send', 'staff:set'];
  server = await e2e.startServer(pairs.flatMap((pair) => ['--protect', `${pair}:${keyFile}`]), { log: 'server-php' });
  gate = await e2e.startGate(server, [], { log: 'gate-php' });
});
after(e2e.endAll);

/** Where no key is needed: what became of it. */
async function open(call, args) {
  const { mid, seq, ...reply } = await e2e.php(server.url, call, args);
  assert.match(mid, /^[0-9a-f]{32}$/);
  assert.ok(seq > 0);
  return reply;
}

/** A server that is not Tocsin; `answer` gets each connection or request. */
async function impostor(made) {
  const listening = await new Promise((resolve) => made.listen(0, '127.0.0.1', () => resolve(made)));
  e2e.atEnd(() => listening.close());
  return `http://127.0.0.1:${listening.address().port}`;
}

test('a derived ID is the same as the command line’s', async () => {
  const secret = 'the secret of the site, ÄÖ';
  for (const [user, version] of [['77', 1], ['somebody@shop.example', 3], ['Łukasz', 1]]) {
    const byServer = await e2e.tool('server',
      ['new-id', '--for', user, '--secret-file', '-', '--id-version', String(version)], { input: `${secret}\n` });
    assert.equal(await e2e.php(null, 'id', [secret, user, version]), byServer);
    assert.match(byServer, /^[0-9a-f]{64}$/);
  }
});

test('a secret or a key read from a file means the same to PHP as to the server', async () => {
  const secret = 'the secret of the site, ÄÖ';
  const args = ['new-id', '--for', '77', '--secret-file', '-'];
  const plain = await e2e.php(null, 'id', [secret, '77']);
  for (const file of [`${secret}\n`, `${secret}\r\n`, ` \t${secret}\u00a0\u2003\u0085\n# of 2026\n`]) {
    assert.equal(await e2e.tool('server', args, { input: file }), plain, JSON.stringify(file));
    assert.equal(await e2e.php(null, 'id', [file, '77']), plain, JSON.stringify(file));
  }
  for (const file of [`\n${secret}\n`, `short\n${secret}\n`, `${'\n'.repeat(20)}`]) {
    assert.equal((await e2e.run(path.join(e2e.bin, 'server'), args, { input: file })).code, 65);
    assert.match((await e2e.php(null, 'id', [file, '77'])).invalid, /secret/);
  }
  // What is no text is no secret to the server.
  const binary = path.join(e2e.temporary(), 'binary');
  await e2e.run('sh', ['-c', 'printf "\\377%s" "$2" > "$1"', 'sh', binary, secret]);
  const { code } = await e2e.run(path.join(e2e.bin, 'server'), ['new-id', '--for', '77', '--secret-file', binary]);
  assert.notEqual(code, 0);
  const { stdout } = await e2e.run('php', ['-r', `require ${JSON.stringify(path.join(e2e.top, 'clients/php/src/Tocsin.php'))};
    try { echo Tocsin::id(file_get_contents($argv[1]), '77'); } catch (InvalidArgumentException $e) { echo $e->getMessage(); }`, binary]);
  assert.match(stdout, /not text/);

  assert.equal((await e2e.php(server.url, 'send', ['orders', ID, 'x'], { key: `${key}\r\n# of PHP\n` })).clients, 0);
  const message = { action: 'send', tag: 'orders', id: ID, message: 'x', key: `${key}\n` };
  const [{ clients }] = await e2e.php(server.url, 'batch', [[message]]);
  assert.equal(clients, 0);
});

test('the right key opens a protected tag, and only the right one', async () => {
  assert.equal((await e2e.php(server.url, 'send', ['orders', ID, 'x'], { key })).clients, 0);
  const denied = await e2e.php(server.url, 'send', ['orders', ID, 'x'], { key: 'x'.repeat(40) });
  assert.equal(denied.error, 'denied');
  assert.equal(denied.status, 403);
  assert.equal(denied.outcome, 'refused');
  const without = await e2e.php(server.url, 'send', ['orders', ID, 'x']);
  assert.equal(without.error, 'denied');
  assert.equal(without.status, 401);
  assert.equal((await e2e.php(server.url, 'broadcast', ['orders', 'x'])).clients, 0);
});

test('refusals carry their code, and no exception shows a key or an ID', async () => {
  for (const [args, expected] of [
    [['notifications', '1234567890123456', 'x'], 'weak_id'],
    [['notifications', 'short', 'x'], 'weak_id'],
    [['no spaces here', ID, 'x'], 'bad_tag'],
    [['notifications', ID, 'x'.repeat(70_000)], 'too_large'],
  ]) {
    const refused = await e2e.php(server.url, 'send', args, { key });
    assert.equal(refused.error, expected);
    assert.equal(refused.outcome, 'refused');
    assert.match(refused.mid, /^[0-9a-f]{32}$/);
    assert.ok(!refused.message.includes(key) && !refused.message.includes(args[1]), refused.message);
  }
});

test('values survive: floats, nesting, emoji, slashes', async () => {
  const file = path.join(e2e.temporary(), 'id');
  await e2e.run('sh', ['-c', 'cat > "$1"', 'sh', file], { input: ID });
  const listener = new e2e.Program('listen', path.join(e2e.bin, 'server'),
    ['listen', '--tag', 'elsewhere', '--id-file', file, '--to', server.url, '--count', '1']);
  await registered(1);
  const message = { price: 1.5, deep: [[{ a: null }]], text: 'a/b 🔔 </script>' };
  assert.deepEqual(await open('send', ['elsewhere', ID, message]), { clients: 1, stored: false });
  const [line] = await listener.says(/^\{.*\}$/m);
  assert.deepEqual(JSON.parse(line).message, message);
  assert.equal(await listener.ended, 0);
});

/** Until so many are registered on the tag; the status is asked again as fast as it answers. */
async function registered(count) {
  const tried = (async () => {
    for (;;) {
      const { tags } = await (await fetch(`${server.admin}/status`)).json();
      if (tags.elsewhere?.registrations === count) return;
    }
  })();
  await e2e.within(tried, () => `${count} registrations`);
}

test('through the gate by https, verifying the certificate', async () => {
  const url = gate.url;
  const cafile = path.join(await e2e.certs(), 'root.crt');
  const reply = await e2e.php(url, 'send', ['elsewhere', ID, 'x'.repeat(60_000)], { ssl: { cafile } });
  assert.equal(reply.clients, 0);
  const untrusted = await e2e.php(url, 'send', ['elsewhere', ID, 'x']);
  assert.equal(untrusted.error, 'unavailable');
  assert.equal(untrusted.outcome, 'refused');
  assert.match(untrusted.message, /certificate verify failed/);
  const trustsAnyway = { cafile: '/dev/null', verify_peer: false, verify_peer_name: false };
  assert.equal((await e2e.php(url, 'send', ['elsewhere', ID, 'x'], { ssl: trustsAnyway })).error, 'unavailable');
});

test('no server: refused, surely not delivered', async () => {
  const closed = net.createServer();
  const url = await impostor(closed);
  await new Promise((resolve) => closed.close(resolve));
  const { error, outcome, status } = await e2e.php(url, 'send', ['t', ID, 'x']);
  assert.deepEqual({ error, outcome, status }, { error: 'unavailable', outcome: 'refused', status: 0 });
});

test('a server that never answers: given up in time, outcome unknown', async () => {
  const url = await impostor(net.createServer((socket) => socket.on('error', () => {}).resume()));
  const started = Date.now();
  const { error, outcome } = await e2e.php(url, 'send', ['t', ID, 'x'], { timeout: 0.5 });
  assert.deepEqual({ error, outcome }, { error: 'unavailable', outcome: 'unknown' });
  assert.ok(Date.now() - started >= 500);
});

test('a server that takes nothing in: given up in time', async () => {
  const url = await impostor(net.createServer((socket) => socket.on('error', () => {}).pause()));
  const { error, outcome } = await e2e.php(url, 'send', ['t', ID, 'x'.repeat(20_000_000)], { timeout: 0.5 });
  assert.deepEqual({ error, outcome }, { error: 'unavailable', outcome: 'unknown' });
});

test('an answer in pieces is put together', async () => {
  const url = await impostor(createServer((request, response) => request.resume().on('end', () => {
    response.write('{"ok":"send",');
    response.write(`"seq":9,"clients":1,${' '.repeat(20_000)}`);
    response.end('"stored":true}');
  })));
  const { mid, ...reply } = await e2e.php(url, 'send', ['t', ID, 'x']);
  assert.deepEqual(reply, { seq: 9, clients: 1, stored: true });
});

test('a proxy’s error page is no answer', async () => {
  const url = await impostor(createServer((request, response) => request.resume().on('end', () => {
    response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway</h1>');
  })));
  const { error, outcome, status } = await e2e.php(url, 'send', ['t', ID, 'x']);
  assert.deepEqual({ error, outcome, status }, { error: 'unavailable', outcome: 'unknown', status: 502 });
});

/** Answers the first `times` connections with these bytes, whatever they ask, and the others as Tocsin does. */
async function full(times, refusal, late) {
  let came = 0;
  const url = await impostor(net.createServer((socket) => {
    socket.on('error', () => {}).resume();
    came += 1;
    if (came <= times) return socket.end(refusal);
    const answer = JSON.stringify(late);
    socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`));
  }));
  return { url, came: () => came };
}

test('a full server: asked again, and in the end surely not delivered, a batch neither', async () => {
  const body = '{"error":"unavailable","detail":"no place for one more connection","outcome":"refused"}';
  const refusal = 'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: application/json\r\n'
    + `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
  const text = 'x'.repeat(60_000);
  const three = Array.from({ length: 3 }, () => ({ action: 'send', tag: 't', id: ID, message: text }));
  const done = { ok: 'send', seq: 9, clients: 1, stored: false };
  for (const [call, args, late, ofAll] of [
    ['send', ['t', ID, text], done, (reply) => reply.seq],
    ['batch', [three], [done, done, done], (replies) => replies[2].seq],
  ]) {
    const soon = await full(2, refusal, late);
    assert.equal(ofAll(await e2e.php(soon.url, call, args)), 9, call);
    assert.equal(soon.came(), 3, call);
    const never = await full(Infinity, refusal);
    const { error, outcome, status, message } = await e2e.php(never.url, call, args);
    assert.deepEqual({ error, outcome, status }, { error: 'unavailable', outcome: 'refused', status: 503 }, call);
    assert.match(message, /no place for one more/);
    assert.equal(never.came(), 3, call);
  }
});

test('a server that has no room for anyone refuses in words that PHP reads, however much it was sent', async () => {
  const small = await e2e.startServer(['--spare-memory', '1000000GiB'], { log: 'server-php-full' });
  const message = (text) => ({ action: 'broadcast', tag: 't', message: text });
  const large = Array.from({ length: 100 }, () => message('x'.repeat(60_000)));
  for (const [call, args] of [['broadcast', ['t', 'x']], ['batch', [[message('x')]]], ['batch', [large]]]) {
    const { error, outcome, status, message: words } = await e2e.php(small.url, call, args, { retries: 1 });
    assert.deepEqual({ error, outcome, status }, { error: 'unavailable', outcome: 'refused', status: 503 }, call);
    assert.match(words, /this server is full/);
  }
});

test('a refusal in a proxy’s words says nothing of what the server has done', async () => {
  const url = (await full(Infinity, 'HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy')).url;
  for (const [call, args] of [
    ['send', ['t', ID, 'x']],
    ['batch', [[{ action: 'send', tag: 't', id: ID, message: 'x' }]]],
  ]) {
    const { error, outcome, status, message } = await e2e.php(url, call, args);
    assert.deepEqual({ error, outcome, status }, { error: 'unavailable', outcome: 'unknown', status: 503 });
    assert.match(message, /HTTP status 503, .* not from a Tocsin server\. It may be from a proxy .* may have been accepted/);
  }
});

test('a path before /messages, the key and the mid arrive as given', async () => {
  let seen;
  const url = await impostor(createServer((request, response) => {
    let body = '';
    request.on('data', (bytes) => { body += bytes; }).on('end', () => {
      seen = { url: request.url, method: request.method, headers: request.headers, body: JSON.parse(body) };
      response.end('{"ok":"broadcast","seq":1,"clients":0}');
    });
  }));
  await e2e.php(`${url}/tocsin/`, 'broadcast', ['t', { a: 1.0 }, { mid: 'order-77', ttl: 60 }], { key: 'k'.repeat(20) });
  assert.equal(seen.url, '/tocsin/messages');
  assert.equal(seen.method, 'POST');
  assert.equal(seen.headers.authorization, `Bearer ${'k'.repeat(20)}`);
  assert.equal(seen.headers.connection, 'close');
  assert.deepEqual(seen.body, { action: 'broadcast', tag: 't', message: { a: 1 }, mid: 'order-77', ttl: 60 });
});

/** Answers each request with the next of `answers`, the last one again and again; what was asked, and when. */
async function script(...answers) {
  const asked = [];
  const at = [];
  const url = await impostor(createServer((request, response) => {
    let body = '';
    request.on('data', (bytes) => { body += bytes; }).on('end', () => {
      const sent = JSON.parse(body);
      at.push(performance.now());
      const answer = answers[Math.min(asked.push(sent), answers.length) - 1];
      if (answer === 'hang up') return request.socket.destroy();
      const [status, reply] = answer;
      response.writeHead(status).end(JSON.stringify(typeof reply === 'function' ? reply(sent) : reply));
    });
  }));
  return { url, asked, at };
}

const BUSY = [503, { error: 'unavailable', detail: 'busy', outcome: 'refused' }];
const DONE = [200, { ok: 'send', seq: 9, clients: 1, stored: false }];

test('an unavailable server is asked again under the same mid, and no more often than told', async () => {
  const patient = await script(BUSY, 'hang up', DONE);
  assert.equal((await e2e.php(patient.url, 'send', ['t', ID, 'x'])).seq, 9);
  assert.equal(patient.asked.length, 3);
  assert.equal(new Set(patient.asked.map(({ mid }) => mid)).size, 1);
  // As docs/operations.md says: a timer of PHP may be a moment early by this clock.
  const [first, second, third] = patient.at;
  assert.ok(second - first >= 95 && third - second >= 195, patient.at.join());

  const busy = await script(BUSY);
  const refused = await e2e.php(busy.url, 'send', ['t', ID, 'x'], { retries: 1 });
  assert.deepEqual([refused.error, refused.outcome, refused.status], ['unavailable', 'refused', 503]);
  assert.equal(busy.asked.length, 2);

  const lost = await script('hang up', BUSY);
  const unknown = await e2e.php(lost.url, 'send', ['t', ID, 'x']);
  assert.equal(unknown.outcome, 'unknown', 'the first attempt may have been accepted');

  const denied = await script([403, { error: 'denied', detail: 'no' }]);
  assert.equal((await e2e.php(denied.url, 'send', ['t', ID, 'x'])).error, 'denied');
  assert.equal(denied.asked.length, 1);
});

test('the timeout bounds all attempts together', async () => {
  const { url, asked } = await script(BUSY);
  const started = Date.now();
  assert.equal((await e2e.php(url, 'send', ['t', ID, 'x'], { timeout: 0.5, retries: 1000 })).error, 'unavailable');
  assert.ok(Date.now() - started < 20_000);
  assert.ok(asked.length >= 1 && asked.length <= 4, `${asked.length} attempts`);
});

test('a batch: each message is accepted or refused by itself', async () => {
  const results = await e2e.php(server.url, 'batch', [{
    ann: { action: 'send', tag: 'orders', id: ID, message: { price: 1.5 }, ttl: 60 },
    weak: { action: 'send', tag: 'orders', id: 'short', message: 'x' },
    all: { action: 'broadcast', tag: 'elsewhere', message: null, mid: 'mine' },
    denied: { action: 'send', tag: 'orders', id: ID, message: 'x', key: 'x'.repeat(40) },
    again: { action: 'broadcast', tag: 'elsewhere', message: null, mid: 'mine' },
  }], { key });
  assert.deepEqual(Object.keys(results), ['ann', 'weak', 'all', 'denied', 'again']);
  const { ann, weak, all, denied, again } = results;
  assert.equal(ann.clients, 0);
  assert.match(ann.mid, /^[0-9a-f]{32}$/);
  assert.deepEqual([weak.error, weak.outcome], ['weak_id', 'refused']);
  assert.equal(denied.error, 'denied');
  assert.ok(weak.detail && denied.detail);
  assert.deepEqual([all.mid, again.duplicate, again.seq], ['mine', true, all.seq]);
  assert.deepEqual(await e2e.php(server.url, 'batch', [[]]), []);
});

test('of a batch only what was unavailable is sent again', async () => {
  const reply = (sent) => sent.map(({ message }) => (message === 'later' ? BUSY[1] : { ok: 'send', seq: 1, clients: 1, stored: false }));
  const { url, asked } = await script([200, reply], 'hang up', [200, (sent) => sent.map(() => DONE[1])]);
  const message = (text) => ({ action: 'send', tag: 't', id: ID, message: text });
  const results = await e2e.php(url, 'batch', [[message('now'), message('later'), message('now')]]);
  assert.deepEqual(results.map(({ seq }) => seq), [1, 9, 1]);
  assert.deepEqual(asked.map((sent) => sent.map((one) => one.message)), [['now', 'later', 'now'], ['later'], ['later']]);
  assert.equal(asked[2][0].mid, asked[0][1].mid);

  const gone = await script([200, reply], 'hang up');
  const [now, later] = await e2e.php(gone.url, 'batch', [[message('now'), message('later')]]);
  assert.equal(now.seq, 1);
  assert.deepEqual([later.error, later.outcome], ['unavailable', 'unknown']);
});

test('a batch of more than may be sent at once arrives all the same, each message once and in its place', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const batch = Object.fromEntries(Array.from({ length: 1000 }, (_, n) =>
    [`m${n}`, { action: 'broadcast', tag: 'elsewhere', message: n, mid: `${id}-${n}` }]));
  const results = await e2e.php(server.url, 'batch', [batch], { timeout: 20 });
  assert.deepEqual(Object.keys(results), Object.keys(batch));
  for (const [at, result] of Object.entries(results)) assert.equal(result.mid, batch[at].mid);
  assert.deepEqual(Object.values(results).filter(({ error }) => error), []);
  assert.equal(new Set(Object.values(results).map(({ seq }) => seq)).size, 1000);
  assert.ok(Object.values(results).every(({ duplicate }) => !duplicate));
});

test('what comes too often in a batch is sent again when the server says, within the timeout', async () => {
  const tooOften = { error: 'rate_limited', detail: 'too often', retry_in_ms: 400 };
  const first = (sent) => sent.map(({ message }) => (message === 'later' ? tooOften : DONE[1]));
  const message = (text) => ({ action: 'send', tag: 't', id: ID, message: text });
  const batch = [message('later'), message('now'), message('later')];
  // Also where no further attempt is wanted: the server is there, and has said when it may be.
  const told = await script([200, first], [200, (sent) => sent.map(() => ({ ...DONE[1], seq: 10 }))]);
  const results = await e2e.php(told.url, 'batch', [batch], { retries: 0 });
  assert.deepEqual(results.map(({ seq }) => seq), [10, 9, 10]);
  assert.deepEqual(told.asked.map((sent) => sent.length), [3, 2]);
  assert.deepEqual(told.asked[1].map(({ mid }) => mid), [told.asked[0][0].mid, told.asked[0][2].mid]);
  assert.ok(told.at[1] - told.at[0] >= 390, `after ${told.at[1] - told.at[0]} ms`);

  // What is unavailable meanwhile has its own number of attempts.
  const mixed = await script([200, (sent) => sent.map((one) => (one.message === 'a' ? BUSY[1] : tooOften))]);
  const [busy, often] = await e2e.php(mixed.url, 'batch', [[message('a'), message('b')]], { retries: 1, timeout: 2 });
  assert.deepEqual([busy.error, often.error, often.outcome], ['unavailable', 'rate_limited', 'refused']);
  assert.deepEqual(mixed.asked.slice(0, 3).map((sent) => sent.length), [2, 2, 1]);
  assert.ok(mixed.asked.length <= 6, `${mixed.asked.length} requests`);

  const never = await script([200, () => [{ ...tooOften, retry_in_ms: 60_000 }]]);
  const started = Date.now();
  const [given] = await e2e.php(never.url, 'batch', [[message('x')]]);
  assert.deepEqual([given.error, given.outcome], ['rate_limited', 'refused']);
  assert.equal(never.asked.length, 1);
  assert.ok(Date.now() - started < 20_000);

  const wrong = Array.from({ length: 30 }, () => ({ ...message('x'), tag: 'orders', key: 'x'.repeat(40) }));
  const guesses = await script([200, (sent) => sent.map((_, n) => (n ? tooOften : { error: 'denied', detail: 'no' }))]);
  for (const url of [guesses.url, server.url]) {
    const errors = (await e2e.php(url, 'batch', [wrong], { timeout: 3 })).map(({ error }) => error);
    assert.deepEqual(new Set(errors), new Set(['denied', 'rate_limited']), 'a wrong key is no better later');
  }
  assert.equal(guesses.asked.length, 1);

  // One that is much too early keeps no other from being sent again.
  const apart = await script([200, () => [BUSY[1], { ...tooOften, retry_in_ms: 60_000 }]], [200, () => [DONE[1]]]);
  const [soon, late] = await e2e.php(apart.url, 'batch', [[message('a'), message('b')]]);
  assert.deepEqual([soon.seq, late.error], [9, 'rate_limited']);
});

test('a batch that came to nothing is an exception with all mids', async () => {
  const { url } = await script('hang up');
  const message = (mid) => ({ action: 'broadcast', tag: 't', message: 'x', mid });
  const failed = await e2e.php(url, 'batch', [[message('m1'), message('m2')]], { retries: 0 });
  assert.deepEqual([failed.error, failed.outcome, failed.mids], ['unavailable', 'unknown', ['m1', 'm2']]);
  const large = await e2e.php(server.url, 'batch', [Array.from({ length: 150 }, () => ({ ...message(), message: 'x'.repeat(60_000) }))]);
  assert.deepEqual([large.error, large.status], ['too_large', 413]);
});

test('an inbox: kept where sending takes a key, read by seq or one by one, closed on logout', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const call = (name, ...args) => e2e.php(server.url, name, ['orders', id, ...args], { key });
  const before = await call('inbox');
  assert.deepEqual([before.count, before.messages], [0, []]);
  const message = { text: 'Ä 🔔 </li>', deep: [[{ price: 1.5 }]], n: null };
  const sent = [];
  for (const text of ['one', message, 'three', 'x'.repeat(60_000)]) sent.push(await call('send', text));
  assert.ok(sent.every(({ stored, clients }) => stored && clients === 0));
  const [one, two, three, four] = sent.map(({ seq }) => seq);
  const inbox = await call('inbox');
  assert.deepEqual(inbox.messages.map(({ seq }) => seq), [one, two, three, four]);
  const { at, ...second } = inbox.messages[1];
  assert.deepEqual(second, { tag: 'orders', seq: two, message, direct: true });
  assert.ok(Math.abs(at - Date.now()) < 600_000);
  assert.deepEqual([inbox.count, inbox.epoch], [4, before.epoch]);
  assert.ok(inbox.seq >= four, 'a cursor');

  const unread = async () => (await call('inbox')).messages.map(({ seq }) => seq);
  assert.equal(await call('markRead', [two, 1]), null);
  assert.deepEqual(await unread(), [one, three, four]);
  await call('markRead', []);
  assert.deepEqual(await unread(), [one, three, four]);
  await call('markRead', one);
  assert.deepEqual(await unread(), [three, four]);

  const dropped = await e2e.php(server.url, 'drop', ['notifications', ID], { key: server.key });
  assert.equal(dropped.clients, 0);
  assert.deepEqual(await unread(), [three, four], 'of another tag');
  const denied = await call('drop');
  assert.deepEqual([denied.error, denied.outcome, denied.mids], ['denied', 'refused', []], 'no key is configured for it');
  assert.equal((await e2e.php(server.url, 'drop', ['notifications', ID])).status, 401);
  assert.equal((await e2e.php(server.url, 'inbox', ['orders', 'short'])).error, 'weak_id');
});

test('where listening takes a key, so does an inbox', async () => {
  const { seq } = await e2e.php(server.url, 'send', ['staff', ID, 'x'], { key });
  assert.deepEqual((await e2e.php(server.url, 'inbox', ['staff', ID], { key })).messages.map((one) => one.seq), [seq]);
  for (const [call, args] of [['inbox', []], ['markRead', [seq]]]) {
    assert.equal((await e2e.php(server.url, call, ['staff', ID, ...args])).status, 401);
    assert.equal((await e2e.php(server.url, call, ['staff', ID, ...args], { key: 'x'.repeat(40) })).status, 403);
  }
});

test('an inbox holds more than one read of the socket', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const text = '\u{1F514}'.repeat(10_000);
  const results = await e2e.php(server.url, 'batch',
    [Array.from({ length: 20 }, () => ({ action: 'send', tag: 'orders', id, message: text }))], { key });
  assert.ok(results.every(({ stored }) => stored));
  const { count, messages } = await e2e.php(server.url, 'inbox', ['orders', id], { key });
  assert.equal(count, 20);
  assert.ok(messages.every(({ message }) => message === text));
});

test('what asks nothing anew is asked again while the server is unavailable', async () => {
  const { url, asked } = await script('hang up', BUSY, [200, { ok: 'inbox', epoch: 'k1', seq: 9, count: 0, messages: [] }]);
  assert.deepEqual(await e2e.php(url, 'inbox', ['t', ID]), { epoch: 'k1', seq: 9, count: 0, messages: [] });
  assert.equal(asked.length, 3);
  assert.deepEqual(asked[0], { action: 'inbox', tag: 't', id: ID });
});

test('what is given wrongly is said at once', async () => {
  const says = async (url, options, expected) =>
    assert.match((await e2e.php(url, 'broadcast', ['t', 'x'], options)).invalid, expected);
  await says('127.0.0.1:9090', {}, /URL/);
  await says('ftp://127.0.0.1', {}, /URL/);
  await says(server.url, { key: 'with a space' }, /key/);
  await says(server.url, { key: 'with\0zero' }, /key/);
  await says(server.url, { key: '\n' }, /key is empty/);
  await says(server.url, { key: false }, /key is empty/);
  await says(server.url, { tiemout: 3 }, /tiemout/);
  await says(server.url, { timeout: 0 }, /timeout/);
  await says(server.url, { retries: -1 }, /retries/);
  for (const which of ['7', [1, '2'], null]) {
    assert.match((await e2e.php(server.url, 'markRead', ['t', ID, which])).invalid, /seq/);
  }
  const batch = async (message, expected) =>
    assert.match((await e2e.php(server.url, 'batch', [message])).invalid, expected);
  await batch([{ tag: 't', message: 'x' }], /action of message 0/);
  await batch({ ann: { action: 'send', tag: 't', di: ID, message: 'x' } }, /Message ann .*: di/);
  await batch(['x'], /not an array/);
  await batch(Array.from({ length: 1001 }, () => ({ action: 'broadcast', tag: 't', message: 1 })), /1000/);
});
