// The whole way: a page behind the gate registers over WSS, an event raised elsewhere pops up in it.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const TAG = 'notifications';
let server, gate, browser, first, second, third;

before(async () => {
  server = await e2e.startServer();
  gate = await e2e.startGate(server);
  browser = await e2e.startBrowser();
});
after(e2e.endAll);

const php = (call, args) => e2e.php(server.url, call, args, { key: server.key });

/**
 * Nothing but `text` reaches `page`, and it reaches no other: each of the others then gets a later
 * message of its own, and has received that one next.
 */
async function reachesOnly(page, text, send) {
  const others = [first, second, third].filter((other) => other !== page);
  const before = await Promise.all(others.map(e2e.received));
  await send();
  await e2e.arrives(page, text);
  assert.equal((await e2e.received(page)).at(-1), text);
  for (const [index, other] of others.entries()) {
    const later = `later than ${text}`;
    assert.equal((await e2e.send(server, other.id, later)).clients, 1);
    await e2e.arrives(other, later);
    assert.deepEqual(await e2e.received(other), [...before[index], later]);
  }
}

test('pages register through the gate over WSS, each under its own ID', async () => {
  first = await e2e.visit(browser, gate.url);
  second = await e2e.visit(browser, gate.url, { width: 390, height: 844 });
  const chosen = await e2e.tool('server', ['new-id']);
  third = await e2e.visit(browser, `${gate.url}#id=${chosen}`, { colorScheme: 'dark' });
  assert.equal(third.id, chosen);
  assert.equal(third.url(), gate.url, 'an ID does not stay in the address bar');
  assert.notEqual(first.id, second.id);
  for (const page of [first, second, third]) {
    assert.match(page.id, /^[0-9a-f]{32,128}$/);
    assert.deepEqual(page.sockets, [`wss://localhost:${gate.port}/ws`]);
  }
  const status = await (await fetch(`${server.admin}/status`)).json();
  const { registrations, ids } = status.tags[TAG];
  assert.deepEqual({ registrations, ids }, { registrations: 3, ids: 3 });
});

test('PHP sends to one ID: it pops up there and nowhere else', async () => {
  await reachesOnly(first, 'Order 77 has shipped', async () => {
    const reply = await php('send', [TAG, first.id, { title: 'Shop', text: 'Order 77 has shipped' }]);
    assert.equal(reply.clients, 1);
    assert.equal(reply.stored, true);
    assert.match(reply.mid, /^[0-9a-f]{32}$/);
  });
  assert.equal(await first.locator('.pop-up h3').last().textContent(), 'Shop');
});

test('server send does the same', () => reachesOnly(second, 'Backup finished', async () => {
  const file = path.join(e2e.temporary(), 'id');
  await e2e.run('sh', ['-c', 'umask 077; cat > "$1"', 'sh', file], { input: `${second.id}\n` });
  await e2e.tool('server', ['send', '--tag', TAG, '--id-file', file, '--key-file', '-', '--to', server.url, 'Backup finished'],
    { input: server.key });
}));

test('the snippets of the demo page run as copied, and leave nothing behind in the sources', async () => {
  // Loaded from the server itself, the page knows its address.
  const page = await e2e.visit(browser, `${server.url}/#${new URLSearchParams({ key: server.key })}`);
  const snippet = async (name) => (await page.locator(`#code-${name}`).textContent())
    .replaceAll('target/release/', `${e2e.bin}/`);
  const sources = async () => (await e2e.run('git', ['status', '--porcelain', '--untracked-files=all'])).stdout;
  const before = await sources();
  for (const [name, command, args] of [['shell', 'sh', []], ['http', 'sh', []], ['php', 'php', []]]) {
    const { code, stdout, stderr } = await e2e.run(command, args, { input: await snippet(name) });
    assert.equal(code, 0, `${name}: ${stdout}${stderr}`);
    await e2e.arrives(page, name === 'php' ? 'It has shipped' : 'Order 77 has shipped');
  }
  assert.equal((await e2e.received(page)).length, 3);
  assert.equal(await sources(), before);
  await page.context().close();
});

test('so does a plain POST', () => reachesOnly(third, 'Invoice paid', async () => {
  const body = JSON.stringify({ action: 'send', tag: TAG, id: third.id, key: server.key, message: 'Invoice paid' });
  const { code, stdout } = await e2e.run('curl', ['--silent', '--fail', '--data', '@-', `${server.url}/messages`], { input: body });
  assert.equal(code, 0);
  const { seq, ...reply } = JSON.parse(stdout);
  assert.deepEqual(reply, { ok: 'send', clients: 1, stored: true });
  assert.ok(seq > 0);
}));

test('and a sender that leaves right after its frame', () => reachesOnly(first, 'Sent and gone', async () => {
  const script = path.join(e2e.top, 'scripts/e2e/send-and-leave.php');
  const frame = JSON.stringify({ action: 'send', tag: TAG, id: first.id, key: server.key, message: 'Sent and gone' });
  const { code, stderr } = await e2e.run('php', [script, server.address], { input: frame });
  assert.equal(code, 0, stderr);
}));

test('a broadcast reaches every page', async () => {
  for (const [text, broadcast] of [
    ['Maintenance at 18:00', () => php('broadcast', [TAG, 'Maintenance at 18:00'])],
    ['Maintenance is over', () => e2e.tool('server', ['broadcast', '--tag', TAG, '--to', server.url, '--key-file', '-', 'Maintenance is over'],
      { input: server.key })],
  ]) {
    await broadcast();
    for (const page of [first, second, third]) {
      await e2e.arrives(page, text);
      assert.equal(await page.locator('.pop-up h3').last().textContent(), 'For everyone');
    }
  }
});

test('an unknown ID reaches nobody, another tag neither', async () => {
  const before = await e2e.received(first);
  const id = await e2e.tool('server', ['new-id']);
  assert.equal((await php('send', [TAG, id, 'for nobody'])).clients, 0);
  assert.equal((await php('send', ['elsewhere', first.id, 'for nobody'])).clients, 0);
  assert.equal((await php('broadcast', ['elsewhere', 'for nobody'])).clients, 0);
  await php('send', [TAG, first.id, 'the next one']);
  await e2e.arrives(first, 'the next one');
  assert.deepEqual(await e2e.received(first), [...before, 'the next one']);
});

test('markup in a message is shown as text', async () => {
  const text = '<script>document.title = "taken"</script><img src=x onerror=alert(1)> "quoted" & \u2028 🔔';
  const title = '<b>bold</b>';
  await php('send', [TAG, first.id, { title, text }]);
  await first.locator('.pop-up').last().getByText(title, { exact: true }).waitFor();
  assert.equal(await first.locator('.pop-up p').last().textContent(), text);
  assert.equal(await first.locator('.pop-up :is(script, img, b), #received :is(script, img)').count(), 0);
  assert.equal(await first.title(), 'Tocsin demo');
});

test('the page itself can ring with the key, without it sees why not, and dismisses pop-ups by keyboard and click', async () => {
  const rings = async (text, key) => {
    await first.getByRole('textbox', { name: 'The key' }).fill(key);
    await first.getByLabel('Send this user a notification').fill(text);
    await first.getByRole('button', { name: 'Send', exact: true }).click();
  };
  await rings('without', '');
  await first.locator('#outcome').getByText('denied: ').waitFor();
  await rings('from the page', server.key);
  await first.getByText('Delivered to 1 page.').waitFor();
  await rings('once more', server.key);
  await e2e.arrives(first, 'once more');
  assert.deepEqual((await e2e.received(first)).slice(-2), ['from the page', 'once more']);
  const count = await first.locator('.pop-up').count();
  await first.keyboard.press('Escape');
  assert.equal(await first.locator('.pop-up').count(), count - 1);
  assert.equal(await first.locator('.pop-up').getByText('once more').count(), 0);
  await first.locator('.pop-up').last().getByRole('button').focus();
  await first.keyboard.press('Enter');
  assert.equal(await first.locator('.pop-up').count(), count - 2);
  const focused = await first.evaluate(() => document.activeElement?.closest('.pop-up') !== null);
  assert.equal(focused, true, 'the focus stays among the pop-ups');
});

test('the administrator on the page broadcasts with the key, and with another sees why not', async () => {
  const before = await e2e.received(third);
  const form = first.locator('#admin');
  const enters = async (key) => {
    await first.getByRole('textbox', { name: 'The key' }).fill(key);
    await form.getByLabel('To everyone').fill('From the administrator');
    await form.getByLabel('To everyone').press('Enter');
  };
  await enters('not-the-key-of-this-demo');
  await form.getByText('denied: ').waitFor();
  await enters(` ${server.key} `);
  await form.getByText('Delivered to 3 pages.').waitFor();
  for (const page of [first, second, third]) await e2e.arrives(page, 'From the administrator');
  assert.deepEqual(await e2e.received(third), [...before, 'From the administrator']);
});

test('the chat goes to everyone, by keyboard, as text, and rings for nobody', async () => {
  const before = await e2e.received(first);
  const form = second.locator('#chat');
  const text = '<img src=x onerror=alert(1)> "hello" & 👋';
  await form.getByLabel('Your name').fill('<b>Ann</b>');
  await second.keyboard.press('Tab');
  await second.keyboard.type(text);
  await second.keyboard.press('Enter');
  await form.getByText('Delivered to 3 pages.').waitFor();
  assert.equal(await form.getByLabel('Your message').inputValue(), '');
  for (const page of [first, second, third]) {
    const line = page.getByRole('log').locator('li');
    await line.getByText(text, { exact: true }).waitFor();
    assert.equal(await line.locator('b').textContent(), '<b>Ann</b>');
    assert.equal(await line.locator('img, b b').count(), 0);
  }
  // Anything at all may be broadcast there.
  for (const message of [null, 7, { name: {}, text: [] }, { name: 'x'.repeat(500), text: 'the last' }]) {
    await e2e.post(server, { action: 'broadcast', tag: 'chat', message });
  }
  await first.getByRole('log').getByText('the last').waitFor();
  assert.deepEqual(await first.getByRole('log').locator('li b').allTextContents(),
    ['<b>Ann</b>', 'Somebody', 'Somebody', 'Somebody', 'x'.repeat(40)]);
  assert.deepEqual(await e2e.received(first), before);
});

test('two tabs under one ID get one copy each', async () => {
  const { seq } = await e2e.send(server, first.id, 'the last one before');
  await e2e.arrives(first, 'the last one before');
  await php('markRead', [TAG, first.id, seq]);
  await e2e.bellShows(first, 0);
  const tab = await e2e.visit(browser, `${gate.url}#id=${first.id}`);
  assert.equal((await php('send', [TAG, first.id, 'to both tabs'])).clients, 2);
  await e2e.arrives(first, 'to both tabs');
  await e2e.arrives(tab, 'to both tabs');
  await e2e.send(server, first.id, 'the end');
  await e2e.arrives(tab, 'the end');
  assert.deepEqual(await e2e.received(tab), ['to both tabs', 'the end']);
  await tab.context().close();
});

test('the sender’s lines shown on the page name its own ID and the key', async () => {
  for (const tab of ['Shell, cron', 'PHP', 'HTTP']) {
    await first.getByRole('tab', { name: tab }).click();
    const shown = first.getByRole('tabpanel');
    assert.equal(await shown.count(), 1);
    for (const secret of [first.id, server.key]) assert.ok((await shown.textContent()).includes(secret));
  }
  await first.getByRole('tab', { name: 'HTTP' }).press('ArrowRight');
  assert.equal(await first.getByRole('tab', { name: 'Shell' }).getAttribute('aria-selected'), 'true');
});

test('the page fits a phone and a desk, by day and by night', async () => {
  for (const [page, name, width] of [[first, 'light', 1280], [second, 'light', 390], [third, 'dark', 1280], [third, 'dark', 390]]) {
    await page.setViewportSize({ width, height: width === 390 ? 844 : 800 });
    // What moves on arrival has come to rest.
    await page.evaluate(() => Promise.all(document.getAnimations()
      .filter((animation) => animation.effect.getTiming().iterations !== Infinity)
      .map((animation) => animation.finished)));
    await page.screenshot({ path: path.join(e2e.output, `demo-${width}-${name}.png`) });
    await page.screenshot({ path: path.join(e2e.output, `demo-${width}-${name}-whole.png`), fullPage: true });
    await page.locator('#bell').click();
    await page.screenshot({ path: path.join(e2e.output, `demo-${width}-${name}-bell.png`) });
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('#unread').isVisible(), false);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
  }
});

test('a browser that does not know the authority refuses the page', async () => {
  // So the pages above were opened because leaf and intermediate were delivered and verified.
  const stranger = await e2e.startBrowser({ trusting: false });
  await assert.rejects(e2e.visit(stranger, gate.url), /ERR_CERT_AUTHORITY_INVALID/);
});

test('the browser finds no fault with the pages', () => {
  assert.deepEqual([first, second, third].flatMap(({ faults }) => faults), []);
});

test('after a restart of the server the pages register again and receive', async () => {
  assert.equal(await server.stop(), 0);
  for (const page of [first, second]) {
    await page.locator('#state:is([data-state=waiting], [data-state=connecting])').waitFor();
  }
  server = await e2e.startServer([], { listen: server.address });
  for (const page of [first, second]) {
    // The backoff may have grown to its cap meanwhile.
    await page.locator('#state[data-state=open]').waitFor({ timeout: 60_000 });
  }
  await reachesBothAgain();
});

async function reachesBothAgain() {
  for (const page of [first, second]) {
    assert.equal((await php('send', [TAG, page.id, 'welcome back'])).clients, 1);
    await e2e.arrives(page, 'welcome back');
  }
}

test('after a restart of the gate too', async () => {
  assert.equal(await gate.stop(), 0);
  await first.locator('#state:is([data-state=waiting], [data-state=connecting])').waitFor();
  const again = new e2e.Program('gate', path.join(e2e.bin, 'gate'),
    [`127.0.0.1:${gate.port}`, server.address, path.join(await e2e.certs(), 'cert.pem')]);
  await again.says(/^listening gate /m);
  await first.locator('#state[data-state=open]').waitFor({ timeout: 60_000 });
  await php('send', [TAG, first.id, 'through the new gate']);
  await e2e.arrives(first, 'through the new gate');
});
