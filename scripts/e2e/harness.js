// What the end-to-end tests share: the built programs, a browser that trusts the example authority,
// PHP, and a record of everything that any of them printed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const top = fileURLToPath(new URL('../..', import.meta.url));
export const bin = process.env.BIN ?? path.join(top, 'target/release');
export const output = process.env.TEST_OUTPUT ?? path.join(top, 'test-output');
/** Where scripts/test has put Python's `websockets`. */
export const python = process.env.PYTHON ?? path.join(top, 'target/e2e-python/bin/python');
/** Nothing here takes that long, on a busy machine neither: it is what a hang takes to be reported. */
export const PATIENCE_MS = 30_000;

mkdirSync(output, { recursive: true });

/** What ends with the tests, the youngest first. */
const endings = [];
export const atEnd = (end) => endings.push(end);
export async function endAll() {
  const errors = [];
  while (endings.length) {
    try {
      await endings.pop()();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length) throw new AggregateError(errors, String(errors));
}

export function temporary() {
  const directory = mkdtempSync(path.join(tmpdir(), 'tocsin-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** All that was printed so far by programs and commands, for the search for secrets. */
export const printed = [];

/** Rejects with `what` unless `promise` settles in time. */
export async function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms / 1000} s: ${what()}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a command to its end. */
export async function run(command, args = [], { input = '', env = {}, cwd = top } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes) => { stdout += bytes; });
  child.stderr.on('data', (bytes) => { stderr += bytes; });
  child.stdin.on('error', () => {}); // it need not read what it does not want
  child.stdin.end(input);
  const code = await within(
    new Promise((resolve, reject) => child.on('error', reject).on('close', (status, signal) => resolve(status ?? signal))),
    () => `${command} ends\n${stdout}${stderr}`,
    120_000,
  ).finally(() => child.kill('SIGKILL'));
  printed.push(stdout, stderr);
  return { code, stdout, stderr };
}

/** Runs a program of Tocsin that must succeed, and gives its standard output. */
export async function tool(name, args, options) {
  const { code, stdout, stderr } = await run(path.join(bin, name), args, options);
  assert.equal(code, 0, `${name} ${args[0]}: ${stderr}`);
  return stdout.trim();
}

/** A program in the background. What it prints goes to test-output/ too. */
export class Program {
  out = '';
  #waiting = new Set();

  constructor(log, command, args, { env = {} } = {}) {
    const file = createWriteStream(path.join(output, `${log}.log`), { flags: 'a' });
    this.child = spawn(command, args, { cwd: top, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        file.write(text);
        printed.push(text);
        this.out += text;
        for (const look of this.#waiting) look();
      });
    }
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => resolve(error.message));
      this.child.on('close', (code, signal) => {
        file.end();
        resolve(code ?? signal);
      });
    });
    this.running = true;
    this.ended.then(() => {
      this.running = false;
      for (const look of this.#waiting) look();
    });
    // Gently, so that a script takes what it has started along.
    atEnd(() => this.stop().catch(() => this.stop('SIGKILL')));
  }

  /** The first match in what it prints; fails if it ends before. */
  async says(pattern) {
    let look;
    const found = new Promise((resolve, reject) => {
      look = () => {
        const match = this.out.match(pattern);
        if (match) resolve(match);
        else if (!this.running) reject(new Error(`ended without ${pattern}:\n${this.out}`));
      };
    });
    this.#waiting.add(look);
    look();
    try {
      return await within(found, () => `${pattern} in\n${this.out}`);
    } finally {
      this.#waiting.delete(look);
    }
  }

  /** Its exit status (or the signal's name). */
  async stop(signal = 'SIGTERM') {
    if (this.running) this.child.kill(signal);
    return within(this.ended, () => `it ends after ${signal}\n${this.out}`);
  }
}

/** An example authority and a certificate of it, made for this run alone. */
let certificates;
export async function certs() {
  certificates ??= (async () => {
    const directory = temporary();
    await tool('examples/example-chain', [directory]);
    return directory;
  })();
  return certificates;
}

const listening = async (program, name) => (await program.says(new RegExp(`^listening ${name} (\\S+)$`, 'm')))[1];

/** What most tests are about needs no key. The demo protects `notifications` all the same. */
const USUAL = ['--demo', '--open', '*:send', '--open', '*:broadcast'];

/** A server with the demo page on free ports of the loopback. */
export async function startServer(options = [], { listen = '127.0.0.1:0', log = 'server', usual = USUAL, env = {} } = {}) {
  const program = new Program(log, path.join(bin, 'server'), [...usual, '--listen', listen, '--admin', '127.0.0.1:0', ...options], { env });
  const address = await listening(program, 'server');
  const admin = await listening(program, 'admin');
  // For all that is sent on `notifications`.
  const [, key] = usual.includes('--demo') ? await program.says(/^demo-key (\S+)$/m) : [];
  return Object.assign(program, { address, key, url: `http://${address}`, admin: `http://${admin}` });
}

/** A gate before that server. */
export async function startGate(server, options = [], { log = 'gate' } = {}) {
  const program = new Program(log, path.join(bin, 'gate'),
    // Its clients come back one by one over the drain time: here there are few of them.
    ['--drain', '1s', ...options, '127.0.0.1:0', server.address, path.join(await certs(), 'cert.pem')]);
  const port = (await listening(program, 'gate')).split(':').at(-1);
  return Object.assign(program, { port, url: `https://localhost:${port}/` });
}

/** Chromium as a visitor has it, but with the example authority among those that it trusts. */
export async function startBrowser({ trusting = true, ...options } = {}) {
  const { chromium } = await import('playwright-core');
  const home = temporary();
  const store = path.join(home, '.pki/nssdb');
  mkdirSync(store, { recursive: true });
  const trust = ['-A', '-t', 'C,,', '-n', 'example', '-i', path.join(await certs(), 'root.crt')];
  for (const args of [['-N', '--empty-password'], ...(trusting ? [trust] : [])]) {
    const { code, stderr } = await run('certutil', ['-d', `sql:${store}`, ...args]);
    assert.equal(code, 0, stderr);
  }
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    env: { ...process.env, HOME: home },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    ...options,
  });
  atEnd(() => browser.close());
  return browser;
}

/** What is between a visitor and that port, until it is cut, stalls, or works again. */
export async function startNetwork(port) {
  const open = new Set();
  let isCut = false;
  const network = net.createServer((client) => {
    if (isCut) return client.destroy();
    const onward = net.connect(Number(port), '127.0.0.1');
    const pair = [client, onward];
    open.add(pair);
    for (const socket of pair) {
      socket.on('error', () => {}).on('close', () => {
        open.delete(pair);
        pair.forEach((one) => one.destroy());
      });
    }
    client.pipe(onward).pipe(client);
  });
  await new Promise((resolve) => network.listen(0, '127.0.0.1', resolve));
  const destroy = () => { for (const pair of open) pair.forEach((socket) => socket.destroy()); };
  atEnd(() => {
    destroy();
    network.close();
  });
  return {
    port: network.address().port,
    url: `https://localhost:${network.address().port}/`,
    /** Lets nothing more through on what is open, and nobody is told. */
    stall: () => { for (const [client, onward] of open) { client.unpipe().pause(); onward.unpipe().pause(); } },
    cut: () => {
      isCut = true;
      destroy();
    },
    mend: () => { isCut = false; },
  };
}

/** A visitor's page in a browser profile of its own. */
export async function visit(browser, url, { width = 1280, height = 800, listens = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, ...options });
  const page = await openTab(context, url);
  if (!listens) return page;
  await isListening(page);
  page.id = await page.locator('#own-id').textContent();
  return page;
}

/** A site of its own beside Tocsin, whose pages hold what `page` gives for their path. */
export async function startSite(page) {
  const directory = await certs();
  const [leaf, intermediate, key] = ['leaf.crt', 'intermediate.crt', 'main.key'].map((file) => read(path.join(directory, file)));
  const site = createServer({ cert: leaf + intermediate, key }, (request, answer) => {
    answer.setHeader('content-type', 'text/html; charset=utf-8');
    answer.end(`<!doctype html><title>A site</title><link rel="icon" href="data:,">${page(request.url)}`);
  });
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  atEnd(() => {
    site.closeAllConnections();
    site.close();
  });
  return `https://localhost:${site.address().port}`;
}

/** A tab; `faults` collects what the browser complains of, `sockets` the WebSockets that are opened. */
export async function openTab(context, url) {
  const tab = await context.newPage();
  tab.setDefaultTimeout(PATIENCE_MS);
  tab.faults = [];
  tab.sockets = [];
  tab.on('websocket', (socket) => tab.sockets.push(socket.url()));
  tab.on('pageerror', (error) => tab.faults.push(String(error)));
  tab.on('console', (message) => message.type() === 'error' && tab.faults.push(message.text()));
  await tab.goto(url);
  return tab;
}

export const isListening = (page) => page.locator('#state[data-state=open]').waitFor();

/** Waits until the page has received the text, and shows it in a pop-up. */
export async function arrives(page, text) {
  await page.locator('.pop-up p').getByText(text, { exact: true }).first().waitFor();
}

/** Waits until the page's bell shows so many unread messages. */
export async function bellShows(page, count) {
  const shown = page.locator('#count');
  if (count === 0) await shown.waitFor({ state: 'hidden' });
  else await shown.getByText(String(count), { exact: true }).waitFor();
}

/** All that the page has received, the oldest first. */
export async function received(page) {
  return (await page.locator('#received li span').allTextContents()).reverse();
}

/** One call of the PHP class: its result, or { error, outcome, status, message } of its exception. */
export async function php(url, call, args, options = {}, env = {}) {
  const { code, stdout, stderr } = await run('php', ['-d', 'display_errors=stderr', path.join(top, 'scripts/e2e/call.php')], {
    input: JSON.stringify({ url, options, call, args }), env,
  });
  assert.equal(code, 0, stderr);
  assert.equal(stderr, '');
  return JSON.parse(stdout);
}

export async function post(server, body, headers = {}) {
  const response = await fetch(`${server.url}/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await response.text();
  printed.push(text);
  return { status: response.status, headers: response.headers, reply: JSON.parse(text) };
}

/** To one ID on `notifications`: the reply. */
export async function send(server, id, message) {
  const { reply } = await post(server, { action: 'send', tag: 'notifications', id, key: server.key, message });
  assert.equal(reply.ok, 'send', JSON.stringify(reply));
  return reply;
}

for (const program of ['server', 'gate', 'examples/example-chain']) {
  if (!existsSync(path.join(bin, program))) throw new Error(`${path.join(bin, program)} is not built`);
}

export const read = (file) => readFileSync(file, 'utf8');
