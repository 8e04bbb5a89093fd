// The PHP class at an address where something else is than it wants: what it says of that.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import net from 'node:net';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const ID = 'a-person-of-the-php-tests';
const CALLS = [
  ['send', ['t', ID, 'x']],
  ['batch', [[{ action: 'send', tag: 't', id: ID, message: 'x' }]]],
  ['inbox', ['t', ID]],
];
let server, gate;

before(async () => {
  server = await e2e.startServer(['--listen-proxy', '127.0.0.1:0'], { log: 'server-php-elsewhere' });
  gate = await e2e.startGate(server, [], { log: 'gate-php-elsewhere' });
});
after(e2e.endAll);

/** Every call, and what its exception has; the message must match `words` and show no ID. */
async function refuses(url, options, expected, words) {
  for (const [call, args] of CALLS) {
    const { error, outcome, status, message } = await e2e.php(url, call, args, { retries: 0, ...options });
    assert.deepEqual({ error, outcome, status }, { error: 'unavailable', ...expected }, call);
    const [said] = message.split('\n');
    assert.match(said, words, call);
    assert.ok(!said.includes(ID), said);
  }
}

const escaped = (text) => text.replace(/[.[\]/]/g, '\\$&');

async function impostor(made) {
  await new Promise((resolve) => made.listen(0, '127.0.0.1', resolve));
  e2e.atEnd(() => made.close());
  return `127.0.0.1:${made.address().port}`;
}

test('the port for proxies: closed, which is no timeout', async () => {
  const [, address] = await server.says(/^listening server-proxy (\S+)$/m);
  const words = new RegExp(`tcp://${escaped(address)} closed the connection without an answer.*--listen-proxy`);
  await refuses(`http://${address}`, {}, { outcome: 'unknown', status: 0 }, words);
});

test('a timeout is one, with its length and the address', async () => {
  const address = await impostor(net.createServer((socket) => socket.on('error', () => {}).resume()));
  const words = new RegExp(`no complete answer from tcp://${escaped(address)} within 0\\.3 s`);
  await refuses(`http://${address}`, { timeout: 0.3 }, { outcome: 'unknown', status: 0 }, words);
});

test('an answer that breaks off', async () => {
  const address = await impostor(net.createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-'));
  }));
  const words = new RegExp(`tcp://${escaped(address)} closed the connection before the end of its answer`);
  await refuses(`http://${address}`, {}, { outcome: 'unknown', status: 0 }, words);
});

test('the gate without TLS: its answer, or that of others, which is no HTTP', async () => {
  const http = new RegExp(`http://localhost:${gate.port}/messages answered with HTTP status 400,.*Check the URL.*https:`);
  await refuses(`http://localhost:${gate.port}`, {}, { outcome: 'refused', status: 400 }, http);
  const address = await impostor(net.createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.end('\x15\x03\x03\x00\x02\x02\x32'));
  }));
  const alert = new RegExp(`tcp://${escaped(address)} answered something that is not HTTP.*https:`);
  await refuses(`http://${address}`, {}, { outcome: 'unknown', status: 0 }, alert);
});

test('a wrong path, and a page: the URL and the status', async () => {
  const nowhere = new RegExp(`${escaped(server.url)}/nowhere/messages answered with HTTP status 404,.*Check the URL`);
  await refuses(`${server.url}/nowhere`, {}, { outcome: 'refused', status: 404 }, nowhere);
  const address = await impostor(createServer((request, response) => request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>A page</h1>');
  })));
  const page = new RegExp(`http://${escaped(address)}/messages answered with HTTP status 200,.*Check the URL`);
  await refuses(`http://${address}`, {}, { outcome: 'unknown', status: 200 }, page);
});
