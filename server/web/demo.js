// @ts-check
import { Tocsin } from './client.js';
import { byId, element, wireCopying, wireTabs } from './demo-controls.js';

const TAG = 'notifications';
/** More than these at a time would cover the page; the list below keeps the rest. */
const POP_UPS_MAX = 4;
const RECEIVED_MAX = 50;
const CHAT = 'chat';
const CHAT_MAX = 100;
const NAME_MAX = 40;

const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  open: 'Listening',
  waiting: 'Connection lost, coming back…',
  stopped: 'Ended by the server',
};

const id = ownId();
const tocsin = new Tocsin();

showState('connecting');
showSenders();
wireTabs();
wireCopying();

tocsin.addEventListener('state', (event) => {
  const { state, code } = /** @type {CustomEvent} */ (event).detail;
  // An open connection does not listen yet: `registered` says when it does.
  if (state !== 'open') showState(state, state === 'stopped' ? ` (${code})` : '');
});
tocsin.addEventListener('registered', (event) => {
  if (/** @type {CustomEvent} */ (event).detail.tag === TAG) showState('open');
});
tocsin.addEventListener('error', (event) => {
  const { code, detail, tag } = /** @type {CustomEvent} */ (event).detail;
  outcome(tag === CHAT ? 'chat-outcome' : 'outcome', `${code}: ${detail}`, true);
});
tocsin.register(TAG, { id, onmessage: show });
tocsin.register(CHAT, { onmessage: showLine });

// What this page sends to itself, as PHP would.
wireForm('try', 'outcome', () => tocsin.send(TAG, id, byId('text').value));

wireForm('admin', 'admin-outcome', () =>
  tocsin.broadcast(TAG, byId('admin-text').value, { key: byId('admin-key').value.trim() }));

byId('chat-name').value = sessionStorage.getItem('tocsin-name') ?? `Guest ${Math.ceil(Math.random() * 99)}`;
wireForm('chat', 'chat-outcome', async () => {
  const name = byId('chat-name').value;
  const text = byId('chat-text');
  sessionStorage.setItem('tocsin-name', name);
  const said = text.value;
  const receipt = await tocsin.broadcast(CHAT, { name, text: said });
  // What was typed meanwhile stays.
  if (text.value === said) text.value = '';
  return receipt;
});

/**
 * @param {string} form
 * @param {string} where  the element that tells what became of it
 * @param {() => Promise<import('./client.types.d.ts').Receipt>} send
 */
function wireForm(form, where, send) {
  const button = byId(form).querySelector('button');
  byId(form).addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    // Not `disabled`, which would take the focus away from who works by keyboard.
    button.setAttribute('aria-disabled', 'true');
    outcome(where, tocsin.state === 'open' ? '' : 'Waits for the connection…');
    try {
      const { clients } = await send();
      outcome(where, clients === 1 ? 'Handed to 1 page.' : `Handed to ${clients} pages.`);
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
 * One ID for each tab, kept while the tab lives. `#id=…` chooses it; it leaves the address bar at
 * once, since an ID is a secret and addresses are copied.
 */
function ownId() {
  const chosen = new URLSearchParams(location.hash.slice(1)).get('id');
  if (chosen) history.replaceState(null, '', location.pathname + location.search);
  const known = chosen ?? sessionStorage.getItem('tocsin-id') ?? randomId();
  sessionStorage.setItem('tocsin-id', known);
  return known;
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @param {import('./client.types.d.ts').State} state @param {string} [more] */
function showState(state, more = '') {
  byId('state').dataset.state = state;
  byId('state-text').textContent = STATES[state] + more;
}

function showSenders() {
  // Reached without the gate, the page knows where the server is; behind it, that is told by default.
  const server = location.protocol === 'http:' ? location.origin : 'http://127.0.0.1:9090';
  byId('own-id').textContent = id;
  byId('code-shell').textContent = [
    `printf %s ${quoteShell(id)} > visitor.id`,
    `target/release/server send --tag ${TAG}${server.endsWith('//127.0.0.1:9090') ? '' : ` --to ${server}`} \\`,
    "  --id-file visitor.id 'Order 77 has shipped'",
  ].join('\n');
  byId('code-php').textContent = [
    "require 'clients/php/src/Tocsin.php';",
    `$tocsin = new Tocsin('${server}');`,
    `$tocsin->send('${TAG}', ${quotePhp(id)},`,
    "    ['title' => 'Order 77', 'text' => 'It has shipped']);",
  ].join('\n');
  const body = JSON.stringify({ action: 'send', tag: TAG, id, message: 'Order 77 has shipped' });
  byId('code-http').textContent = `curl ${server}/messages \\\n  -d ${quoteShell(body)}`;
}

/** @param {string} text */
function quoteShell(text) {
  return /^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {string} text */
function quotePhp(text) {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/**
 * Title and text of any message: a plain string, `{ title, text }`, or other JSON as it is.
 * @param {any} message
 * @param {string} raw
 */
function wording(message, raw) {
  if (typeof message === 'string') return { text: message };
  if (typeof message?.text === 'string') {
    return { title: typeof message.title === 'string' ? message.title : undefined, text: message.text };
  }
  // As it came: JSON.parse has rounded its large numbers.
  const [, json = JSON.stringify(message)] = /"message":(.*?)(?:,"direct":true)?\}$/s.exec(raw) ?? [];
  return { text: json };
}

/** @param {import('./client.types.d.ts').Message} received */
function show({ message, at, direct, raw }) {
  const { title, text } = wording(message, raw);
  const heading = title ?? (direct ? 'For you' : 'For everyone');
  popUp(heading, text);
  list(heading, text, at);
  ring();
}

/** A line of the chat: from anyone, so it may hold anything. @param {import('./client.types.d.ts').Message} received */
function showLine({ message, at, raw }) {
  const name = typeof message?.name === 'string' && message.name ? message.name.slice(0, NAME_MAX) : 'Somebody';
  const lines = byId('chat-lines');
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  lines.append(element('li', '', element('b', '', name), ' ', element('span', '', wording(message, raw).text), ' ', timeOf(at)));
  while (lines.children.length > CHAT_MAX) lines.firstElementChild.remove();
  // Who reads further up is left there.
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

/** @param {string} heading @param {string} text */
function popUp(heading, text) {
  const close = element('button', 'close', '×');
  close.setAttribute('type', 'button');
  close.setAttribute('aria-label', `Dismiss: ${heading}`);
  const popUp = element('article', 'pop-up', element('h3', '', heading), element('p', '', text), close);
  close.addEventListener('click', () => dismiss(popUp));
  const region = byId('pop-ups');
  region.append(popUp);
  while (region.children.length > POP_UPS_MAX) region.firstElementChild.remove();
}

/** @param {Element} popUp */
function dismiss(popUp) {
  const focused = popUp.contains(document.activeElement);
  const next = popUp.nextElementSibling ?? popUp.previousElementSibling;
  popUp.remove();
  // Who dismisses one by keyboard goes on with the next instead of starting at the top of the page.
  if (focused) /** @type {any} */ (next)?.querySelector('button').focus();
}

document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  const focused = document.activeElement?.closest('.pop-up');
  const popUp = focused ?? byId('pop-ups').lastElementChild;
  if (popUp) dismiss(popUp);
});

/** @param {string} heading @param {string} text @param {number} at */
function list(heading, text, at) {
  byId('nothing').hidden = true;
  const received = byId('received');
  received.prepend(element('li', '', timeOf(at), element('b', '', heading), element('span', '', text)));
  while (received.children.length > RECEIVED_MAX) received.lastElementChild.remove();
}

/** @param {number} at */
function timeOf(at) {
  const when = new Date(at);
  const time = element('time', '', when.toLocaleTimeString());
  time.setAttribute('datetime', when.toISOString());
  return time;
}

function ring() {
  const bell = byId('bell');
  bell.classList.remove('ringing');
  // Reading the width makes the browser notice the removal, so that the animation starts anew.
  bell.getBoundingClientRect();
  bell.classList.add('ringing');
}
