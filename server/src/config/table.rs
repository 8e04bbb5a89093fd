//! The table of options, in which each is written once. From it come the arguments of the command
//! line, the names of the environment and the file, the defaults, and what a reload may change.

use std::time::Duration;

use super::setting::Setting;
use super::{Config, keys, values};
use crate::error::Error;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const PIB: u64 = 1 << 50;
const MOST_OF_ANYTHING: u64 = 1 << 32;
/// SQLite and NATS take sizes as signed numbers.
const LARGEST_LOG: u64 = i64::MAX as u64;
/// A few of the largest messages.
const SMALLEST_LOG: u64 = MIB;
/// Less memory could not hold the largest messages of a few people.
const LEAST_MEMORY: u64 = MIB;
/// One outbox may have a sixty-fourth of it: two of the largest messages.
const LEAST_BACKLOG: u64 = 8 * MIB;
/// NATS has no streams with more.
const MOST_REPLICAS: u64 = 5;
/// The ping wheel's slots are a millisecond apart at least.
const SHORTEST: Duration = Duration::from_millis(300);
/// More is no time-out.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// An option of the running server.
pub(super) struct OptionSpec {
    /// In the file; with two dashes before it on the command line.
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    /// What help calls its value.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    /// What it is if nobody gives it, written as somebody would give it.
    pub(super) defaults: &'static [&'static str],
    /// What help says of the default, where that is not its text.
    pub(super) default_words: &'static str,
    pub(super) kind: OptionKind,
    /// Parses one value and puts it into the configuration.
    pub(super) set: fn(&mut Config, &Setting) -> Result<(), Error>,
    /// The value, to be compared after a reload; `None` if a reload may change it.
    pub(super) fixed: Option<fn(&Config) -> String>,
}

/// How often an option may be given, and what is done with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionKind {
    Flag,
    One,
    /// The command line's replace the file's.
    List,
    /// The command line's are added to the file's.
    Sum,
}

/// An entry reads: help; kind, name, environment variable, value's name; `[defaults; what help says of
/// them]`; `restart` or `reload`, whichever makes a change hold; parser; field of [`Config`].
///
/// What the parser makes of a value is `set` as the field, or added to it by `push` or `extend`. A
/// parser that stands before `by` changes the configuration itself.
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
    /// Where to take connections: PORT (on 127.0.0.1 and ::1), ADDR:PORT, or unix:PATH, where each
    /// begins with a PROXY header; repeatable
    List "listen" "TOCSIN_LISTEN" "ADDR:PORT" ["9090"]
    restart: values::places => extend sockets.listen;

    /// Where to take connections that begin with a PROXY header, which names the client: PORT (on
    /// 127.0.0.1 and ::1) or ADDR:PORT; repeatable. Start the gate with --proxy-protocol v2
    List "listen-proxy" "TOCSIN_LISTEN_PROXY" "ADDR:PORT" []
    restart: values::addresses => extend sockets.listen_proxy;

    /// Who may connect there: an address or a network; repeatable
    List "trust-proxy" "TOCSIN_TRUST_PROXY" "ADDR[/BITS]" ["127.0.0.0/8", "::1"; "this machine"]
    restart: values::network => push sockets.trust_proxy;

    /// Where to answer /healthz and /status: PORT (on 127.0.0.1), ADDR:PORT, or off
    One "admin" "TOCSIN_ADMIN" "ADDR:PORT" ["9092"]
    restart: values::admin_address => set sockets.admin;

    /// Demand a key for an action (set, send, broadcast, drop) on a tag; the file's first line is
    /// the key or its hash; repeatable
    Sum "protect" "TOCSIN_PROTECT" "TAG:ACTION:KEYFILE" []
    reload: keys::protect => by policy;

    /// Let pages of another name use this server, such as `https://shop.example`; repeatable
    Sum "origin" "TOCSIN_ORIGIN" "URL" []
    restart: values::origin => by origins;

    /// Keep what is published in this directory, made if missing: it survives the server, a crash
    /// and a power cut. Without it, what is kept ends with the server
    One "data" "TOCSIN_DATA" "DIR" []
    restart: values::some_path => set data;

    /// How much the data directory may hold: beyond, and beyond its age, the oldest goes
    One "data-size" "TOCSIN_DATA_SIZE" "SIZE" ["1GiB"]
    restart: values::bytes(SMALLEST_LOG..=LARGEST_LOG) => set data_size;

    /// Share one log with other servers, in NATS JetStream: its servers, such as
    /// nats://10.0.0.1:4222 or tls://nats.example; several are tried in turn. Needs --id-key-file
    List "nats" "TOCSIN_NATS" "URL" []
    restart: values::nats_server => push nats.servers;

    /// The stream, made if missing
    One "nats-stream" "TOCSIN_NATS_STREAM" "NAME" ["tocsin"]
    restart: values::stream_name => set nats.stream;

    /// How to log in to NATS: a file of `nsc`, or one whose first line is USER:PASSWORD or a token
    One "nats-credentials" "TOCSIN_NATS_CREDENTIALS" "FILE" []
    restart: values::some_path => set nats.credentials;

    /// Certificates to trust for NATS, besides those that this system trusts
    One "nats-ca" "TOCSIN_NATS_CA" "FILE" []
    restart: values::some_path => set nats.ca;

    /// On how many nodes of NATS a message is before it is acknowledged: 1, 3 or 5, when the stream
    /// is made
    One "nats-replicas" "TOCSIN_NATS_REPLICAS" "N" ["3"]
    restart: values::count(1..=MOST_REPLICAS) => set nats.replicas;

    /// How much the stream may hold: beyond, and beyond its age, the oldest goes; when the stream is
    /// made
    One "nats-size" "TOCSIN_NATS_SIZE" "SIZE" ["1GiB"]
    restart: values::bytes(SMALLEST_LOG..=LARGEST_LOG) => set nats.size;

    /// A file with the key that IDs are hashed with, made if missing
    One "id-key-file" "TOCSIN_ID_KEY_FILE" "FILE"
    [; "id.key in the data directory, or a key of this run without one"]
    restart: values::some_path => set id_key_file;

    /// How much memory the kept messages of all tags take: beyond, the oldest goes, first of the
    /// tag furthest over its share
    One "max-memory" "TOCSIN_MAX_MEMORY" "SIZE" ["256MiB"]
    reload: values::memory(LEAST_MEMORY..=TIB) => set keeping.max_memory;

    /// Ping a registered connection after this much silence
    One "ping-interval" "TOCSIN_PING_INTERVAL" "TIME" ["25s"]
    restart: values::duration(SHORTEST..=LONGEST) => set ping_interval;

    /// Close a connection that neither registers nor does anything valid for so long
    One "idle-timeout" "TOCSIN_IDLE_TIMEOUT" "TIME" ["60s"]
    restart: values::duration(SHORTEST..=LONGEST) => set idle_timeout;

    /// How often an address may open a WebSocket: N:BURST, N a second and so many at once, or off.
    /// Addresses are known behind --listen-proxy and unix:
    One "connect-rate" "TOCSIN_CONNECT_RATE" "N:BURST" ["200:4096"]
    reload: values::rate => set policy.limits.connect;

    /// How often a connection may register; an address 20 times that, also of the next two
    One "set-rate" "TOCSIN_SET_RATE" "N:BURST" ["50:400"]
    reload: values::rate => set policy.limits.set;

    /// How often a connection may send without a right key
    One "send-rate" "TOCSIN_SEND_RATE" "N:BURST" ["200:400"]
    reload: values::rate => set policy.limits.send;

    /// How often a connection may give a wrong key
    One "wrong-key-rate" "TOCSIN_WRONG_KEY_RATE" "N:BURST" ["1:10"]
    reload: values::rate => set policy.limits.wrong_key;

    /// Connections; further ones are told to come back (503)
    One "max-connections" "TOCSIN_MAX_CONNECTIONS" "N"
    ["1000000"; "what the limit of open files allows"]
    restart: values::count(1..=MOST_OF_ANYTHING) => set max_connections;

    /// Tags that anyone listens on
    One "max-tags" "TOCSIN_MAX_TAGS" "N" ["100000"]
    restart: values::count(1..=MOST_OF_ANYTHING) => set registrations.tags;

    /// Registrations on all tags together
    One "max-registrations" "TOCSIN_MAX_REGISTRATIONS" "N" ["2000000"]
    restart: values::count(1..=MOST_OF_ANYTHING) => set registrations.registrations;

    /// What may wait for all clients that read too slowly together; the less of it is left, the
    /// sooner each is closed
    One "max-backlog" "TOCSIN_MAX_BACKLOG" "SIZE" ["256MiB"]
    restart: values::memory(LEAST_BACKLOG..=PIB) => set max_backlog;

    /// Tell newcomers to come back while less memory than this is left, on the machine or in a
    /// control group; 0 for never
    One "spare-memory" "TOCSIN_SPARE_MEMORY" "SIZE" ["64MiB"]
    restart: values::bytes(0..=PIB) => set spare_memory;

    /// Threads that serve
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
