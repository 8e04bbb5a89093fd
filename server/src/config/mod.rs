//! The configuration from the command line, the environment and the file, checked before the server
//! binds a socket.

pub(crate) mod cli;
mod faults;
mod file;
mod given;
mod history;
mod keys;
mod names;
mod setting;
mod sockets;
mod table;
mod tags;
mod values;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cli::RunArgs;
use file::ConfigFile;
use given::GivenOptions;
use shared::telemetry::LogFormat;
use table::OPTIONS;

use crate::access::auth::Guarded;
use crate::access::policy::Policy;
use crate::error::Error;
use crate::http::origin::Origins;
use crate::hub::RegistrationLimits;
use crate::hub::history::Settings;
use crate::log::nats::NatsConfig;
use crate::net::addresses::ListenSettings;
use crate::protocol::Key;

/// The configuration of a server.
#[derive(Debug, Default)]
pub struct Config {
    /// The addresses to listen on.
    pub sockets: ListenSettings,
    pub(crate) policy: Policy,
    pub(crate) history: Settings,
    /// The directory of the log on disk, if there is one.
    pub(crate) data: Option<PathBuf>,
    /// The most bytes of entries in the log on disk.
    pub(crate) data_size: u64,
    /// The stream that this server shares with others; see [`Config::cluster`].
    pub(crate) nats: NatsConfig,
    /// The file with the key that hashes IDs. If `None`, the key is in the data directory, and
    /// without a data directory the server makes a new key at each start.
    pub(crate) id_key_file: Option<PathBuf>,
    pub(crate) origins: Origins,
    pub(crate) demo: bool,
    /// Whether a running server reads the configuration again.
    is_reloaded: bool,
    /// Whether the server makes a key for sending, because the configuration gives none.
    pub(crate) makes_key: bool,
    /// The key of the demo's administrator, if one was made for this run.
    pub(crate) demo_key: Option<Key>,
    pub(crate) ping_interval: Duration,
    pub(crate) idle_timeout: Duration,
    /// What to log: a level, or tracing directives.
    pub log: String,
    /// The format of log lines: for people or for programs.
    pub log_format: LogFormat,
    /// The most connections at the same time. The limit of open files may allow fewer.
    pub(crate) max_connections: usize,
    pub(crate) registrations: RegistrationLimits,
    /// The bytes that may wait for all sockets together.
    pub(crate) max_backlog: usize,
    /// The server rejects connections while less memory than this is free, in bytes.
    pub(crate) spare_memory: u64,
    pub(crate) threads: Threads,
    /// Warnings about settings that are valid but probably a mistake.
    pub(crate) warnings: Vec<String>,
}

/// The number of threads that serve connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads(pub(crate) NonZeroUsize);

/// One thread for each core.
impl Default for Threads {
    fn default() -> Self {
        Self(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

/// Whether a server serves the demo page, and the demo's key.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    pub(crate) served: bool,
    /// The key of the demo's administrator, if one was made.
    pub(crate) key: Option<Key>,
}

/// The settings that a reload cannot change.
#[derive(Debug, Clone)]
pub(crate) struct FixedOptions {
    /// The options that only a restart changes, each with its value.
    options: Vec<(&'static str, String)>,
    /// The history settings and the rules of who may do what, if several servers share the log: all
    /// servers must have the same.
    agreed: Option<(Settings, Vec<Guarded>, Vec<Guarded>)>,
}

impl Config {
    /// Reads the configuration file, if the arguments name one, and checks all settings. The
    /// command line and the environment win over the file; keys and origins of both are added up.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn resolve(args: RunArgs) -> Result<Self, Vec<Error>> {
        Self::resolve_for(args, None)
    }

    /// Resolves the configuration of a new server, as [`Config::resolve`] does. If `running` is
    /// given, resolves that of a server that reloads: its demo and the demo's key stay as they are,
    /// whatever the new configuration contains.
    pub(crate) fn resolve_for(args: RunArgs, running: Option<Demo>) -> Result<Self, Vec<Error>> {
        let mut resolver = Resolver::default();
        resolver.config.is_reloaded = running.is_some();
        let file = match &args.config {
            Some(path) => ConfigFile::read(path, running.is_some(), &mut resolver.faults),
            None => ConfigFile::default(),
        };
        // The environment of a running server does not change, so a reload does not warn again.
        if running.is_none() {
            let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            resolver.config.warnings = names::unknown_variables(variables);
        }
        let mut options = args.options.over(file.options);
        resolver.log_options(&mut options);
        for option in OPTIONS {
            for setting in options.of(option) {
                let set = (option.set)(&mut resolver.config, &setting);
                resolver.or((), set);
            }
        }
        resolver.tags(&file.tags);
        resolver.config.makes_key = resolver.config.policy.auth.lacks_key();
        let demo = running.unwrap_or(Demo { served: resolver.config.demo, key: None });
        let protected = resolver.config.protect_demo(demo);
        resolver.or((), protected);
        resolver.history(&file.history, &file.tags);
        match resolver.faults.is_empty() {
            true => Ok(resolver.config),
            false => Err(faults::in_order(resolver.faults, &file.unreadable)),
        }
    }

    /// The stream that this server shares with others, if there is one.
    pub(crate) fn cluster(&self) -> Option<&NatsConfig> {
        (!self.nats.servers.is_empty()).then_some(&self.nats)
    }

    pub(crate) fn fixed(&self) -> FixedOptions {
        let auth = &self.policy.auth;
        let agreed =
            self.cluster().map(|_| (self.history.clone(), auth.protected(), auth.opened()));
        let value = |option: &table::OptionSpec| Some((option.name, option.fixed?(self)));
        FixedOptions { options: OPTIONS.iter().filter_map(value).collect(), agreed }
    }
}

impl FixedOptions {
    /// The options whose values differ between `self` and `other`.
    pub(crate) fn changed(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.options.iter().zip(&other.options);
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| *name).collect()
    }

    /// Whether `other` differs from the settings that all servers of the stream must have.
    pub(crate) fn disagrees(&self, other: &Self) -> bool {
        self.agreed.is_some() && self.agreed != other.agreed
    }
}

/// Builds a configuration. It continues after a fault, to find all faults.
#[derive(Default)]
struct Resolver {
    config: Config,
    faults: Vec<Error>,
}

impl Resolver {
    fn or<T>(&mut self, instead: T, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|fault| {
            self.faults.push(fault);
            instead
        })
    }

    /// Reports options that do not fit the place of the log: memory, a directory or NATS.
    fn log_options(&mut self, options: &mut GivenOptions) {
        if options.first("nats").is_none() {
            for option in OPTIONS.iter().filter(|option| option.name.starts_with("nats-")) {
                for setting in options.remove(option.name) {
                    self.faults.push(setting.source.fault("has no effect without --nats".into()));
                }
            }
        } else {
            let both = "the log is either in a directory or in NATS; remove --data or --nats";
            self.faults.extend(options.first("data").map(|data| data.source.fault(both.into())));
            if options.first("id-key-file").is_none() {
                let reason = "--id-key-file is missing: all servers must have the same key for IDs; \
                              copy one file to all of them";
                self.faults.push(Error::Option { option: "nats", reason: reason.into() });
            }
        }
        if let (None, Some(size)) = (options.first("data"), options.first("data-size")) {
            self.config.warn(Some(size.source.warning("has no effect without --data")));
        }
    }
}

impl Config {
    /// Adds a warning, unless the list already has it.
    fn warn(&mut self, warning: Option<String>) {
        self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
    }
}
