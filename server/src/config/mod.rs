//! Options, environment and file, checked and made one before anything is bound.

mod bounds;
pub(crate) mod cli;
mod cluster;
mod faults;
mod file;
mod fixed;
mod keeping;
mod keys;
mod names;
mod setting;
mod values;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use bounds::Capacity;
use cluster::NatsSettings;
use file::ConfigFile;
pub(crate) use fixed::Fixed;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use setting::Setting;
use shared::telemetry;

use crate::access::policy::Policy;
use crate::config::cli::RunArgs;
use crate::error::Error;
use crate::http::origin::Origins;
use crate::hub::history::Settings;
use crate::log::nats::Cluster;
use crate::protocol::Key;

const PORT: u16 = 9090;
const DEFAULT_ADMIN: Option<ListenAddress> = Some(ListenAddress {
    socket: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092),
    given: false,
});
/// Whom a proxy on this machine connects from.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];
const MOST_THREADS: u64 = 1_024;
const PING_INTERVAL: Duration = Duration::from_secs(25);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The ping wheel's slots are a millisecond apart at least.
const SHORTEST: Duration = Duration::from_millis(300);
/// More is no time-out.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const DATA_SIZE: u64 = 1 << 30;
/// A few of the largest messages.
const LEAST_DATA: u64 = 1 << 20;

/// Everything that running depends on.
#[derive(Debug)]
pub struct Config {
    /// Where to take connections.
    pub listen: Vec<Listen>,
    /// Where to take connections that begin with a PROXY header.
    pub listen_proxy: Vec<ListenAddress>,
    /// From whom such a header is believed.
    pub trust_proxy: Vec<IpNet>,
    /// Where to answer administrators.
    pub admin: Option<ListenAddress>,
    /// Keys, tags, and how often something may be done.
    pub policy: Policy,
    /// How much of each tag is kept.
    pub keeping: Settings,
    /// Where the log is kept on disk, if it is.
    pub data: Option<Data>,
    /// The stream that this server shares with others, if it does.
    pub nats: Option<Cluster>,
    /// The file with the key that turns IDs into addresses; without one the key is that of the
    /// data directory, or of this run.
    pub id_key_file: Option<PathBuf>,
    /// The pages that may use the server besides those of its own name.
    pub origins: Origins,
    /// Whether the demo page is served.
    pub demo: bool,
    /// The key that the demo's administrator needs, if it was made for this run.
    pub demo_key: Option<Key>,
    /// A registered connection is pinged after this much silence.
    pub ping_interval: Duration,
    /// How long a connection may be good for nothing.
    pub idle_timeout: Duration,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: telemetry::LogFormat,
    /// How much there may be in all.
    pub bounds: Capacity,
    /// Threads that serve.
    pub threads: NonZeroUsize,
    /// What is right but hardly meant.
    pub warnings: Vec<String>,
}

/// The demo of a server that runs.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Whether its page is served.
    pub served: bool,
    /// The key that its administrator needs, if one was made.
    pub key: Option<Key>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// At an address.
    Tcp(ListenAddress),
    /// At a path; connections begin with a PROXY header.
    Unix(PathBuf),
}

/// An address to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// Where.
    pub socket: SocketAddr,
    /// Whether somebody asked for it. What is only a default may be missing on a machine.
    pub given: bool,
}

/// A log on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Its directory.
    pub dir: PathBuf,
    /// How many bytes of entries it may hold; beyond, the oldest go.
    pub size: u64,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", address.socket),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Config {
    /// Reads the configuration file, if one is named, and checks everything. What the command
    /// line or the environment says wins over the file; lists of keys and origins add up.
    ///
    /// # Errors
    /// Everything that is wrong, from the top of the file to its end, at least one.
    pub fn resolve(args: RunArgs) -> Result<Self, Vec<Error>> {
        Self::resolve_with(args, None)
    }

    /// The same for a server that runs already. It has begun with or without the `demo` and goes on
    /// so, whatever the configuration says by now: what the demo shows stays protected by its key,
    /// and nothing is protected for a demo that is not served.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn resolve_again(args: RunArgs, demo: Demo) -> Result<Self, Vec<Error>> {
        Self::resolve_with(args, Some(demo))
    }

    fn resolve_with(args: RunArgs, running: Option<Demo>) -> Result<Self, Vec<Error>> {
        let mut faults = Vec::new();
        let file = match &args.config {
            Some(path) => ConfigFile::read(path, &mut faults),
            None => ConfigFile::default(),
        };
        let one = |name, given: Option<String>, file: Option<Setting>| {
            given.map(|text| Setting::option(name, text)).or(file)
        };
        let listen = match args.listen.is_empty() {
            true => file.listen,
            false => options("--listen", args.listen),
        };
        let listen_proxy = match args.listen_proxy.is_empty() {
            true => file.listen_proxy,
            false => options("--listen-proxy", args.listen_proxy),
        };
        let trust_proxy = match args.trust_proxy.is_empty() {
            true => file.trust_proxy,
            false => options("--trust-proxy", args.trust_proxy),
        };
        let protect = [options("--protect", args.protect), file.protect].concat();
        let origin = [options("--origin", args.origin), file.origin].concat();
        let admin = one("--admin", args.admin, file.admin);
        let data = one("--data", args.data, file.data);
        let data_size = one("--data-size", args.data_size, file.data_size);
        let nats = NatsSettings {
            servers: match args.nats.nats.is_empty() {
                true => file.nats.servers,
                false => options("--nats", args.nats.nats),
            },
            stream: one("--nats-stream", args.nats.nats_stream, file.nats.stream),
            credentials: one(
                "--nats-credentials",
                args.nats.nats_credentials,
                file.nats.credentials,
            ),
            ca: one("--nats-ca", args.nats.nats_ca, file.nats.ca),
            replicas: one("--nats-replicas", args.nats.nats_replicas, file.nats.replicas),
            size: one("--nats-size", args.nats.nats_size, file.nats.size),
        };
        let id_key_file = one("--id-key-file", args.id_key_file, file.id_key_file);
        let max_memory = one("--max-memory", args.max_memory, file.max_memory);
        let ping_interval = one("--ping-interval", args.ping_interval, file.ping_interval);
        let idle_timeout = one("--idle-timeout", args.idle_timeout, file.idle_timeout);
        let log = one("--log", args.log, file.log);
        let log_format = one("--log-format", args.log_format, file.log_format);

        let rates = [
            one("--connect-rate", args.rates.connect_rate, file.rates.connect),
            one("--set-rate", args.rates.set_rate, file.rates.set),
            one("--send-rate", args.rates.send_rate, file.rates.send),
            one("--wrong-key-rate", args.rates.wrong_key_rate, file.rates.wrong_key),
        ];

        let threads = one("--threads", args.threads, file.threads);
        let bounds = [
            one("--max-connections", args.bounds.max_connections, file.bounds.connections),
            one("--max-tags", args.bounds.max_tags, file.bounds.tags),
            one("--max-registrations", args.bounds.max_registrations, file.bounds.registrations),
            one("--max-backlog", args.bounds.max_backlog, file.bounds.backlog),
            one("--spare-memory", args.bounds.spare_memory, file.bounds.spare_memory),
        ];

        let mut checked = Checking { faults, warnings: Vec::new() };
        // The environment of a server that runs does not change.
        if running.is_none() {
            let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            checked.warnings = names::stray(variables);
        }
        let (mut auth, declared_tags) = checked.auth(&protect, &file.tags);
        let demo = args.demo || file.demo;
        let Demo { served, key } = running.unwrap_or(Demo { served: demo, key: None });
        let demo_key =
            checked.or(None, if served { keys::demo_key(&mut auth, key) } else { Ok(None) });
        let cluster = checked.cluster(&nats);
        if cluster.is_some() {
            checked.alone(data.as_ref(), id_key_file.as_ref());
        }
        if let (None, Some(useless)) = (&data, &data_size) {
            checked.warn(Some(useless.source.warning("means nothing without --data")));
        }
        let data_size = checked.or(DATA_SIZE, size(data_size.as_ref()));
        let config = Self {
            listen: checked.listen(&listen),
            listen_proxy: checked.all(&listen_proxy, values::addresses),
            trust_proxy: checked.trust(&trust_proxy),
            admin: checked
                .or(None, admin.as_ref().map_or(Ok(DEFAULT_ADMIN), values::admin_address)),
            keeping: checked.keeping(max_memory.as_ref(), &file.keep, &file.tags, &auth),
            data: data.map(|dir| Data { dir: dir.source.path(&dir.text), size: data_size }),
            nats: cluster,
            id_key_file: id_key_file.map(|file| file.source.path(&file.text)),
            policy: Policy { auth, declared_tags, limits: checked.rates(&rates) },
            origins: checked.origins(&origin),
            demo,
            demo_key,
            ping_interval: checked
                .or(PING_INTERVAL, interval(ping_interval.as_ref(), PING_INTERVAL)),
            idle_timeout: checked.or(IDLE_TIMEOUT, interval(idle_timeout.as_ref(), IDLE_TIMEOUT)),
            bounds: checked.in_all(&bounds),
            threads: checked.threads(threads.as_ref()),
            log: checked.or(String::new(), values::log_filter(log)),
            log_format: checked.or(telemetry::LogFormat::Text, values::log_format(log_format)),
            warnings: checked.warnings,
        };
        match checked.faults.is_empty() {
            true => Ok(config),
            false => Err(faults::in_order(checked.faults, &file.unreadable)),
        }
    }
}

/// Goes on after a fault, to find the others.
struct Checking {
    faults: Vec<Error>,
    warnings: Vec<String>,
}

impl Checking {
    fn or<T>(&mut self, instead: T, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|fault| {
            self.faults.push(fault);
            instead
        })
    }

    /// What a log in NATS excludes and needs.
    fn alone(&mut self, data: Option<&Setting>, id_key_file: Option<&Setting>) {
        if let Some(data) = data {
            let reason = "the log is either in a directory or in NATS; leave out --data or --nats";
            self.or((), Err(data.source.fault(reason.into())));
        }
        if id_key_file.is_none() {
            let reason =
                "--id-key-file is needed too: all servers must have the same key for IDs; \
                 copy one file to all of them"
                    .into();
            self.or((), Err(Error::Option { option: "--nats", reason }));
        }
    }

    /// Once, however often it comes up.
    fn warn(&mut self, warning: Option<String>) {
        self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
    }

    fn listen(&mut self, settings: &[Setting]) -> Vec<Listen> {
        if settings.is_empty() {
            return values::loopback(PORT).map(Listen::Tcp).into();
        }
        self.all(settings, values::places)
    }

    fn trust(&mut self, settings: &[Setting]) -> Vec<IpNet> {
        if settings.is_empty() {
            return LOOPBACK.into();
        }
        self.all(settings, |setting| values::network(setting).map(|network| vec![network]))
    }

    /// One for each core unless given.
    fn threads(&mut self, setting: Option<&Setting>) -> NonZeroUsize {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let given = setting.map(|setting| values::count(setting, 1..=MOST_THREADS));
        let count = given.and_then(|count| self.or(None, count.map(Some)));
        let count = count.and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?));
        count.unwrap_or(cores)
    }

    fn all<T>(
        &mut self,
        settings: &[Setting],
        of: impl Fn(&Setting) -> Result<Vec<T>, Error>,
    ) -> Vec<T> {
        settings.iter().flat_map(|setting| self.or(Vec::new(), of(setting))).collect()
    }

    fn origins(&mut self, settings: &[Setting]) -> Origins {
        let mut origins = Origins::default();
        for setting in settings {
            let allowed = origins.allow(&setting.text);
            self.or((), allowed.map_err(|error| setting.fault(&error.to_string())));
        }
        origins
    }
}

fn options(name: &'static str, texts: Vec<String>) -> Vec<Setting> {
    texts.into_iter().map(|text| Setting::option(name, text)).collect()
}

fn interval(setting: Option<&Setting>, default: Duration) -> Result<Duration, Error> {
    setting.map_or(Ok(default), |setting| values::duration(setting, SHORTEST..=LONGEST))
}

fn size(setting: Option<&Setting>) -> Result<u64, Error> {
    setting.map_or(Ok(DATA_SIZE), |setting| values::bytes(setting, LEAST_DATA..=i64::MAX as u64))
}
