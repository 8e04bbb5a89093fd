//! Options, environment and file, checked and made one before anything is bound.

mod file;
mod setting;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use file::{File, TagTable};
use setting::Setting;
use shared::telemetry;

use crate::auth::{Auth, Key, KeyHash, Protectable};
use crate::cli::RunArgs;
use crate::error::Error;
use crate::id::{Tag, random_hex};
use crate::keep::{Settings, TagBounds};
use crate::origin::Origins;
use crate::secret;

const PORT: u16 = 9090;
/// The memory for kept messages, of all tags together.
const MAX_MEMORY: usize = 256 * 1024 * 1024;
/// Where the demo's administrator broadcasts to.
const DEMO_TAG: &str = "notifications";
const DEFAULT_ADMIN: Option<Address> =
    Some(Address { socket: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092), given: false });
const PING_INTERVAL: Duration = Duration::from_secs(25);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The ping wheel's slots are a millisecond apart at least.
const SHORTEST: Duration = Duration::from_millis(300);

/// Everything that running depends on.
#[derive(Debug)]
pub struct Config {
    /// Where to take connections.
    pub listen: Vec<Address>,
    /// Where to answer administrators.
    pub admin: Option<Address>,
    /// The protected pairs and their keys.
    pub auth: Auth,
    /// The tags that there are; `None` if any may be used.
    pub declared_tags: Option<HashSet<Tag>>,
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
    /// What is kept for those who are away.
    pub keeping: Settings,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: telemetry::LogFormat,
}

/// An address to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Where.
    pub socket: SocketAddr,
    /// Whether somebody asked for it. What is only a default may be missing on a machine.
    pub given: bool,
}

impl Config {
    /// Reads the configuration file, if one is named, and checks everything. What the command
    /// line or the environment says wins over the file; lists of keys and origins add up.
    ///
    /// # Errors
    /// Everything that is wrong, in no particular order, at least one.
    pub fn resolve(args: RunArgs) -> Result<Self, Vec<Error>> {
        let mut faults = Vec::new();
        let file = match &args.config {
            Some(path) => File::read(path, &mut faults),
            None => File::default(),
        };
        let one = |name, given: Option<String>, file: Option<Setting>| {
            given.map(|text| Setting::option(name, text)).or(file)
        };
        let listen = match args.listen.is_empty() {
            true => file.listen,
            false => options("--listen", args.listen),
        };
        let protect = [options("--protect", args.protect), file.protect].concat();
        let origin = [options("--origin", args.origin), file.origin].concat();
        let admin = one("--admin", args.admin, file.admin);
        let ping_interval = one("--ping-interval", args.ping_interval, file.ping_interval);
        let idle_timeout = one("--idle-timeout", args.idle_timeout, file.idle_timeout);
        let log = one("--log", args.log, file.log);
        let log_format = one("--log-format", args.log_format, file.log_format);

        let mut checked = Checking { faults };
        let (mut auth, declared_tags) = checked.auth(&protect, &file.tags);
        let demo = args.demo || file.demo;
        let demo_key = checked.or(None, if demo { demo_key(&mut auth) } else { Ok(None) });
        let keeping = keeping(&auth);
        let config = Self {
            keeping,
            listen: checked.listen(&listen),
            admin: checked.or(None, admin.as_ref().map_or(Ok(DEFAULT_ADMIN), admin_address)),
            auth,
            declared_tags,
            origins: checked.origins(&origin),
            demo,
            demo_key,
            ping_interval: checked.or(PING_INTERVAL, duration(ping_interval, PING_INTERVAL)),
            idle_timeout: checked.or(IDLE_TIMEOUT, duration(idle_timeout, IDLE_TIMEOUT)),
            log: checked.or(String::new(), log_filter(log)),
            log_format: checked.or(telemetry::LogFormat::Text, format(log_format)),
        };
        if checked.faults.is_empty() { Ok(config) } else { Err(checked.faults) }
    }
}

/// Goes on after a fault, to find the others.
struct Checking {
    faults: Vec<Error>,
}

impl Checking {
    fn or<T>(&mut self, instead: T, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|fault| {
            self.faults.push(fault);
            instead
        })
    }

    fn listen(&mut self, settings: &[Setting]) -> Vec<Address> {
        if settings.is_empty() {
            return loopback(PORT).into();
        }
        settings
            .iter()
            .flat_map(|setting| match setting.text.parse() {
                Ok(port) => loopback(port).into(),
                Err(_) => {
                    let socket =
                        socket(setting).map(|socket| vec![Address { socket, given: true }]);
                    self.or(Vec::new(), socket)
                }
            })
            .collect()
    }

    fn origins(&mut self, settings: &[Setting]) -> Origins {
        let mut origins = Origins::default();
        for setting in settings {
            let allowed = origins.allow(&setting.text);
            self.or((), allowed.map_err(|error| setting.fault(&error.to_string())));
        }
        origins
    }

    fn auth(&mut self, pairs: &[Setting], tables: &[TagTable]) -> (Auth, Option<HashSet<Tag>>) {
        let mut auth = Auth::default();
        for setting in pairs {
            let protected = protect(&mut auth, setting);
            self.or((), protected);
        }
        let mut declared = HashSet::new();
        for table in tables {
            let name = &table.name;
            let tag = Tag::parse(&name.text).map_err(|error| name.fault(&error.to_string()));
            let Some(tag) = self.or(None, tag.map(Some)) else { continue };
            for (action, key) in &table.keys {
                // The key itself is never repeated.
                let hash = KeyHash::parse(&key.text).map_err(|error| {
                    key.place.fault(format!("the key for {} on {tag}: {error}", action.text))
                });
                let protected = protectable(action).and_then(|action| Ok((action, hash?)));
                let protected =
                    protected.map(|(action, hash)| auth.protect(tag.clone(), action, hash));
                self.or((), protected);
            }
            for (action, file) in &table.key_files {
                let hash = key_in(&file.place.path(&file.text));
                let protected = protectable(action).and_then(|action| Ok((action, hash?)));
                let protected =
                    protected.map(|(action, hash)| auth.protect(tag.clone(), action, hash));
                self.or((), protected);
            }
            declared.insert(tag);
        }
        (auth, (!tables.is_empty()).then_some(declared))
    }
}

/// What is kept of each tag: inboxes only where strangers cannot fill them.
fn keeping(auth: &Auth) -> Settings {
    let usual = TagBounds::default();
    let mut keeping = Settings::new(MAX_MEMORY, usual);
    for (tag, action) in auth.protected() {
        if action == Protectable::Send {
            keeping.set(tag, usual);
        }
    }
    keeping
}

/// Protects what the demo shows with a key, as far as the configuration does not do so already.
fn demo_key(auth: &mut Auth) -> Result<Option<Key>, Error> {
    let Ok(tag) = Tag::parse(DEMO_TAG) else { return Ok(None) };
    let demo = [Protectable::Send, Protectable::Broadcast, Protectable::Drop];
    let open = demo.map(|action| (action, !auth.is_protected(&tag, action)));
    if open.iter().all(|(_, open)| !open) {
        return Ok(None);
    }
    let key = random_hex::<32>().map_err(Error::no_randomness)?;
    for (action, _) in open.into_iter().filter(|(_, open)| *open) {
        if let Ok(hash) = KeyHash::parse(&key) {
            auth.protect(tag.clone(), action, hash);
        }
    }
    Ok(Some(Key::given(&key)))
}

fn options(name: &'static str, texts: Vec<String>) -> Vec<Setting> {
    texts.into_iter().map(|text| Setting::option(name, text)).collect()
}

/// `TAG:ACTION:KEYFILE`.
fn protect(auth: &mut Auth, setting: &Setting) -> Result<(), Error> {
    let mut parts = setting.text.splitn(3, ':');
    let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        let form = "write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key";
        return Err(setting.fault(form));
    };
    let tag = Tag::parse(tag).map_err(|error| setting.fault(&error.to_string()))?;
    let action =
        Protectable::from_name(action).ok_or_else(|| setting.fault(&not_protectable(action)))?;
    auth.protect(tag, action, key_in(&setting.place.path(file))?);
    Ok(())
}

fn protectable(action: &Setting) -> Result<Protectable, Error> {
    Protectable::from_name(&action.text)
        .ok_or_else(|| action.place.fault(not_protectable(&action.text)))
}

fn not_protectable(name: &str) -> String {
    format!("`{name}` cannot be protected; set, send, broadcast and drop can")
}

fn key_in(file: &Path) -> Result<KeyHash, Error> {
    let line = secret::first_line("key file", file)?;
    KeyHash::parse(&line).map_err(|error| Error::Content {
        what: "key file",
        file: file.into(),
        reason: error.to_string(),
    })
}

/// Both loopback addresses. Not every machine has the one of IPv6.
fn loopback(port: u16) -> [Address; 2] {
    [
        Address { socket: (Ipv4Addr::LOCALHOST, port).into(), given: true },
        Address { socket: (Ipv6Addr::LOCALHOST, port).into(), given: false },
    ]
}

fn admin_address(setting: &Setting) -> Result<Option<Address>, Error> {
    if setting.text == "off" {
        return Ok(None);
    }
    let socket = match setting.text.parse::<u16>() {
        Ok(port) => (Ipv4Addr::LOCALHOST, port).into(),
        Err(_) => socket(setting)?,
    };
    Ok(Some(Address { socket, given: true }))
}

fn socket(setting: &Setting) -> Result<SocketAddr, Error> {
    let text = &setting.text;
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = local {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse()
        .map_err(|_| setting.fault("write PORT, ADDR:PORT or [ADDR6]:PORT, as in 127.0.0.1:9090"))
}

fn duration(setting: Option<Setting>, default: Duration) -> Result<Duration, Error> {
    let Some(setting) = setting else { return Ok(default) };
    match humantime::parse_duration(&setting.text) {
        Ok(duration) if duration >= SHORTEST => Ok(duration),
        Ok(_) => Err(setting.fault(&format!("at least {SHORTEST:?}"))),
        Err(_) => Err(setting.fault("write a time such as 500ms, 25s or 2m")),
    }
}

fn log_filter(setting: Option<Setting>) -> Result<String, Error> {
    let Some(setting) = setting else { return Ok("info".into()) };
    match telemetry::check(&setting.text) {
        Ok(()) => Ok(setting.text),
        Err(error) => Err(setting.fault(&error.to_string())),
    }
}

fn format(setting: Option<Setting>) -> Result<telemetry::LogFormat, Error> {
    match setting {
        None => Ok(telemetry::LogFormat::Text),
        Some(setting) => match &*setting.text {
            "text" => Ok(telemetry::LogFormat::Text),
            "json" => Ok(telemetry::LogFormat::Json),
            _ => Err(setting.fault("text or json")),
        },
    }
}
