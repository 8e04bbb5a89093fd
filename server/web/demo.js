// @ts-check
import { Tocsin } from './client.js';

const TAG = 'notifications';
/** More than these at a time would cover the page; the list below keeps the rest. */
const POP_UPS_MAX = 4;
const RECEIVED_MAX = 50;

const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  open: 'Listening',
  waiting: 'Connection lost, coming back…',
  stopped: 'Ended by the server',
};

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

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
tocsin.addEventListener('registered', () => showState('open'));
tocsin.addEventListener('error', (event) => {
  const { code, detail } = /** @type {CustomEvent} */ (event).detail;
  byId('outcome').textContent = `${code}: ${detail}`;
});
tocsin.register(TAG, { id, onmessage: show });

byId('try').addEventListener('submit', async (/** @type {Event} */ event) => {
  event.preventDefault();
  const outcome = byId('outcome');
  outcome.textContent = '';
  try {
    const { clients } = await tocsin.send(TAG, id, byId('text').value);
    outcome.textContent = clients === 1 ? 'Handed to 1 page.' : `Handed to ${clients} pages.`;
  } catch (error) {
    outcome.textContent = /** @type {Error} */ (error).message;
  }
});

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

/** @param {keyof STATES} state @param {string} [more] */
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
    `target/release/server send --tag ${TAG} \\`,
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
 */
function wording(message) {
  if (typeof message === 'string') return { text: message };
  if (typeof message?.text === 'string') {
    return { title: typeof message.title === 'string' ? message.title : undefined, text: message.text };
  }
  return { text: JSON.stringify(message) };
}

/** @param {import('./client.js').Message} received */
function show({ message, at, direct }) {
  const { title, text } = wording(message);
  const heading = title ?? (direct ? 'For you' : 'For everyone');
  popUp(heading, text);
  list(heading, text, at);
  ring();
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
  const when = new Date(at);
  const time = element('time', '', when.toLocaleTimeString());
  time.setAttribute('datetime', when.toISOString());
  const received = byId('received');
  received.prepend(element('li', '', time, element('b', '', heading), element('span', '', text)));
  while (received.children.length > RECEIVED_MAX) received.lastElementChild.remove();
}

function ring() {
  const bell = byId('bell');
  bell.classList.remove('ringing');
  // Reading the width makes the browser notice the removal, so that the animation starts anew.
  bell.getBoundingClientRect();
  bell.classList.add('ringing');
}

/** Children given as strings become text, never markup. @param {string} name @param {string} className @param {(string | Node)[]} children */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function wireTabs() {
  const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[role=tab]')]);
  const select = (/** @type {HTMLElement} */ chosen) => {
    for (const tab of tabs) {
      tab.setAttribute('aria-selected', String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute('aria-controls') ?? '').hidden = tab !== chosen;
    }
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener('click', () => select(tab));
    tab.addEventListener('keydown', ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  }
}

function wireCopying() {
  for (const button of document.querySelectorAll('[data-copy]')) {
    const wording = [...button.childNodes];
    button.addEventListener('click', async () => {
      const source = byId(/** @type {HTMLElement} */ (button).dataset.copy ?? '');
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = 'Copied';
        byId('copied').textContent = 'Copied';
      } catch {
        // Without permission (or without https) the text is at least selected.
        getSelection()?.selectAllChildren(source);
        button.textContent = 'Selected';
      }
      setTimeout(() => {
        button.replaceChildren(...wording);
        byId('copied').textContent = '';
      }, 2000);
    });
  }
}
