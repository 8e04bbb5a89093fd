// Beside an existing site, as docs/deploy.md says: its examples are what runs here, with nothing
// changed but ports.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer as createSite } from 'node:https';
import { createServer } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const deploy = e2e.read(path.join(e2e.top, 'docs/deploy.md'));
let browser, server;

before(async () => {
  browser = await e2e.startBrowser();
  server = await e2e.startServer();
});
after(e2e.endAll);

/** The only example in that language below a heading. */
function example(heading, language) {
  const section = deploy.split(/^## /m).find((part) => part.startsWith(heading));
  const blocks = [...section.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))];
  assert.equal(blocks.length, 1, `${language} under ${heading}`);
  return blocks[0][1];
}

/** `text` with `from` replaced, which must be there. */
function put(text, from, to) {
  assert.ok(text.includes(from), `${from} in\n${text}`);
  return text.replaceAll(from, to);
}

const page = (script) => `<!doctype html><meta charset="utf-8"><title>An existing site</title>
<link rel="icon" href="data:,"><h1>An existing site</h1>\n${script}`;

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.on('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Opens the site, broadcasts, and waits for the page's console to tell of it. */
async function receivesAt(url, socket) {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const faults = [];
  const sockets = [];
  tab.on('pageerror', (error) => faults.push(String(error)));
  tab.on('websocket', (opened) => sockets.push(opened.url()));
  const told = new Promise((resolve) => {
    tab.on('console', async (line) => {
      if (line.type() === 'error') faults.push(line.text());
      else resolve(await line.args()[0].jsonValue());
    });
  });
  await tab.goto(url);
  await registered(1);
  const message = { text: 'for the pages of the site', count: 1.5 };
  const { reply } = await e2e.post(server, { action: 'broadcast', tag: 'notifications', key: server.key, message });
  assert.equal(reply.clients, 1);
  assert.deepEqual(await e2e.within(told, () => `the message arrives; ${faults}`), message);
  assert.deepEqual(sockets, [socket]);
  assert.deepEqual(faults, []);
  await context.close();
  await registered(0);
}

/** Asks until so many are registered. */
async function registered(count) {
  const end = Date.now() + e2e.PATIENCE_MS;
  for (;;) {
    const { tags } = await (await fetch(`${server.admin}/status`)).json();
    if ((tags.notifications?.registrations ?? 0) === count) return;
    assert.ok(Date.now() < end, `${count} registrations: ${JSON.stringify(tags)}`);
  }
}

/** Posts through the web server, verifying its certificate. */
async function postsThrough(url) {
  const { code, stdout, stderr } = await e2e.run('curl', ['--silent', '--show-error', '--fail',
    '--cacert', path.join(await e2e.certs(), 'root.crt'), '--data', '@-', url],
  { input: '{"action":"broadcast","tag":"elsewhere","message":1}' });
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).ok, 'broadcast');
}

/** Starts a web server whose configuration names a port of its own; another one if it was taken. */
async function startWebServer(name, command, configure) {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const program = new e2e.Program(name, command[0], [...command.slice(1), await configure(port)]);
    try {
      await e2e.within(reachable(port, program), () => `${name} answers\n${program.out}`);
      return port;
    } catch (error) {
      if (attempt === 3) throw error;
    }
  }
}

async function reachable(port, program) {
  const root = path.join(await e2e.certs(), 'root.crt');
  for (;;) {
    if (!program.running) throw new Error(`it ended: ${program.out}`);
    const { code } = await e2e.run('curl', ['--silent', '--output', '/dev/null', '--cacert', root, `https://localhost:${port}/`]);
    if (code === 0) return;
  }
}

async function siteDirectory(script) {
  const directory = e2e.temporary();
  writeFileSync(path.join(directory, 'index.html'), page(script), { mode: 0o644 });
  return directory;
}

test('a page of another HTTPS server imports the client from the gate', async () => {
  const gate = await e2e.startGate(server);
  const script = put(example('The gate', 'html'), 'https://shop.example:9091/', gate.url);
  const certs = await e2e.certs();
  const site = createSite({ cert: e2e.read(path.join(certs, 'leaf.crt')) + e2e.read(path.join(certs, 'intermediate.crt')),
    key: e2e.read(path.join(certs, 'main.key')) }, (_, answer) => {
    answer.setHeader('content-type', 'text/html');
    // The policy that the page of docs/deploy.md asks for.
    answer.setHeader('content-security-policy', `default-src 'none'; img-src data:; script-src 'unsafe-inline' ${gate.url}; `
      + `connect-src ${gate.url} ${gate.url.replace('https', 'wss')}`);
    answer.end(page(script));
  });
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  e2e.atEnd(() => { site.closeAllConnections(); site.close(); });
  await receivesAt(`https://localhost:${site.address().port}/`, `wss://localhost:${gate.port}/ws`);
});

test('a page of another name is refused until --origin names it', async () => {
  const gate = await e2e.startGate(server);
  const origin = 'https://www.shop.example';
  const asked = async (to) => (await fetch(`${to.url}/client.js`, { headers: { origin } })).status;
  assert.equal(await asked(server), 403);
  const open = await e2e.startServer(['--origin', origin], { log: 'server-origin' });
  assert.equal(await asked(open), 200);
  assert.equal(await gate.stop(), 0);
});

test('a page without TLS is refused through the gate until --origin names it, for DNS can rebind its name', async () => {
  const gate = await e2e.startGate(server);
  const asked = async (to, name) => (await e2e.run('curl', ['-s', '-k', '-o', '/dev/null', '-w', '%{http_code}',
    '-H', `Host: ${name}`, '-H', `Origin: http://${name}`, `${to.url}client.js`])).stdout;
  for (const name of ['shop.example', 'rebound.evil.example:9091']) assert.equal(await asked(gate, name), '403', name);
  for (const name of ['localhost', '127.0.0.1:9091', '[::1]']) assert.equal(await asked(gate, name), '200', name);
  const open = await e2e.startServer(['--origin', 'http://shop.example'], { log: 'server-http-origin' });
  assert.equal(await asked({ url: `${open.url}/` }, 'shop.example'), '200');
  assert.equal(await gate.stop(), 0);
});

test('behind nginx under /tocsin/', async () => {
  const certs = await e2e.certs();
  const directory = await siteDirectory(example('Pages under', 'html'));
  const location = put(example('nginx', 'nginx'), '127.0.0.1:9090', server.address);
  const port = await startWebServer('nginx', ['nginx', '-p', directory, '-c'], (free) => {
    for (const name of ['body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']) mkdirSync(path.join(directory, name), { recursive: true });
    const file = path.join(directory, 'nginx.conf');
    writeFileSync(file, `
      daemon off; master_process off; pid ${directory}/nginx.pid; error_log stderr;
      events { worker_connections 64; }
      http {
        access_log off; types { text/html html; }
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        server {
          listen 127.0.0.1:${free} ssl;
          ssl_certificate ${certs}/cert.pem; ssl_certificate_key ${certs}/main.key;
          root ${directory};
          ${location}
        }
      }`);
    return file;
  });
  await receivesAt(`https://localhost:${port}/`, `wss://localhost:${port}/tocsin/ws`);
  await postsThrough(`https://localhost:${port}/tocsin/messages`);
  // nginx passes on the name that the browser asked for, so a rebound name is refused here, too.
  const { stdout } = await e2e.run('curl', ['-s', '-k', '-o', '/dev/null', '-w', '%{http_code}',
    '-H', 'Host: evil.example', '-H', 'Origin: http://evil.example', `https://localhost:${port}/tocsin/client.js`]);
  assert.equal(stdout, '403');
});

test('behind Apache under /tocsin/', async () => {
  const certs = await e2e.certs();
  const directory = await siteDirectory(example('Pages under', 'html'));
  const location = put(example('Apache', 'apache'), '127.0.0.1:9090', server.address);
  const modules = '/usr/lib/apache2/modules';
  const port = await startWebServer('apache', ['apache2', '-DFOREGROUND', '-f'], (free) => {
    const file = path.join(directory, 'apache.conf');
    const loaded = ['mpm_event', 'authz_core', 'dir', 'mime', 'ssl', 'socache_shmcb', 'proxy', 'proxy_http']
      .map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`).join('\n');
    writeFileSync(file, `
      ${loaded}
      ServerRoot ${directory}
      ServerName localhost
      PidFile ${directory}/apache.pid
      DefaultRuntimeDir ${directory}
      ErrorLog ${directory}/error.log
      TypesConfig /etc/mime.types
      Listen 127.0.0.1:${free} https
      <VirtualHost 127.0.0.1:${free}>
        SSLEngine on
        SSLCertificateFile ${certs}/cert.pem
        SSLCertificateKeyFile ${certs}/main.key
        DocumentRoot ${directory}
        DirectoryIndex index.html
        <Directory ${directory}>
          Require all granted
        </Directory>
        ${location}
      </VirtualHost>`);
    return file;
  });
  await receivesAt(`https://localhost:${port}/`, `wss://localhost:${port}/tocsin/ws`);
  await postsThrough(`https://localhost:${port}/tocsin/messages`);
});
