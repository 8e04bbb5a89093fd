// @ts-check
// Parts of the demo page: elements, texts, tabs, buttons that copy or open something.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Makes an element. Children that are strings become text, never markup. @param {string} name @param {string} className @param {(string | Node)[]} children */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function wireTabs() {
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

export function wireCopying() {
  for (const button of document.querySelectorAll('[data-copy]')) {
    const wording = [...button.childNodes];
    button.addEventListener('click', async () => {
      const source = byId(/** @type {HTMLElement} */ (button).dataset.copy ?? '');
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = 'Copied';
        byId('copied').textContent = 'Copied';
      } catch {
        // Without permission, or without https, select the text at least.
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

/** The button shows the panel; Escape or a click elsewhere hides it. @param {HTMLElement} button @param {HTMLElement} panel */
export function wirePanel(button, panel) {
  const show = (/** @type {boolean} */ shown) => {
    panel.hidden = !shown;
    button.setAttribute('aria-expanded', String(shown));
  };
  button.addEventListener('click', () => show(panel.hidden !== false));
  document.addEventListener('click', ({ target }) => {
    // A click may have removed its own target from the panel: that is not a click elsewhere.
    const inside = [button, panel].some((part) => part.contains(/** @type {Node} */ (target)));
    if (!inside && /** @type {Node} */ (target).isConnected) show(false);
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || panel.hidden) return;
    const focused = panel.contains(document.activeElement);
    show(false);
    if (focused) button.focus();
    // The same key must not close a pop-up, too.
    event.stopImmediatePropagation();
  });
}

/** @param {number} at */
export function timeOf(at) {
  const when = new Date(at);
  const time = element('time', '', when.toLocaleTimeString());
  time.setAttribute('datetime', when.toISOString());
  return time;
}

/**
 * Returns title and text of any message: a plain string, `{ title, text }`, or other JSON as it is.
 * @param {import('./client.types.d.ts').Message} received
 */
export function wording({ message, raw, direct }) {
  const title = direct ? 'For you' : 'For everyone';
  if (typeof message === 'string') return { title, text: message };
  if (typeof message?.text === 'string') {
    return { title: typeof message.title === 'string' ? message.title : title, text: message.text };
  }
  // From the frame itself, because JSON.parse rounds large numbers.
  const [, json = JSON.stringify(message)] = /"message":(.*?)(?:,"direct":true)?(?:,"seen":true)?\}$/s.exec(raw) ?? [];
  return { title, text: json };
}

/** @param {string} text */
export function quoteShell(text) {
  return /^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {string} text */
export function quotePhp(text) {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
