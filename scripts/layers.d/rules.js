// The rules. Each takes what was read and yields { at, what, fix }: where, what is wrong there, and what to do.

const { readCrate, edgesOf } = require('./crate.js');
const { readSource, declarationsOf, importsOf, pathsOf } = require('./source.js');

const at = (source, line) => `${source.file}:${line}`;

/** A file imports only from layers below its own. `layers`: highest first, each a list of folders and files of src. */
function* directions(crate, edges, layers) {
  const height = new Map(layers.flatMap((layer, index) => layer.map((entry) => [entry, layers.length - index])));
  const entries = new Set(crate.sources.map((source) => source.entry));
  for (const entry of entries) {
    if (!height.has(entry)) {
      yield { at: `${crate.src}${entry}`, what: 'has no place in the order of layers',
        fix: `move it into a folder that has one, or give it one in LAYERS.${crate.name} of scripts/layers` };
    }
  }
  for (const entry of height.keys()) {
    if (!entries.has(entry)) {
      yield { at: `${crate.src}${entry}`, what: 'is in the order of layers, but no such file or folder exists',
        fix: `if it was moved or renamed, adapt LAYERS.${crate.name} of scripts/layers` };
    }
  }
  const seen = new Set();
  for (const { from, to, path, line, named } of edges) {
    const own = height.get(from.entry);
    const above = [to.entry, named].find((entry) => entry !== from.entry && height.get(entry) > own);
    if (above && !seen.has(`${from.file} ${to.file}`)) {
      seen.add(`${from.file} ${to.file}`);
      yield { at: at(from, line), what: `imports ${path}, but ${above} is above ${from.entry}`,
        fix: `move what both need below ${from.entry}, or hand it in from above` };
    }
  }
}

/** No circle between the files and folders that stand side by side; a mod.rs and what is below it aside. */
function* circles(crate, edges) {
  const levels = new Map(); // folder → node → node → edge
  for (const edge of edges) {
    const { from, to } = edge;
    if (edge.isModule) continue;
    const [a, b] = [from, to].map((source) => (/^(?:mod|lib|main)$/.test(source.parts.at(-1)) ? source.parts.slice(0, -1) : source.parts));
    let depth = 0;
    while (depth < Math.min(a.length, b.length) && a[depth] === b[depth]) depth += 1;
    if (depth === a.length || depth === b.length) continue; // one is above the other
    const folder = crate.src + a.slice(0, depth).map((part) => `${part}/`).join('');
    if (!levels.has(folder)) levels.set(folder, new Map());
    const level = levels.get(folder);
    if (!level.has(a[depth])) level.set(a[depth], new Map());
    if (!level.get(a[depth]).has(b[depth])) level.get(a[depth]).set(b[depth], edge);
  }
  for (const [folder, graph] of levels) {
    for (const circle of circlesOf(graph)) {
      const hops = circle.map((node, index) => {
        const edge = graph.get(node).get(circle[(index + 1) % circle.length]);
        return `${at(edge.from, edge.line)} ${edge.path}`;
      });
      yield { at: folder, what: `imports go in a circle: ${[...circle, circle[0]].join(' → ')}`,
        fix: `break one of: ${hops.join('; ')}` };
    }
  }
}

/** One shortest circle through each node that is in one, without naming a circle twice. */
function circlesOf(graph) {
  const found = [];
  const covered = new Set();
  for (const start of [...graph.keys()].sort()) {
    if (covered.has(start)) continue;
    const cameFrom = new Map();
    const queue = [start];
    for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
      const back = graph.get(node)?.has(start);
      if (back) {
        const circle = [];
        for (let step = node; step !== start; step = cameFrom.get(step)) circle.unshift(step);
        found.push([start, ...circle]);
        for (const step of found.at(-1)) covered.add(step);
        break;
      }
      for (const next of graph.get(node)?.keys() ?? []) {
        if (next !== start && !cameFrom.has(next)) {
          cameFrom.set(next, node);
          queue.push(next);
        }
      }
    }
  }
  return found;
}

/** A type has one name and one meaning within a crate. */
function* typesOnce(crate) {
  const first = new Map();
  for (const source of crate.sources.filter((one) => !one.isTest)) {
    for (const { kind, name, index, atModuleLevel } of source.declarations) {
      if (!atModuleLevel || !['struct', 'enum', 'trait', 'type'].includes(kind)) continue;
      const here = at(source, source.lineAt(index));
      if (first.has(name)) {
        yield { at: here, what: `the type ${name} is also at ${first.get(name)}`, fix: 'give each a name that says what it is' };
      } else {
        first.set(name, here);
      }
    }
  }
}

/** `foo/mod.rs` everywhere, so that what belongs together lies together. */
function* modFiles(files) {
  const folders = new Set([...files.keys()].map((file) => file.slice(0, file.lastIndexOf('/'))));
  for (const file of files.keys()) {
    const folder = file.slice(0, -'.rs'.length);
    if (file.endsWith('.rs') && folders.has(folder)) yield { at: file, what: 'has a folder of the same name', fix: `git mv ${file} ${folder}/mod.rs` };
  }
}

/** Names that must not come back, each with the word to say. */
function* words(files, table) {
  for (const [file, text] of files) {
    const rows = table.filter((row) => (row.in ?? /./).test(file));
    const listed = (list, name) => rows.find((row) => row[list]?.includes(name));
    const anyPart = new RegExp(rows.flatMap((row) => row.parts ?? []).join('|') || '$^', 'i');
    const withPart = (name) => (anyPart.test(name) ? rows.find((row) => row.parts?.some((part) => hasPart(name, part))) : undefined);
    const fault = (where, name, row, more = '') => ({ at: where, what: `${name} is a word that is not used any more${more}`, fix: `say ${row.say}` });

    const base = file.split('/').at(-1).slice(0, -'.rs'.length);
    const renamed = listed('modules', base) ?? withPart(base);
    if (renamed) yield fault(file, base, renamed);

    // Of tests only what they declare, and that only by `modules` and `parts`: what a variable is called there is free.
    const isSource = file.includes('/src/');
    const { all, lineAt } = readSource(text);
    const found = declarationsOf(all).map(({ kind, name, index }) => {
      const list = { mod: 'modules', fn: 'functions', const: 'constants', static: 'constants' }[kind] ?? 'types';
      return { name, index, row: (isSource || list === 'modules' ? listed(list, name) : undefined) ?? withPart(name) };
    });
    if (isSource) {
      for (const { 0: name, index } of all.matchAll(/\b[A-Za-z_]\w*/g)) found.push({ name, index, row: listed('identifiers', name) ?? withPart(name) });
      for (const { 0: name, index } of all.matchAll(/\b[A-Z]\w*::[A-Z]\w*/g)) found.push({ name, index, row: listed('identifiers', name) });
    }
    const lines = new Map();
    for (const { name, index, row } of found) {
      if (!row) continue;
      if (!lines.has(name)) lines.set(name, { row, in: new Set() });
      lines.get(name).in.add(lineAt(index));
    }
    for (const [name, { row, in: where }] of lines) {
      const [first, ...more] = [...where].sort((a, b) => a - b);
      yield fault(`${file}:${first}`, name, row, more.length ? ` (further down: ${more.join(', ').slice(0, 60)})` : '');
    }
  }
}

/** Is `part` one of the words of a snake_case or CamelCase name, also in the plural? */
function hasPart(name, part) {
  if (!name.toLowerCase().includes(part)) return false;
  return name.split(/_|::|(?<=[a-z0-9])(?=[A-Z])/).some((word) => [part, `${part}s`].includes(word.toLowerCase()));
}

/** What some files must not name, because they are to know nothing of it: in tests neither. */
function* mustNotName(files, rules) {
  for (const { files: pattern, never, why } of rules) {
    let any = false;
    for (const [file, text] of files) {
      if (!pattern.test(file)) continue;
      any = true;
      const source = readSource(text);
      const named = [...importsOf(source.all), ...pathsOf(source.all),
        ...[...source.all.matchAll(/\bextern\s+crate\s+(\w+)/g)].map(({ 1: name, index }) => ({ path: [name], index }))];
      const seen = new Set();
      for (const { path, index } of named) {
        const name = path.join('::');
        if (seen.has(name) || !never.some((banned) => name === banned || name.startsWith(`${banned}::`))) continue;
        seen.add(name);
        yield { at: `${file}:${source.lineAt(index)}`, what: `names ${name}, but ${why}`, fix: 'let a module above do that' };
      }
    }
    if (!any) {
      yield { at: 'scripts/layers', what: `no file matches ${pattern}, so "${why}" is not checked`, fix: 'if the files were moved, adapt MUST_NOT_NAME' };
    }
  }
}

function* privateKeys(files) {
  for (const [file, text] of files) {
    if (/-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}/.test(text)) {
      yield { at: file, what: 'holds a private key', fix: 'delete it, and let whatever needs one make its own' };
    }
  }
}

/** Lines of product code: no blank ones, no comments, no tests. */
const productLines = (crate) => crate.sources.filter((source) => !source.isTest)
  .reduce((sum, source) => sum + source.product.split('\n').filter((line) => line.trim()).length, 0);

/** Everything that is wrong with `files` (path → text) by `rules`, as the data of scripts/layers gives them. */
function* check(files, { LAYERS, MUST_NOT_NAME, WORDS }) {
  const rust = new Map([...files].filter(([file]) => file.endsWith('.rs')));
  for (const [name, layers] of Object.entries(LAYERS)) {
    const crate = readCrate(name, rust);
    if (!crate.sources.length) {
      yield { at: `${name}/src`, what: 'no source was found', fix: 'if the crate was moved, adapt LAYERS of scripts/layers' };
      continue;
    }
    const edges = edgesOf(crate);
    if (layers) yield* directions(crate, edges, layers);
    yield* circles(crate, edges);
    yield* typesOnce(crate);
  }
  yield* mustNotName(rust, MUST_NOT_NAME);
  yield* modFiles(rust);
  yield* words(rust, WORDS);
  yield* privateKeys(files);
}

module.exports = { check, productLines };
