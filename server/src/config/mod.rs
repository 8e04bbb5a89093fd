//! Options, environment and file, checked and made one before anything is bound.

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
mod values;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cli::RunArgs;
use file::ConfigFile;
use given::GivenOptions;
use shared::telemetry::LogFormat;
use table::OPTIONS;

use crate::access::auth::{Key, Protectable};
use crate::access::policy::Policy;
use crate::error::Error;
use crate::http::origin::Origins;
use crate::hub::RegistrationLimits;
use crate::hub::history::Settings;
use crate::id::Tag;
use crate::log::nats::NatsConfig;
use crate::net::addresses::ListenSettings;

/// Everything that running depends on.
#[derive(Debug, Default)]
pub struct Config {
    /// Where to listen.
    pub(crate) sockets: ListenSettings,
    /// Keys, tags, and how often something may be done.
    pub(crate) policy: Policy,
    /// How much of each tag is kept.
    pub(crate) keeping: Settings,
    /// The directory of a log on disk, if there is one.
    pub(crate) data: Option<PathBuf>,
    /// How many bytes of entries it may hold; beyond, the oldest go.
    pub(crate) data_size: u64,
    /// The stream that this server shares with others; without servers of NATS it shares none.
    pub(crate) nats: NatsConfig,
    /// The file with the key that turns IDs into addresses; without one the key is that of the
    /// data directory, or of this run.
    pub(crate) id_key_file: Option<PathBuf>,
    /// The pages that may use the server besides those of its own name.
    pub(crate) origins: Origins,
    /// Whether the demo page is served.
    pub(crate) demo: bool,
    /// The key that the demo's administrator needs, if it was made for this run.
    pub(crate) demo_key: Option<Key>,
    /// A registered connection is pinged after this much silence.
    pub(crate) ping_interval: Duration,
    /// How long a connection may be good for nothing.
    pub(crate) idle_timeout: Duration,
    /// What is logged: a level, or tracing directives.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Connections; fewer if the limit of open files is lower.
    pub(crate) max_connections: usize,
    /// What is registered.
    pub(crate) registrations: RegistrationLimits,
    /// Bytes that wait for all sockets together.
    pub(crate) max_backlog: usize,
    /// Bytes of memory below which newcomers are told to come back; 0: never.
    pub(crate) spare_memory: u64,
    /// Threads that serve.
    pub(crate) threads: Threads,
    /// What is right but hardly meant.
    pub(crate) warnings: Vec<String>,
}

/// How many threads serve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads(pub(crate) NonZeroUsize);

/// One for each core.
impl Default for Threads {
    fn default() -> Self {
        Self(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

/// The demo of a server that runs.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    /// Whether its page is served.
    pub(crate) served: bool,
    /// The key that its administrator needs, if one was made.
    pub(crate) key: Option<Key>,
}

/// As it was when the server began.
#[derive(Debug, Clone)]
pub(crate) struct FixedOptions {
    /// The options that a running server cannot change, each with its value.
    options: Vec<(&'static str, String)>,
    /// What is kept and protected, where others that share the log must keep and protect the same.
    agreed: Option<(Settings, Vec<(Tag, Protectable)>)>,
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
    pub(crate) fn resolve_again(args: RunArgs, demo: Demo) -> Result<Self, Vec<Error>> {
        Self::resolve_with(args, Some(demo))
    }

    fn resolve_with(args: RunArgs, running: Option<Demo>) -> Result<Self, Vec<Error>> {
        let mut resolver = Resolver::default();
        let file = match &args.config {
            Some(path) => ConfigFile::read(path, &mut resolver.faults),
            None => ConfigFile::default(),
        };
        // The environment of a server that runs does not change.
        if running.is_none() {
            let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            resolver.config.warnings = names::stray(variables);
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
        resolver.demo(running);
        resolver.history(&file.history, &file.tags);
        match resolver.faults.is_empty() {
            true => Ok(resolver.config),
            false => Err(faults::in_order(resolver.faults, &file.unreadable)),
        }
    }

    /// Where to listen.
    #[must_use]
    pub fn sockets(&self) -> &ListenSettings {
        &self.sockets
    }

    /// The stream that this server shares with others, if it does.
    pub(crate) fn cluster(&self) -> Option<&NatsConfig> {
        (!self.nats.servers.is_empty()).then_some(&self.nats)
    }

    /// What a running server cannot change.
    pub(crate) fn fixed(&self) -> FixedOptions {
        let agreed = self.cluster().map(|_| (self.keeping.clone(), self.policy.auth.protected()));
        let value = |option: &table::OptionSpec| Some((option.name, option.fixed?(self)));
        FixedOptions { options: OPTIONS.iter().filter_map(value).collect(), agreed }
    }
}

impl FixedOptions {
    /// The options that are another way in `other`.
    pub(crate) fn changed(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.options.iter().zip(&other.options);
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| *name).collect()
    }

    /// Whether `other` keeps or protects something else than the servers have agreed on.
    pub(crate) fn disagrees(&self, other: &Self) -> bool {
        self.agreed.is_some() && self.agreed != other.agreed
    }
}

/// Goes on after a fault, to find the others.
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

    /// What the log excludes and needs, according to where it is.
    fn log_options(&mut self, options: &mut GivenOptions) {
        let useless = OPTIONS.iter().filter(|option| option.name.starts_with("nats-"));
        match (options.first("nats").is_some(), options.first("data")) {
            (true, data) => {
                let reason =
                    "the log is either in a directory or in NATS; leave out --data or --nats";
                self.faults.extend(data.map(|data| data.source.fault(reason.into())));
                if options.first("id-key-file").is_none() {
                    let reason = "--id-key-file is needed too: all servers must have the same key for IDs; \
                         copy one file to all of them";
                    self.faults.push(Error::Option { option: "nats", reason: reason.into() });
                }
            }
            (false, _) => {
                for setting in useless.flat_map(|option| options.remove(option.name)) {
                    self.faults.push(setting.source.fault("means nothing without --nats".into()));
                }
            }
        }
        if options.first("data").is_none() {
            let useless = options.first("data-size");
            let warning = useless.map(|size| size.source.warning("means nothing without --data"));
            self.config.warn(warning);
        }
    }
}

impl Config {
    /// Once, however often it comes up.
    fn warn(&mut self, warning: Option<String>) {
        self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
    }
}
