// @ts-check
import { Tocsin } from './client.js';
import { byId, element, quotePhp, quoteShell, timeOf, wireCopying, wirePanel, wireTabs, wording } from './demo-controls.js';

/** @import { Message, Receipt, State } from './client.types.d.ts' */

const TAG = 'notifications';
/** More pop-ups would cover the page. The bell and the list below show all notifications. */
const POP_UPS_MAX = 4;
const RECEIVED_MAX = 50;
const CHAT = 'chat';
const CHAT_MAX = 100;
const NAME_MAX = 40;

const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  open: 'Listening',
  waiting: 'Connection lost, reconnecting…',
  stopped: 'Closed by the server',
};

const { id, key } = ofThisTab();
const tocsin = new Tocsin();

showState('connecting');
byId('key').value = key;
showSenders();
wireTabs();
wireCopying();
wirePanel(byId('bell'), byId('unread'));

/** @param {string} type @param {(detail: any) => void} handle */
const on = (type, handle) => tocsin.addEventListener(type, (event) => handle(/** @type {CustomEvent} */ (event).detail));
// An open connection is not registered yet: the event `registered` says when it is.
on('state', ({ state, code }) => state !== 'open' && showState(state, state === 'stopped' ? ` (${code})` : ''));
on('registered', ({ tag }) => tag === TAG && showState('open'));
on('error', ({ code, detail, tag }) => outcome(tag === CHAT ? 'chat-outcome' : 'outcome', `${code}: ${detail}`, true));
on('unread', ({ messages }) => showUnread(messages));
on('read', ({ seqs }) => vanish(seqs));
on('gap', ({ tag }) => { if (tag === TAG) byId('lost').hidden = false; });
tocsin.register(TAG, { id, onmessage: show });
tocsin.register(CHAT, { since: null, last: 20, onmessage: showLine });

byId('key').addEventListener('input', () => {
  sessionStorage.setItem('tocsin-key', ownKey());
  showSenders();
});

// The page sends to itself, as PHP would.
wireForm('try', 'outcome', () => tocsin.send(TAG, id, byId('text').value, { key: ownKey() || undefined }));

wireForm('admin', 'admin-outcome', () => tocsin.broadcast(TAG, byId('admin-text').value, { key: ownKey() || undefined }));

byId('chat-name').value = sessionStorage.getItem('tocsin-name') ?? `Guest ${Math.ceil(Math.random() * 99)}`;
wireForm('chat', 'chat-outcome', async () => {
  const name = byId('chat-name').value;
  const text = byId('chat-text');
  sessionStorage.setItem('tocsin-name', name);
  const said = text.value;
  const receipt = await tocsin.broadcast(CHAT, { name, text: said });
  // Keep what was typed meanwhile.
  if (text.value === said) text.value = '';
  return receipt;
});

byId('all-read').addEventListener('click', () => read(tocsin.unread(TAG)));

/**
 * @param {string} form
 * @param {string} where  the element that shows the result
 * @param {() => Promise<Receipt>} send
 */
function wireForm(form, where, send) {
  const button = byId(form).querySelector('button');
  byId(form).addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    // Not `disabled`, which would take the keyboard focus away.
    button.setAttribute('aria-disabled', 'true');
    outcome(where, tocsin.state === 'open' ? '' : 'Waiting for the connection…');
    try {
      const { clients } = await send();
      outcome(where, clients === 1 ? 'Delivered to 1 page.' : `Delivered to ${clients} pages.`);
    } catch (error) {
      outcome(where, /** @type {Error} */ (error).message, true);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  });
}

/** @param {string} where @param {string} text @param {boolean} [bad] */
function outcome(where, text, bad = false) {
  byId(where).textContent = text;
  byId(where).classList.toggle('bad', bad);
}

/**
 * Each tab has an ID, and the key once it is known, as long as the tab is open. `#id=…&key=…` sets them.
 * The page removes them from the address bar at once, because they are secrets and addresses are copied.
 */
function ofThisTab() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  // A new fragment for a page that is open already.
  addEventListener('hashchange', () => location.reload());
  const kept = (/** @type {string} */ name, /** @type {() => string} */ otherwise) => {
    const value = chosen.get(name) ?? sessionStorage.getItem(`tocsin-${name}`) ?? otherwise();
    sessionStorage.setItem(`tocsin-${name}`, value);
    return value;
  };
  return { id: kept('id', randomId), key: kept('key', () => '') };
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function ownKey() {
  return byId('key').value.trim();
}

/** @param {State} state @param {string} [more] */
function showState(state, more = '') {
  byId('state').dataset.state = state;
  byId('state-text').textContent = STATES[state] + more;
}

function showSenders() {
  // Without the gate, the page was loaded from the server itself. Behind the gate, assume the default address.
  const server = location.protocol === 'http:' ? location.origin : 'http://127.0.0.1:9090';
  const shownKey = ownKey() || 'THE-KEY';
  byId('own-id').textContent = id;
  byId('second-device').href = `#${new URLSearchParams({ id, key: ownKey() })}`;
  byId('code-shell').textContent = [
    `TOCSIN_ID=${quoteShell(id)} TOCSIN_KEY=${quoteShell(shownKey)} \\`,
    `  target/release/server send --tag ${TAG}${server.endsWith('//127.0.0.1:9090') ? '' : ` --to ${server}`} \\`,
    "  'Order 77 has shipped'",
  ].join('\n');
  byId('code-php').textContent = [
    '<?php',
    "require 'clients/php/src/Tocsin.php';",
    `$tocsin = new Tocsin('${server}',`,
    `    ['key' => ${quotePhp(shownKey)}]);`,
    `$tocsin->send('${TAG}', ${quotePhp(id)},`,
    "    ['title' => 'Order 77', 'text' => 'It has shipped']);",
  ].join('\n');
  const body = JSON.stringify({ action: 'send', tag: TAG, id, message: 'Order 77 has shipped' });
  byId('code-http').textContent = [
    `curl ${server}/messages \\`,
    `  -H ${quoteShell(`Authorization: Bearer ${shownKey}`)} \\`,
    `  -d ${quoteShell(body)}`,
  ].join('\n');
}

/** @param {Message} received */
function show(received) {
  popUp(received);
  list(received);
  ring();
}

/** Shows a line of the chat. Anyone may have sent it, so it may contain anything. @param {Message} received */
function showLine(received) {
  const { name: given } = received.message ?? {};
  const name = typeof given === 'string' && given ? given.slice(0, NAME_MAX) : 'Somebody';
  const lines = byId('chat-lines');
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  lines.append(element('li', '', element('b', '', name), ' ', element('span', '', wording(received).text), ' ', timeOf(received.at)));
  while (lines.children.length > CHAT_MAX) lines.firstElementChild.remove();
  // Do not scroll for a user who reads further up.
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

// ---- the bell ----

/** @param {Message[]} messages */
function showUnread(messages) {
  byId('count').hidden = messages.length === 0;
  byId('count').textContent = messages.length > 99 ? '99+' : String(messages.length);
  byId('bell').setAttribute('aria-label', `Unread notifications: ${messages.length || 'none'}`);
  byId('none-unread').hidden = messages.length > 0;
  byId('all-read').hidden = messages.length === 0;
  const focused = byId('unread-list').contains(document.activeElement);
  // The newest first.
  byId('unread-list').replaceChildren(...messages.map(unreadItem).reverse());
  // After marking one by keyboard, the focus goes to the next.
  if (focused) (byId('unread-list').querySelector('button') ?? byId('bell')).focus();
}

/** @param {Message} message */
function unreadItem(message) {
  const { title, text } = wording(message);
  const button = element('button', 'quiet', 'Read');
  button.setAttribute('type', 'button');
  button.setAttribute('aria-label', `Mark as read: ${title}`);
  button.addEventListener('click', () => read([message]));
  return element('li', '', element('b', '', title), timeOf(message.at), element('span', '', text), button);
}

/** Marks messages as read, on every page and device of this user. @param {Message[]} messages */
function read(messages) {
  // After a restart of the server, another message may have the seq of an old pop-up.
  const seqs = tocsin.unread(TAG).filter((message) => messages.includes(message)).map(({ seq }) => seq);
  tocsin.markRead(TAG, { only: seqs }).catch((error) => outcome('outcome', error.message, true));
  vanish(seqs);
}

function ring() {
  const bell = byId('bell').firstElementChild;
  bell.classList.remove('ringing');
  // Reading the size makes the browser notice the removal, so that the animation starts again.
  bell.getBoundingClientRect();
  bell.classList.add('ringing');
}

// ---- pop-ups ----

/** @type {WeakMap<Element, Message>} */
const shownIn = new WeakMap();

/** @param {Message} received */
function popUp(received) {
  const { title, text } = wording(received);
  const close = element('button', 'close', '×');
  close.setAttribute('type', 'button');
  close.setAttribute('aria-label', `Dismiss: ${title}`);
  const popUp = element('article', 'pop-up', element('h3', '', title), element('p', '', text), close);
  shownIn.set(popUp, received);
  close.addEventListener('click', () => dismiss(popUp));
  const region = byId('pop-ups');
  region.append(popUp);
  while (region.children.length > POP_UPS_MAX) region.firstElementChild.remove();
}

/** Closing a pop-up marks its message as read. @param {Element} popUp */
function dismiss(popUp) {
  const focused = popUp.contains(document.activeElement);
  const next = popUp.nextElementSibling ?? popUp.previousElementSibling;
  popUp.remove();
  // After dismissing one by keyboard, the focus goes to the next and not to the top of the page.
  if (focused) /** @type {any} */ (next)?.querySelector('button').focus();
  read([/** @type {Message} */ (shownIn.get(popUp))]);
}

/** @param {number[]} seqs */
function vanish(seqs) {
  for (const popUp of [...byId('pop-ups').children]) {
    if (seqs.includes(shownIn.get(popUp)?.seq ?? 0)) popUp.remove();
  }
}

document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  const focused = document.activeElement?.closest('.pop-up');
  const popUp = focused ?? byId('pop-ups').lastElementChild;
  if (popUp) dismiss(popUp);
});

// ---- the list of received notifications ----

/** @param {Message} received */
function list(received) {
  const { title, text } = wording(received);
  byId('nothing').hidden = true;
  const items = byId('received');
  items.prepend(element('li', '', timeOf(received.at), element('b', '', title), element('span', '', text)));
  while (items.children.length > RECEIVED_MAX) items.lastElementChild.remove();
}
