// A check that cannot fail checks nothing: planted faults must be found, innocent sources must not.

const { check } = require('./rules.js');

/** A small server that follows the rules. */
const SOUND = {
  'server/src/lib.rs': 'pub mod hub;\npub mod log;\nmod error;\npub use hub::Hub;\n',
  'server/src/main.rs': 'use server::Hub;\nfn main() {}\n',
  'server/src/hub/mod.rs': [
    'mod registry;', 'mod history;', 'pub use registry::Registry;', 'use crate::log::{self, Entry};', 'use crate::error;',
    '// crowd, goodbye: English in comments is not meant, nor is crate::fanout.', 'const TEXT: &str = "crate::fanout::Shard { seldom";',
    "const QUOTE: char = '\"';", 'pub struct Hub { entry: Entry, letter: char }', 'impl Iterator for Hub { type Item = log::Mark; }',
    '#[cfg(test)]\nmod tests {\n    use crate::fanout::Shard;\n    struct Hub;\n}', '',
  ].join('\n'),
  'server/src/hub/registry.rs': 'use super::history::History;\npub struct Registry;\nimpl Registry { fn there_is_room_for_more() {} }\n',
  'server/src/hub/history/mod.rs': 'pub struct History { lifetime: u8 }\nimpl Iterator for History { type Item = u8; }\n',
  'server/src/log/mod.rs': 'pub struct Entry;\npub struct Mark;\nuse my_tokio::net;\n',
  'server/src/fanout/mod.rs': 'use crate::hub::Registry;\npub struct Shard;\n#[cfg(test)]\nmod model;\n',
  'server/src/fanout/model.rs': 'use crate::lib_only;\nuse crate::ws::Session;\npub struct Shard;\n',
  'server/src/ws/mod.rs': 'pub struct Session;\n',
  'server/src/error.rs': 'pub struct Error;\n',
  'gate/src/main.rs': 'fn main() {}\n',
};

const RULES = {
  LAYERS: { server: [['main'], ['lib'], ['ws'], ['fanout'], ['hub'], ['log'], ['error']], gate: [['main']] },
  MUST_NOT_NAME: [
    { files: /^server\/src\/hub\//, never: ['tokio::net', 'tokio::io'], why: 'the hub knows no sockets' },
    { files: /^gate\//, never: ['server'], why: 'the gate does not import the server' },
  ],
};

/** What is added to the sound sources, and a part of the line that must come of it. */
const PLANTED = [
  ['server/src/hub/registry.rs', 'use crate::fanout::Shard;\n', 'server/src/hub/registry.rs:4: imports crate::fanout::Shard, but fanout is above hub'],
  ['server/src/hub/registry.rs', 'use crate::{error, fanout::{\n    Shard,\n}};\n', 'server/src/hub/registry.rs:5: imports crate::fanout::Shard, but fanout is above hub'],
  ['server/src/log/mod.rs', 'fn f() { crate::hub::Hub::new() }\n', 'server/src/log/mod.rs:4: imports crate::hub::Hub::new, but hub is above log'],
  ['server/src/log/mod.rs', 'pub use super::hub::registry::Registry as R;\n', 'but hub is above log'],
  ['server/src/log/mod.rs', 'use crate::hub;\n', 'but hub is above log'],
  ['server/src/log/mod.rs', 'use crate::Hub;\n', 'but hub is above log'],
  ['server/src/log/mod.rs', '#[cfg(test)]\nuse std::mem;\nuse crate::ws::Session;\n', 'server/src/log/mod.rs:6: imports crate::ws::Session'],
  ['server/src/main.rs', 'pub struct Start;\n', null],
  ['server/src/new.rs', 'pub struct New;\n', 'server/src/new: has no place in the order of layers'],
  ['server/src/hub/history/mod.rs', 'use crate::hub::registry::Registry;\n', 'server/src/hub/: imports go in a circle: history → registry → history'],
  ['server/src/hub/history/mod.rs', 'use crate::hub::Registry;\n', 'imports go in a circle: history → registry → history'],
  ['server/src/hub/history/mod.rs', 'use crate::hub::Hub;\n', null], // a child may use its mod.rs
  ['server/src/log/mod.rs', 'pub struct Error;\n', 'server/src/log/mod.rs:4: the type Error is also at server/src/error.rs:1'],
  ['server/src/log/mod.rs', 'mod inner {\n    pub type Session = u8;\n}\n', 'the type Session is also at'],
  ['server/src/log/mod.rs', 'fn f() { struct Error; }\n', null],
  ['server/src/hub.rs', '', 'server/src/hub.rs: has a folder of the same name. To do: git mv server/src/hub.rs server/src/hub/mod.rs'],
  ['server/src/hub/mod.rs', 'use tokio::net::{\n TcpStream};\n', 'names tokio::net::TcpStream, but the hub knows no sockets'],
  ['server/src/hub/mod.rs', 'use {serde, tokio::{io, net::TcpStream}};\n', 'names tokio::net::TcpStream'],
  ['server/src/hub/mod.rs', 'fn f() { tokio::net::bind() }\n', 'server/src/hub/mod.rs:16: names tokio::net::bind'],
  ['server/src/hub/mod.rs', 'use my_tokio::net;\n', null],
  ['gate/src/main.rs', 'extern crate server;\n', 'gate/src/main.rs:2: names server, but the gate does not import the server'],
  ['server/src/log/mod.rs', 'fn say_goodbye() {}\n', 'server/src/log/mod.rs:4: say_goodbye is a word that is not used any more. To do: say ShutdownNotice'],
  ['server/src/log/mod.rs', 'struct SeldomLine;\n', 'SeldomLine is a word that is not used any more. To do: say log_throttle'],
  ['server/src/log/household.rs', '', 'server/src/log/household.rs: household is a word'],
  ['server/src/log/mod.rs', 'struct Door;\n', 'Door is a word that is not used any more. To do: say admission'],
  ['server/src/log/mod.rs', 'mod mids;\n', 'mids is a word that is not used any more. To do: say dedup'],
  ['server/src/log/mod.rs', 'fn f() { g.lost_through += 1 }\n', 'lost_through is a word'],
  ['server/tests/it/main.rs', 'fn leaves() { let newcomer = 1; struct Door; }\n', null], // a test may call its own things so
  ['server/tests/it/main.rs', 'mod door;\n', 'server/tests/it/main.rs:1: door is a word'],
  ['server/src/log/mod.rs', 'fn is_in_doors(door: u8, room: u8, keep: u8) {}\nstruct Backdoor;\n', null],
  ['certs/key.pem', `-----BEGIN ${'PRIVATE KEY'}-----\n${'A'.repeat(64)}\n`, 'certs/key.pem: holds a private key'],
];

function selfTest({ WORDS }) {
  const rules = { ...RULES, WORDS };
  const linesOf = (files, by = rules) => [...check(new Map(Object.entries(files)), by)].map(({ at, what, fix }) => `${at}: ${what}. To do: ${fix}`);
  const expect = (good, what, lines) => {
    if (good) return;
    console.error(`scripts/layers is broken: ${what}. It found:\n${lines.join('\n') || 'nothing'}`);
    process.exit(1);
  };
  const sound = linesOf(SOUND);
  expect(!sound.length, 'it finds faults in sound sources', sound);
  for (const [file, added, wanted] of PLANTED) {
    const lines = linesOf({ ...SOUND, [file]: (SOUND[file] ?? '') + added });
    const seen = wanted === null ? !lines.length : lines.some((line) => line.includes(wanted));
    expect(seen, `with ${JSON.stringify(added)} in ${file} it should find ${wanted ?? 'nothing'}`, lines);
  }
  const { 'server/src/fanout/mod.rs': _, 'server/src/fanout/model.rs': __, ...moved } = SOUND;
  const lines = linesOf(moved);
  expect(lines.some((line) => line.startsWith('server/src/fanout: is in the order of layers')), 'a folder was moved', lines);
  const unmatched = linesOf(SOUND, { ...rules, MUST_NOT_NAME: [{ files: /^nowhere/, never: [], why: 'nothing is there' }] });
  expect(unmatched.some((line) => line.includes('"nothing is there" is not checked')), 'a rule matches no file', unmatched);
}

module.exports = { selfTest };
