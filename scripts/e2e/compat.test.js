// Every API that client.js uses is in the oldest browsers and the oldest Node that the documentation promises, by the
// data of MDN. A new name in the source must be put into the tables here, so that nobody uses one unawares.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { parse } from 'acorn';
import { full } from 'acorn-walk';

const OLDEST = { chrome: '107', firefox: '107', safari: '16.1', nodejs: '18.0.0' };
const data = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('@mdn/browser-compat-data')));
const source = readFileSync(new URL('../../server/web/client.js', import.meta.url), 'utf8');
const program = parse(source, { ecmaVersion: 2022, sourceType: 'module' });

/** Names of the platform. What Node lacks is used only where a page is, or has a substitute. */
const GLOBALS = {
  'javascript.builtins': ['Array', 'Date', 'Error', 'JSON', 'Map', 'Math', 'Number', 'Object', 'Promise', 'Set',
    'TypeError', 'Uint8Array', 'globalThis', 'undefined'],
  api: ['AbortController', 'Blob', 'Event', 'EventTarget', 'URL', 'clearTimeout', 'queueMicrotask',
    'setTimeout', 'console'],
  page: ['WebSocket', 'crypto', 'Window.document', 'Window.location', 'Window.navigator',
    'Window.sessionStorage'],
};
/** By the name of a member: whose it is. */
const MEMBERS = {
  'javascript.builtins': {
    add: 'Set', assign: 'Object', charCodeAt: 'String', clear: 'Map', delete: 'Map', filter: 'Array',
    flatMap: 'Array', from: 'Array', get: 'Map', has: 'Set', imul: 'Math', includes: 'Array',
    isSafeInteger: 'Number', join: 'Array', keys: 'Map', length: 'Array', max: 'Math', min: 'Math', now: 'Date',
    padStart: 'String', parse: 'JSON', push: 'Array', random: 'Math', reduce: 'Array', replace: 'String', round: 'Math',
    set: 'Map', size: 'Map', some: 'Array', sort: 'Array', stringify: 'JSON', test: 'RegExp',
    toString: 'Number', values: 'Map', name: 'Error', message: 'Error',
  },
  api: { abort: 'AbortController', addEventListener: 'EventTarget', dispatchEvent: 'EventTarget', href: 'URL', protocol: 'URL' },
  page: {
    close: 'WebSocket', code: 'CloseEvent', error: 'console', getItem: 'Storage', getRandomValues: 'Crypto',
    hidden: 'Document', onLine: 'Navigator', send: 'WebSocket', setItem: 'Storage',
  },
};
/** Names of our own objects that some interface of the platform has, too, and globals that are read as members. */
const OWN = ['active', 'detail', 'event', 'id', 'mid', 'ok', 'slot', 'tag', 'url', 'WebSocket', 'document', 'location', 'crypto'];
/** What the platform calls or the source names in texts. */
const FURTHER = {
  'javascript.builtins': ['Promise.Promise', 'Array.@@iterator'],
  'javascript.classes': ['private_class_fields', 'private_class_methods', 'public_class_fields', 'extends'],
  'javascript.operators': ['nullish_coalescing', 'optional_chaining', 'import_meta', 'spread', 'exponentiation', 'logical_or_assignment'],
  api: ['AbortController.signal', 'EventTarget.addEventListener.options_parameter.options_signal_parameter'],
  page: ['Window.pageshow_event', 'Window.online_event', 'Window.offline_event', 'Document.visibilitychange_event',
    'PageTransitionEvent.persisted', 'CloseEvent.reason', 'MessageEvent.data'],
};

const at = (names) => names.split('.').reduce((tree, name) => tree?.[name], data);
const numbers = (version) => version.split('.').map(Number);
const isBefore = (one, other) => {
  const [a, b] = [numbers(one), numbers(other)];
  for (let part = 0; part < Math.max(a.length, b.length); part += 1) {
    if ((a[part] ?? 0) !== (b[part] ?? 0)) return (a[part] ?? 0) < (b[part] ?? 0);
  }
  return false;
};

/** Whether a platform has a feature without a flag, a prefix or an end in sight. */
function has(compat, platform) {
  const statements = [compat.support[platform] ?? []].flat();
  return statements.some(({ version_added: since, version_removed: gone, flags, prefix, alternative_name: other }) => typeof since === 'string'
    && !gone && !flags && !prefix && !other && (since.startsWith('≤') || !isBefore(OLDEST[platform], since)));
}

function missing(names, platforms) {
  const compat = at(names)?.__compat;
  if (!compat) return [`the data: it has no ${names}`];
  // Node is absent where the feature is the language's own, or older than the data.
  return platforms.filter((platform) => !(platform === 'nodejs' && !compat.support.nodejs) && !has(compat, platform));
}

const BROWSERS = ['chrome', 'firefox', 'safari'];
const where = (kind) => (kind === 'page' ? ['api', BROWSERS] : [kind, [...BROWSERS, 'nodejs']]);

test('every API of client.js is in the oldest browsers and the oldest Node', () => {
  const faults = [];
  const check = (kind, name) => {
    const [root, platforms] = where(kind);
    const absent = missing(`${root}.${name}`, platforms);
    if (absent.length) faults.push(`${name}: not in ${absent.join(', ')}`);
  };
  for (const [kind, names] of Object.entries(GLOBALS)) {
    for (const name of names.filter((name) => name !== 'Uint8Array')) check(kind, name);
  }
  for (const [kind, members] of Object.entries(MEMBERS)) {
    for (const [name, owner] of Object.entries(members)) check(kind, `${owner}.${name === 'error' ? 'error_static' : name}`);
  }
  for (const [kind, names] of Object.entries(FURTHER)) for (const name of names) check(kind, name);
  assert.deepEqual(faults, []);
});

test('the tables here have every name of client.js that a platform could lack', () => {
  const known = new Set([...OWN, ...Object.values(MEMBERS).flatMap(Object.keys)]);
  const globals = new Set(Object.values(GLOBALS).flat().map((name) => name.split('.').at(-1)));
  const platform = new Set(Object.values({ ...data.javascript.builtins, ...data.api }).flatMap(Object.keys));
  const unknown = new Set();
  full(program, (node) => {
    if (node.type === 'MemberExpression' && !node.computed && node.property.type === 'Identifier') {
      const { name } = node.property;
      if (platform.has(name) && !known.has(name)) unknown.add(`.${name}`);
    } else if (node.type === 'NewExpression' && node.callee.type === 'Identifier') {
      const { name } = node.callee;
      if ((name in data.api || name in data.javascript.builtins) && !globals.has(name)) unknown.add(`new ${name}`);
    }
  });
  assert.deepEqual([...unknown], []);
});

test('this check finds what is too new', () => {
  assert.deepEqual(missing('javascript.builtins.Array.toSorted', ['chrome', 'firefox', 'safari', 'nodejs']).sort(), ['chrome', 'firefox', 'nodejs']);
  assert.deepEqual(missing('api.CustomEvent', ['nodejs']), ['nodejs']);
});
