// The modules of one crate and who imports whom, from the text of its files.

const { readSource, declarationsOf, importsOf, pathsOf } = require('./source.js');

const parentOf = (module) => module.slice(0, -1);
const key = (module) => module.join('::');

/** `files`: path → text, for everything below `<name>/src`. */
function readCrate(name, files) {
  const src = `${name}/src/`;
  const modules = new Map();
  const sources = [];
  for (const [file, text] of [...files].sort()) {
    if (!file.startsWith(src) || !file.endsWith('.rs')) continue;
    const parts = file.slice(src.length, -'.rs'.length).split('/');
    // main.rs is a crate of its own beside lib.rs, and names it from outside.
    const isProgram = file === `${src}main.rs` && files.has(`${src}lib.rs`);
    const module = parts.length === 1 && ['lib', 'main'].includes(parts[0]) ? [] : parts[parts.length - 1] === 'mod' ? parentOf(parts) : parts;
    const source = { file, module, entry: parts[0], parts, isProgram, ...readSource(text) };
    source.declarations = declarationsOf(source.product);
    source.items = new Set(source.declarations.filter((item) => item.atModuleLevel).map((item) => item.name));
    source.imports = importsOf(source.product);
    sources.push(source);
    if (!isProgram) modules.set(key(module), source);
  }
  for (const source of sources) source.isTest = isTest(source, modules);
  return { name, src, sources, modules };
}

/** A file is test code by its name, or because it, or one above it, is declared under `#[cfg(test)]`. */
function isTest(source, modules) {
  const { module } = source;
  if (module.includes('tests')) return true;
  return module.some((_, depth) => modules.get(key(module.slice(0, depth)))?.testModules.has(module[depth]));
}

/** The file that defines what `path` names when it stands in `from`, or undefined if that is outside this crate. */
function resolve(crate, from, path, seen = new Set()) {
  const [first, ...rest] = path;
  if (first === 'crate' || (from.isProgram && first === crate.name)) return descend(crate, [], rest, seen);
  if (first === 'self') return descend(crate, from.module, rest, seen);
  if (first === 'super') {
    let module = parentOf(from.module);
    while (rest[0] === 'super') {
      rest.shift();
      module = parentOf(module);
    }
    return descend(crate, module, rest, seen);
  }
  const visit = `${from.file} ${first}`;
  if (seen.has(visit)) return undefined;
  const imported = from.imports.find((use) => use.alias === first && key(use.path) !== first);
  if (imported) return resolve(crate, from, [...imported.path, ...rest], new Set([...seen, visit]));
  if (!from.isProgram && crate.modules.has(key([...from.module, first]))) return descend(crate, from.module, path, seen);
  return undefined;
}

function descend(crate, start, path, seen) {
  let module = start;
  let rest = path;
  while (rest.length && crate.modules.has(key([...module, rest[0]]))) {
    module = [...module, rest[0]];
    rest = rest.slice(1);
  }
  const source = crate.modules.get(key(module));
  if (!source) return undefined;
  if (!rest.length) return { source, isModule: true };
  const name = rest[0];
  const visit = `${source.file} ${name}`;
  if (source.items.has(name) || seen.has(visit)) return { source };
  const next = new Set([...seen, visit]);
  const reexport = source.imports.find((use) => use.alias === name);
  if (reexport) return resolve(crate, source, [...reexport.path, ...rest.slice(1)], next) ?? { source };
  for (const glob of source.imports.filter((use) => use.glob)) {
    const target = resolve(crate, source, [...glob.path, name], next);
    if (target?.source.items.has(name)) return target;
  }
  return { source };
}

/** Every import of product code: { from, to, path, line, named, isModule }. */
function edgesOf(crate) {
  const edges = [];
  for (const from of crate.sources) {
    if (from.isTest) continue;
    const seen = new Set();
    for (const { path, glob, alias, index } of [...from.imports, ...pathsOf(from.product)]) {
      const target = resolve(crate, from, path);
      if (!target || target.source === from || target.source.isTest) continue;
      const isModule = Boolean(target.isModule && alias && !glob);
      const id = `${target.source.file} ${path[0]} ${path[1]} ${isModule}`;
      if (seen.has(id)) continue;
      seen.add(id);
      // `use crate::log;` says little by itself: `log::Entry` further down is followed to its file.
      edges.push({ from, to: target.source, path: path.join('::'), line: from.lineAt(index),
        named: path[0] === 'crate' ? path[1] : undefined, isModule });
    }
  }
  return edges;
}

module.exports = { readCrate, edgesOf, key };
