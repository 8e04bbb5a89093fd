// Every message seen once, and what is read on one device gone from the others: pages that navigate,
// devices that are away, people who log out.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import * as e2e from './harness.js';

const TAG = 'notifications';
let server, gate, browser;

before(async () => {
  server = await e2e.startServer([], { log: 'server-delivery' });
  gate = await e2e.startGate(server, [], { log: 'gate-delivery' });
  browser = await e2e.startBrowser();
});
after(e2e.endAll);

const php = (call, args) => e2e.php(server.url, call, args, { key: server.key });
const broadcast = (message) => php('broadcast', [TAG, message]);

/** What every page of the site runs: it notes what it is handed where the tab's next page finds it. */
const script = (id) => `<script type="module">
  import { Tocsin } from '${gate.url}client.js';
  window.tocsin = new Tocsin();
  addEventListener('pageshow', ({ persisted }) => { window.cached = persisted; });
  const note = (seq) => sessionStorage.setItem('seen', JSON.stringify([...JSON.parse(sessionStorage.getItem('seen') ?? '[]'), seq]));
  tocsin.addEventListener('unread', ({ detail }) => { window.bell = detail.messages.map(({ seq }) => seq); });
  tocsin.addEventListener('gap', () => note('gap'));
  tocsin.register('${TAG}', { id: '${id}', onmessage: ({ seq }) => note(seq) });
</script>`;

const seen = (tab) => tab.evaluate(() => JSON.parse(sessionStorage.getItem('seen') ?? '[]'));
const bellIs = (tab, seqs) => tab.waitForFunction((expected) => window.bell?.join() === expected, seqs.join());
const hasSeen = (tab, seq) => tab.waitForFunction((last) => JSON.parse(sessionStorage.getItem('seen') ?? '[]').includes(last), seq);

test('a page that navigates 30 times while messages arrive: each seen once, the bell right on every page', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const site = await e2e.startSite((at) => `${script(id)}<h1>${at}</h1><a href="/page-${Number(at.split('-')[1]) + 1}">next</a>`);
  const context = await browser.newContext();
  const tab = await e2e.openTab(context, `${site}/page-0`);
  await bellIs(tab, []);

  const published = [];
  let unread = [];
  const send = async (toOne) => {
    const { seq, stored } = toOne ? await e2e.send(server, id, 'for one')
      : (await e2e.post(server, { action: 'broadcast', tag: TAG, key: server.key, message: 'for all' })).reply;
    published.push(seq);
    if (stored) unread.push(seq);
  };
  for (let page = 1; page <= 30; page += 1) {
    // What the page marks right before it goes is told by the next one.
    const [first] = unread;
    if (page % 3 === 0) {
      const which = page % 2 === 0 ? { only: [first] } : unread.at(-2);
      unread = unread.filter((seq) => (which.only ? seq !== first : seq > which));
      await tab.evaluate(([tag, some]) => { tocsin.markRead(tag, some); document.querySelector('a').click(); }, [TAG, which]);
    } else await tab.evaluate(() => document.querySelector('a').click());
    // Meanwhile: before the next page has come, while it registers, and when it listens.
    for (const toOne of [true, false, true]) await send(toOne);
    await tab.waitForURL(`${site}/page-${page}`);
    for (const toOne of [true, false]) await send(toOne);
    await bellIs(tab, unread);
    if (page % 5 === 0) await send(true);
  }
  await send(false);
  await hasSeen(tab, published.at(-1));
  assert.equal(published.length, 30 * 5 + 6 + 1);
  assert.deepEqual(await seen(tab), published);
  assert.deepEqual((await php('inbox', [TAG, id])).messages.map(({ seq }) => seq), unread);
  assert.deepEqual(tab.faults, []);
  await context.close();
});

test('back and forward, out of the browser’s cache: each seen once, the bell right', async () => {
  const cached = await e2e.startBrowser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
  const id = await e2e.tool('server', ['new-id']);
  const site = await e2e.startSite((at) => `${script(id)}<h1>${at}</h1>`);
  const context = await cached.newContext();
  const tab = await e2e.openTab(context, `${site}/first`);
  await bellIs(tab, []);
  const { seq: one } = await e2e.send(server, id, 'one');
  await hasSeen(tab, one);
  await tab.goto(`${site}/second`);
  await bellIs(tab, [one]);
  const { seq: two } = await e2e.send(server, id, 'two');
  await hasSeen(tab, two);
  await tab.evaluate((tag) => tocsin.markRead(tag, Math.min(...window.bell)), TAG);
  for (const go of ['goBack', 'goForward', 'goBack']) {
    // What comes out of the cache does not load.
    await tab[go]({ waitUntil: 'commit' });
    assert.equal(await tab.evaluate(() => window.cached), true);
    await bellIs(tab, [two]);
  }
  const { seq: three } = await e2e.send(server, id, 'three');
  await hasSeen(tab, three);
  await bellIs(tab, [two, three]);
  assert.deepEqual(await seen(tab), [one, two, three]);
  await context.close();
});

/** A device of that person, with a network of its own. */
async function device(id, options) {
  const network = await e2e.startNetwork(gate.port);
  const page = await e2e.visit(browser, `${network.url}#id=${id}`, options);
  return { page, network };
}

const popUp = (page, text) => page.locator('.pop-up').filter({ has: page.getByText(text, { exact: true }) });
const isAway = (page) => page.locator('#state:is([data-state=waiting], [data-state=connecting])').waitFor();
const isGone = (page, text) => popUp(page, text).waitFor({ state: 'detached' });

test('two devices of one ID: what is read on one vanishes from the other, also from one that was away', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const desk = await device(id);
  const phone = await device(id, { width: 390, height: 844 });
  for (const text of ['Order 77 shipped', 'Order 78 shipped', 'Order 79 shipped']) {
    assert.deepEqual((({ clients, stored }) => ({ clients, stored }))(await e2e.send(server, id, text)), { clients: 2, stored: true });
  }
  for (const { page } of [desk, phone]) {
    await e2e.arrives(page, 'Order 79 shipped');
    await e2e.bellShows(page, 3);
  }

  // Both there: one by one, on either.
  await popUp(desk.page, 'Order 77 shipped').getByRole('button').click();
  await isGone(phone.page, 'Order 77 shipped');
  await e2e.bellShows(phone.page, 2);

  // The phone is away while the desk reads, and one more comes.
  phone.network.cut();
  await isAway(phone.page);
  await desk.page.locator('#bell').click();
  await desk.page.locator('#unread-list li').filter({ hasText: 'Order 78 shipped' }).getByRole('button').click();
  await isGone(desk.page, 'Order 78 shipped');
  assert.equal((await e2e.send(server, id, 'Order 80 shipped')).clients, 1);
  await e2e.bellShows(desk.page, 2);
  assert.ok(await popUp(phone.page, 'Order 78 shipped').count());
  // And what the phone reads meanwhile is told when it is back.
  await popUp(phone.page, 'Order 79 shipped').getByRole('button').click();
  await e2e.bellShows(phone.page, 1);
  phone.network.mend();
  await e2e.arrives(phone.page, 'Order 80 shipped');
  await isGone(phone.page, 'Order 78 shipped');
  for (const { page } of [desk, phone]) {
    await e2e.bellShows(page, 1);
    assert.deepEqual(await page.locator('.pop-up p').allTextContents(), ['Order 80 shipped']);
  }
  assert.deepEqual(await e2e.received(phone.page), ['77', '78', '79', '80'].map((order) => `Order ${order} shipped`));

  // All of it, on the phone.
  await phone.page.locator('#bell').click();
  await phone.page.getByRole('button', { name: 'Mark all read' }).click();
  await e2e.bellShows(phone.page, 0);
  await e2e.bellShows(desk.page, 0);
  await isGone(desk.page, 'Order 80 shipped');
  assert.equal(await phone.page.locator('#none-unread').isVisible(), true);

  // Who logs in later finds nothing old.
  const later = await device(id);
  await e2e.send(server, id, 'Order 81 shipped');
  await e2e.arrives(later.page, 'Order 81 shipped');
  assert.deepEqual(await e2e.received(later.page), ['Order 81 shipped']);
  await e2e.bellShows(later.page, 1);
  // Nor does a reload pop up what was shown: it waits in the bell.
  await later.page.reload();
  await e2e.bellShows(later.page, 1);
  await broadcast('for all');
  await e2e.arrives(later.page, 'for all');
  assert.deepEqual(await e2e.received(later.page), ['for all']);
  for (const { page } of [desk, phone, later]) {
    // A network that is cut is nothing that the page could avoid.
    assert.deepEqual(page.faults.filter((fault) => !/WebSocket connection .* failed/.test(fault)), []);
    await page.context().close();
  }
});

test('who was not there finds it on the next visit; PHP reads it, and marks it on every page', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const { seq: one } = await php('send', [TAG, id, 'while away']);
  const { seq: two } = await php('send', [TAG, id, { title: 'Shop', text: 'and another' }]);
  const inbox = await php('inbox', [TAG, id]);
  assert.deepEqual(inbox.messages.map(({ seq, message }) => [seq, message.text ?? message]), [[one, 'while away'], [two, 'and another']]);
  const page = await e2e.visit(browser, `${gate.url}#id=${id}`);
  await e2e.arrives(page, 'and another');
  await e2e.bellShows(page, 2);
  assert.deepEqual(await e2e.received(page), ['while away', 'and another']);
  await php('markRead', [TAG, id, [one]]);
  await isGone(page, 'while away');
  await e2e.bellShows(page, 1);
  await php('markRead', [TAG, id, two]);
  await isGone(page, 'and another');
  await e2e.bellShows(page, 0);
  await page.context().close();
});

test('the bell of docs/javascript.md, in two browsers', async () => {
  const [, example] = e2e.read(path.join(e2e.top, 'docs/javascript.md')).match(/^```html\n(.*?)^```$/ms);
  assert.ok(example.includes('https://shop.example:9091/'));
  const id = await e2e.tool('server', ['new-id']);
  const site = await e2e.startSite(() => `<body data-tocsin-id="${id}">${example.replace('https://shop.example:9091/', gate.url)}`);
  const tabs = [];
  for (let n = 0; n < 2; n += 1) tabs.push(await e2e.openTab(await browser.newContext(), site));
  const shows = (tab, texts) => tab.waitForFunction(([list, count]) =>
    [...document.querySelectorAll('#list li')].map(({ textContent }) => textContent).join() === list
      && [...document.querySelectorAll('.pop-up')].map(({ textContent }) => textContent).join() === list
      && document.querySelector('#count').textContent === count, [texts.join(), String(texts.length || '')]);
  // Any JSON value is a message.
  for (const message of [{ text: 'one' }, '<b>two</b>', { text: 'three' }, 4, null, { text: 'five' }]) await e2e.send(server, id, message);
  for (const tab of tabs) await shows(tab, ['one', '<b>two</b>', 'three', '4', '', 'five']);
  await tabs[0].locator('.pop-up').getByText('one').click();
  for (const tab of tabs) await shows(tab, ['<b>two</b>', 'three', '4', '', 'five']);
  await tabs[1].locator('#bell').click();
  for (const tab of tabs) {
    await shows(tab, []);
    assert.deepEqual(tab.faults, []);
    await tab.context().close();
  }
});

test('a page as clients/php/README.md renders it pops up only what is newer', async () => {
  const readme = e2e.read(path.join(e2e.top, 'clients/php/README.md')).split('## Inbox and logout')[1];
  const [, rendering] = readme.match(/^```php\n(.*?)^```$/ms);
  const [, registering] = readme.match(/^```js\n(.*?)^```$/ms);
  const id = await e2e.tool('server', ['new-id']);
  const seqs = [];
  // Any JSON value is a message.
  for (const message of [{ text: '<b>old</b> & "rendered"' }, '<i>plain</i>', 7, null, [1, 'two'], { text: [] }]) {
    seqs.push((await e2e.send(server, id, message)).seq);
  }
  const prelude = 'require $argv[1]; $tocsin = new Tocsin($argv[2]); $id = $argv[3];';
  const { code, stdout, stderr } = await e2e.run('php', ['-d', 'display_errors=stderr', '-r', prelude + rendering, '--',
    path.join(e2e.top, 'clients/php/src/Tocsin.php'), server.url, id]);
  assert.deepEqual([code, stderr], [0, '']);
  const site = await e2e.startSite(() => `${stdout}<script type="module">
    import { Tocsin } from '${gate.url}client.js';
    const tocsin = new Tocsin();
    window.seen = [];
    tocsin.addEventListener('message', ({ detail }) => seen.push(detail.seq));
    tocsin.addEventListener('unread', ({ detail }) => { window.bell = detail.messages.map(({ seq }) => seq); });
    ${registering}</script>`);
  const context = await browser.newContext();
  const tab = await e2e.openTab(context, site);
  const shown = ['<b>old</b> & "rendered"', '<i>plain</i>', '7', 'null', '[1,"two"]', '[]'];
  assert.deepEqual(await tab.locator('li').allTextContents(), shown);
  await bellIs(tab, seqs);
  const { seq: newer } = await e2e.send(server, id, { text: 'newer' });
  await bellIs(tab, [...seqs, newer]);
  assert.deepEqual(await tab.evaluate(() => window.seen), [newer]);
  assert.deepEqual(tab.faults, []);
  await context.close();
});

test('logout ends every device of the ID and leaves nothing for the next login', async () => {
  const id = await e2e.tool('server', ['new-id']);
  const desk = await e2e.visit(browser, `${gate.url}#id=${id}`);
  const phone = await e2e.visit(browser, `${gate.url}#id=${id}`, { width: 390, height: 844 });
  const other = await e2e.visit(browser, gate.url);
  await e2e.send(server, id, 'of the session');
  for (const page of [desk, phone]) await e2e.arrives(page, 'of the session');
  const { clients } = await php('drop', [TAG, id]);
  assert.equal(clients, 2);
  for (const page of [desk, phone]) await page.getByText('Closed by the server (4004)').waitFor();
  assert.equal((await e2e.send(server, other.id, 'for another')).clients, 1);
  await e2e.arrives(other, 'for another');

  assert.equal((await php('inbox', [TAG, id])).count, 0);
  const next = await e2e.visit(browser, `${gate.url}#id=${id}`);
  assert.equal((await e2e.send(server, id, 'of the next session')).clients, 1, 'the others have not come back');
  await e2e.arrives(next, 'of the next session');
  assert.deepEqual(await e2e.received(next), ['of the next session']);
  await e2e.bellShows(next, 1);
  for (const page of [desk, phone, other, next]) {
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});
