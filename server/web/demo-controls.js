// @ts-check
// What the demo page's parts share: elements, tabs, buttons that copy.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Children given as strings become text, never markup. @param {string} name @param {string} className @param {(string | Node)[]} children */
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
