//! The table of options. Each option is written here once. The arguments of the command line and
//! their help, the names in the environment and in the file, the defaults, and the list of options
//! that a reload can change all come from here.

use std::time::Duration;

use super::setting::Setting;
use super::{Config, keys, values};
use crate::error::Error;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const PIB: u64 = 1 << 50;
/// The largest count that an option accepts. No machine serves more connections, tags or
/// registrations.
const MAX_COUNT: u64 = 1 << 32;
/// The smallest size of a log: a few of the largest messages fit.
const MIN_LOG: u64 = MIB;
/// The largest size of a log: SQLite and NATS store sizes as signed numbers.
const MAX_LOG: u64 = i64::MAX as u64;
/// The smallest memory for messages: the largest messages of a few people fit.
const MIN_MEMORY: u64 = MIB;
/// The smallest backlog. One connection may have 1/64 of it, here two of the largest messages.
const MIN_BACKLOG: u64 = 8 * MIB;
/// NATS supports at most 5 replicas.
const MAX_REPLICAS: u64 = 5;
/// The shortest time-out. The ping wheel passes 256 slots in this time, so each slot lasts at least
/// a millisecond.
const MIN_TIMEOUT: Duration = Duration::from_millis(300);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// An option of the running server.
pub(super) struct OptionSpec {
    /// The name of the option in the file. The command line puts two dashes before it.
    pub(super) name: &'static str,
    /// The environment variable.
    pub(super) variable: &'static str,
    /// The name of the value in the help.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    /// The values if the operator gives none, as text.
    pub(super) defaults: &'static [&'static str],
    /// The default as the help shows it; empty if there is none.
    pub(super) default_words: &'static str,
    pub(super) kind: OptionKind,
    /// Parses one value and puts it into the configuration.
    pub(super) set: fn(&mut Config, &Setting) -> Result<(), Error>,
    /// Returns the current value, to find out whether a reload would change it. `None` if a reload
    /// may change the option.
    pub(super) fixed: Option<fn(&Config) -> String>,
}

/// Whether an option takes values, and how the values of the command line and of the file combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionKind {
    Flag,
    One,
    /// Values on the command line replace those of the file.
    List,
    /// Values on the command line are added to those of the file.
    Sum,
}

/// The history options of the file. The top of the file has them for all tags, the table of a tag
/// for that tag. Count, age and bytes of the ring come first, then those of inboxes.
pub(super) const HISTORY: [&str; 6] =
    ["ring", "ring-age", "ring-bytes", "inbox", "inbox-age", "inbox-bytes"];

/// All names that may stand at the top of the file.
pub(super) fn names_in_file() -> Vec<&'static str> {
    OPTIONS.iter().map(|option| option.name).chain(HISTORY).chain(["tags"]).collect()
}

/// An entry consists of: help; kind, name, environment variable, name of the value; `[defaults;
/// default in words]`; `restart` or `reload`, which tells how a change takes effect; parser; how
/// the value is stored, and the field of [`Config`].
///
/// `set` stores the parsed value in the field; `push` and `extend` add it to the field. With `by`,
/// the parser changes the configuration itself, and the field only serves to detect a change.
macro_rules! options {
    ($(
        $(#[doc = $help:literal])+
        $kind:ident $name:literal $variable:literal $value:literal
        [$($default:literal),* $(; $words:literal)?]
        $change:ident: $parse:expr => $how:ident $($field:ident).+;
    )+) => {
        pub(super) static OPTIONS: &[OptionSpec] = &[$(OptionSpec {
            name: $name,
            variable: $variable,
            value: $value,
            help: concat!($($help),+),
            defaults: &[$($default),*],
            default_words: options!(@first $($words,)? $($default,)* ""),
            kind: OptionKind::$kind,
            set: |config, setting| options!(@$how config $($field).+, $parse, setting),
            fixed: options!(@fixed $change $($field).+),
        }),+];
    };
    (@first $first:literal $(, $rest:literal)*) => { $first };
    (@by $config:ident $($field:ident).+, $parse:expr, $setting:ident) => {
        $parse($config, $setting)
    };
    (@set $config:ident $($field:ident).+, $parse:expr, $setting:ident) => {{
        $config.$($field).+ = $parse($setting)?;
        Ok(())
    }};
    (@$add:ident $config:ident $($field:ident).+, $parse:expr, $setting:ident) => {{
        $config.$($field).+.$add($parse($setting)?);
        Ok(())
    }};
    (@fixed reload $($field:ident).+) => { None };
    (@fixed restart $($field:ident).+) => { Some(|config| format!("{:?}", config.$($field).+)) };
}

options! {
    /// Accept connections at PORT (on 127.0.0.1 and ::1), ADDR:PORT or unix:PATH. A connection to a
    /// Unix socket must begin with a PROXY header. Repeatable
    List "listen" "TOCSIN_LISTEN" "ADDR:PORT" ["9090"]
    restart: values::places => extend sockets.listen;

    /// Accept connections that begin with a PROXY header, which has the client's address, at PORT
    /// (on 127.0.0.1 and ::1) or ADDR:PORT. Start the gate with --proxy-protocol v2. Repeatable
    List "listen-proxy" "TOCSIN_LISTEN_PROXY" "ADDR:PORT" []
    restart: values::addresses => extend sockets.listen_proxy;

    /// Accept connections to --listen-proxy only from this address or network. Repeatable
    List "trust-proxy" "TOCSIN_TRUST_PROXY" "ADDR[/BITS]" ["127.0.0.0/8", "::1"; "this machine"]
    restart: values::network => push sockets.trust_proxy;

    /// Serve health checks, status and metrics at PORT (on 127.0.0.1) or ADDR:PORT, or off
    One "admin" "TOCSIN_ADMIN" "ADDR:PORT" ["9092"]
    restart: values::admin_address => set sockets.admin;

    /// Require this key for an action (set, send, broadcast or drop) on a tag, or on every tag without a
    /// rule of its own if TAG is *. The first line of the file is the key or its hash. Repeatable
    Sum "protect" "TOCSIN_PROTECT" "TAG:ACTION:KEYFILE" []
    reload: keys::protect => by policy;

    /// Let everyone who can connect perform an action (set, send or broadcast) on a tag, or on every tag
    /// if TAG is *. Without this, send and broadcast need a key. Repeatable
    Sum "open" "TOCSIN_OPEN" "TAG:ACTION" []
    reload: keys::open => by policy;

    /// Allow pages of another origin to use this server, for example https://shop.example. Repeatable
    Sum "origin" "TOCSIN_ORIGIN" "URL" []
    restart: values::origin => by origins;

    /// Store what is published in this directory, which is created if it is missing. Messages then
    /// survive a restart, a crash and a power failure; without this option they are lost when the
    /// server ends
    One "data" "TOCSIN_DATA" "DIR" []
    restart: values::some_path => set data;

    /// How much the log in the data directory may hold. Beyond that, the oldest entries are
    /// deleted. Entries that are too old for every tag are deleted too
    One "data-size" "TOCSIN_DATA_SIZE" "SIZE" ["1GiB"]
    restart: values::bytes(MIN_LOG..=MAX_LOG) => set data_size;

    /// Share one log with other servers through NATS JetStream, at this address, for example
    /// nats://10.0.0.1:4222 or tls://nats.example. If you give several, the server tries one after
    /// the other. Needs --id-key-file
    List "nats" "TOCSIN_NATS" "URL" []
    restart: values::nats_server => push nats.servers;

    /// The name of the NATS stream, which is created if it is missing
    One "nats-stream" "TOCSIN_NATS_STREAM" "NAME" ["tocsin"]
    restart: values::stream_name => set nats.stream;

    /// How to log in to NATS: a credentials file made by `nsc`, or a file whose first line is
    /// USER:PASSWORD or a token
    One "nats-credentials" "TOCSIN_NATS_CREDENTIALS" "FILE" []
    restart: values::some_path => set nats.credentials;

    /// Trust the certificates in this file for NATS, besides those that the system trusts
    One "nats-ca" "TOCSIN_NATS_CA" "FILE" []
    restart: values::some_path => set nats.ca;

    /// How many NATS servers must have stored a message before it is acknowledged: 1, 3 or 5.
    /// Applies when the stream is created
    One "nats-replicas" "TOCSIN_NATS_REPLICAS" "N" ["3"]
    restart: values::count(1..=MAX_REPLICAS) => set nats.replicas;

    /// How much the stream may hold. Beyond that, the oldest entries are deleted. Entries that are
    /// too old for every tag are deleted too. Applies when the stream is created
    One "nats-size" "TOCSIN_NATS_SIZE" "SIZE" ["1GiB"]
    restart: values::bytes(MIN_LOG..=MAX_LOG) => set nats.size;

    /// The file with the key that hashes IDs, created if it is missing
    One "id-key-file" "TOCSIN_ID_KEY_FILE" "FILE"
    [; "id.key in the data directory; without one, a new key at every start"]
    restart: values::some_path => set id_key_file;

    /// How much memory the retained messages of all tags may take. Beyond that, the oldest messages
    /// are dropped, beginning with the tag that is furthest over its share
    One "max-memory" "TOCSIN_MAX_MEMORY" "SIZE" ["256MiB"]
    reload: values::memory(MIN_MEMORY..=TIB) => set history.max_memory;

    /// Ping a registered connection that was silent for this long
    One "ping-interval" "TOCSIN_PING_INTERVAL" "TIME" ["25s"]
    restart: values::duration(MIN_TIMEOUT..=MAX_TIMEOUT) => set ping_interval;

    /// Close a connection that neither registered nor sent anything valid for this long
    One "idle-timeout" "TOCSIN_IDLE_TIMEOUT" "TIME" ["60s"]
    restart: values::duration(MIN_TIMEOUT..=MAX_TIMEOUT) => set idle_timeout;

    /// How many WebSockets an address may open: N:BURST, N a second and BURST at once, or off. The
    /// server knows addresses only behind --listen-proxy and unix: sockets
    One "connect-rate" "TOCSIN_CONNECT_RATE" "N:BURST" ["200:4096"]
    reload: values::rate => set policy.limits.connect;

    /// How often a connection may register. An address may do so 20 times as often; the same holds
    /// for the next two options
    One "set-rate" "TOCSIN_SET_RATE" "N:BURST" ["50:400"]
    reload: values::rate => set policy.limits.set;

    /// How often a connection may send without a valid key
    One "send-rate" "TOCSIN_SEND_RATE" "N:BURST" ["200:400"]
    reload: values::rate => set policy.limits.send;

    /// How often a connection may give a wrong key
    One "wrong-key-rate" "TOCSIN_WRONG_KEY_RATE" "N:BURST" ["1:10"]
    reload: values::rate => set policy.limits.wrong_key;

    /// How many connections there may be. Further clients get 503 and are asked to come back later
    One "max-connections" "TOCSIN_MAX_CONNECTIONS" "N"
    ["1000000"; "what the limit of open files allows"]
    restart: values::count(1..=MAX_COUNT) => set max_connections;

    /// How many tags may have listeners
    One "max-tags" "TOCSIN_MAX_TAGS" "N" ["100000"]
    restart: values::count(1..=MAX_COUNT) => set registrations.tags;

    /// How many registrations there may be on all tags together
    One "max-registrations" "TOCSIN_MAX_REGISTRATIONS" "N" ["2000000"]
    restart: values::count(1..=MAX_COUNT) => set registrations.registrations;

    /// How much may wait for all clients that read too slowly. The less of it is left, the sooner a
    /// slow client is disconnected
    One "max-backlog" "TOCSIN_MAX_BACKLOG" "SIZE" ["256MiB"]
    restart: values::memory(MIN_BACKLOG..=PIB) => set max_backlog;

    /// Reject new connections while the machine or the control group has less memory left than
    /// this; 0 rejects none
    One "spare-memory" "TOCSIN_SPARE_MEMORY" "SIZE" ["64MiB"]
    restart: values::bytes(0..=PIB) => set spare_memory;

    /// How many threads serve connections
    One "threads" "TOCSIN_THREADS" "N" [; "one for each core"]
    restart: values::threads => set threads;

    /// Serve the demo page at / and print the key of its administrator
    Flag "demo" "TOCSIN_DEMO" "" []
    restart: values::flag => set demo;

    /// What to log: a level, or tracing directives
    One "log" "TOCSIN_LOG" "FILTER" ["info,async_nats=warn"; "info"]
    restart: values::log_filter => set log;

    /// How to log: text or json
    One "log-format" "TOCSIN_LOG_FORMAT" "FORMAT" ["text"]
    restart: values::log_format => set log_format;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::access::rate_limit::Limits;
    use crate::config::cli::RunArgs;
    use crate::hub::RegistrationLimits;
    use crate::hub::history::Settings;
    use crate::limits;

    #[test]
    fn a_variable_has_the_name_of_its_option() {
        for option in OPTIONS {
            let name = option.name.to_uppercase().replace('-', "_");
            assert_eq!(option.variable, format!("TOCSIN_{name}"));
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_parts_that_they_configure() {
        let config = Config::resolve(RunArgs::default()).unwrap();
        assert_eq!(config.policy.limits, Limits::default());
        assert_eq!(config.registrations, RegistrationLimits::default());
        assert_eq!(config.history, Settings::default());
        assert_eq!(config.max_backlog, limits::BACKLOG);
    }

    #[test]
    fn the_documentation_names_every_option() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let docs = fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        let text: String = docs
            .chain([top.join("README.md")])
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        for option in OPTIONS {
            let forms = [
                format!("--{}", option.name),
                format!("`{}`", option.name),
                format!("\n{} =", option.name),
            ];
            assert!(forms.iter().any(|form| text.contains(form)), "{}", option.name);
        }
    }
}
