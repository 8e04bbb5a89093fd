// Reads one Rust file: what it declares, what it imports, and which lines are product code.
// No parser: comments and strings are blanked, then braces are counted. rustfmt keeps the sources regular enough.

const COMMENT_OR_LITERAL =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|\bb?c?r(#*)"[\s\S]*?"\1|"(?:[^"\\]|\\[\s\S])*"|'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.))'/gu;

const spaces = (text) => text.replace(/[^\n]/gu, ' ');

/** The code without comments and without what stands in strings. Offsets and lines stay as they were. */
function withoutComments(text) {
  return text.replace(/[^\x00-\x7f]/g, '~').replace(COMMENT_OR_LITERAL, (found) =>
    (found.startsWith('/') ? spaces(found) : found.replace(/[^\n]/g, '~')));
}

const TEST_ATTRIBUTE = /#(!?)\[cfg\((?:all\()?test\b[^\]]*\]/g;

/** Blanks everything under `#[cfg(test)]`. Also: the modules that are declared there. */
function withoutTests(code) {
  const testModules = new Set();
  let product = code;
  for (const attribute of code.matchAll(TEST_ATTRIBUTE)) {
    const end = attribute[1] ? code.length : itemEnd(code, attribute.index + attribute[0].length);
    const item = code.slice(attribute.index, end);
    for (const [, name] of item.matchAll(/\bmod\s+(\w+)\s*;/g)) testModules.add(name);
    product = product.slice(0, attribute.index) + spaces(item) + product.slice(end);
  }
  return { product, testModules };
}

/** Where the item (or field, or match arm) ends that begins at `from`, after its other attributes. */
function itemEnd(code, from) {
  const head = /(?:\s*#\[[^\]]*\])*\s*(?:pub(?:\([^)]*\))?\s+)?(\w*)/y;
  head.lastIndex = from;
  const keyword = head.exec(code)[1];
  const untilSemicolon = /^(?:use|const|static|type|let)$/.test(keyword);
  const isItem = untilSemicolon || /^(?:fn|mod|impl|struct|enum|trait|async|unsafe|extern|macro_rules)$/.test(keyword);
  let depth = 0;
  for (let at = head.lastIndex; at < code.length; at += 1) {
    const char = code[at];
    if ('([{'.includes(char)) depth += 1;
    if (')]}'.includes(char)) {
      if (depth === 0) return at; // the end of what it stands in: a last field
      depth -= 1;
      if (depth === 0 && char === '}' && !untilSemicolon) return at + 1;
    }
    if (depth === 0 && (char === ';' || (char === ',' && !isItem))) return at + 1;
  }
  return code.length;
}

/** Types, functions, modules and the like with their kind, offset, and whether they stand at module level. */
function declarationsOf(code) {
  const found = [];
  const braces = []; // for each open one: does it belong to a `mod`?
  let opensModule = false;
  const pattern = /[{}]|\b(struct|enum|trait|type|fn|mod|const|static|macro_rules!)\s+(?:mut\s+)?(?:r#)?([A-Za-z_]\w*)/g;
  for (const { 0: text, 1: kind, 2: name, index } of code.matchAll(pattern)) {
    if (text === '{') {
      braces.push(opensModule);
      opensModule = false;
    } else if (text === '}') {
      braces.pop();
    } else if (!['fn', 'unsafe', 'async', 'extern', 'for'].includes(name)) {
      opensModule = kind === 'mod' && /^\s*\{/.test(code.slice(index + text.length, index + text.length + 20));
      found.push({ kind, name, index, atModuleLevel: braces.every(Boolean) });
    }
  }
  return found;
}

/** `use a::{b, c::{self, d as e}}` as a list of { path, alias, glob, index }. */
function importsOf(code) {
  const found = [];
  for (const use of code.matchAll(/\buse\s+([^;]+);/g)) {
    const start = use.index + use[0].indexOf(use[1]);
    const tokens = [...use[1].matchAll(/[{},*]|\b\w+\b/g)].map(({ 0: text, index }) => ({ text, index: start + index }));
    const tree = (prefix) => {
      let path = prefix;
      let last = tokens[0];
      while (tokens.length && !['}', ','].includes(tokens[0].text)) {
        const token = tokens.shift();
        if (token.text === '{') {
          while (tokens.length && tokens[0].text !== '}') {
            tree(path);
            if (tokens[0]?.text === ',') tokens.shift();
          }
          tokens.shift();
          return;
        }
        if (token.text === '*') {
          found.push({ path, glob: true, index: token.index });
          return;
        }
        if (token.text === 'as') {
          found.push({ path, alias: tokens.shift().text, index: last.index });
          return;
        }
        if (!(token.text === 'self' && path.length)) path = [...path, token.text];
        last = token;
      }
      if (path.length) found.push({ path, alias: path[path.length - 1], index: last.index });
    };
    tree([]);
  }
  return found;
}

const withoutUses = (code) => code.replace(/\buse\s+[^;]+;/g, spaces);

/** Paths within the code, such as `crate::log::Entry`. */
function pathsOf(code) {
  return [...withoutUses(code).matchAll(/(?<![\w:.$])[A-Za-z_]\w*(?:::[A-Za-z_]\w*)+/g)]
    .map(({ 0: text, index }) => ({ path: text.split('::'), index }));
}

const alreadyRead = new Map();

/** The code of one file. `all` includes the tests, `product` does not. */
function readSource(text) {
  if (!alreadyRead.has(text)) alreadyRead.set(text, read(text));
  return alreadyRead.get(text);
}

function read(text) {
  const all = withoutComments(text);
  const { product, testModules } = withoutTests(all);
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  const lineAt = (index) => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= index) low = middle;
      else high = middle;
    }
    return low + 1;
  };
  return { all, product, testModules, lineAt };
}

module.exports = { readSource, declarationsOf, importsOf, pathsOf };
