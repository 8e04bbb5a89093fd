//! Options, environment and file, checked and made one before anything is bound.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use shared::telemetry;

use crate::auth::{Auth, KeyHash, Protectable};
use crate::cli::{LogFormat, RunArgs};
use crate::error::Error;
use crate::id::Tag;
use crate::origin::Origins;
use crate::secret;

const PORT: u16 = 9090;
const ADMIN_PORT: u16 = 9092;
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
    /// A registered connection is pinged after this much silence.
    pub ping_interval: Duration,
    /// How long a connection may be good for nothing.
    pub idle_timeout: Duration,
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

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    listen: Vec<String>,
    admin: Option<String>,
    protect: Vec<String>,
    origin: Vec<String>,
    demo: bool,
    ping_interval: Option<String>,
    idle_timeout: Option<String>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    tags: BTreeMap<String, TagTable>,
}

/// `[tags.NAME]`: declares a tag.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct TagTable {
    /// Action → key or hash, or several.
    keys: BTreeMap<String, OneOrMany>,
    /// Action → file whose first line is the key or hash, or several.
    key_files: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl Config {
    /// Reads the configuration file, if one is named, and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn resolve(args: RunArgs) -> Result<Self, Error> {
        let file = match &args.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let mut auth = Auth::default();
        for pair in args.protect.iter().chain(&file.protect) {
            protect(&mut auth, pair)?;
        }
        let mut declared = HashSet::new();
        for (name, table) in &file.tags {
            let fault = |reason: String| Error::Config {
                file: args.config.clone().unwrap_or_default(),
                line: None,
                reason: format!("tags.{name}: {reason}"),
            };
            let tag = Tag::parse(name).map_err(|error| fault(error.to_string()))?;
            table.protect(&tag, &mut auth, fault)?;
            declared.insert(tag);
        }
        let mut origins = Origins::default();
        for origin in args.origin.iter().chain(&file.origin) {
            origins
                .allow(origin)
                .map_err(|error| option("--origin", format!("{origin}: {error}")))?;
        }
        let log_format = match args.log_format.or(file.log_format) {
            Some(LogFormat::Json) => telemetry::LogFormat::Json,
            Some(LogFormat::Text) | None => telemetry::LogFormat::Text,
        };
        let listen = if args.listen.is_empty() { file.listen } else { args.listen };
        Ok(Self {
            listen: listen_addresses(&listen)?,
            admin: admin_address(args.admin.or(file.admin).as_deref())?,
            auth,
            declared_tags: (!declared.is_empty()).then_some(declared),
            origins,
            demo: args.demo || file.demo,
            ping_interval: duration(
                "--ping-interval",
                args.ping_interval.or(file.ping_interval),
                PING_INTERVAL,
            )?,
            idle_timeout: duration(
                "--idle-timeout",
                args.idle_timeout.or(file.idle_timeout),
                IDLE_TIMEOUT,
            )?,
            log: args.log.or(file.log).unwrap_or_else(|| "info".into()),
            log_format,
        })
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            what: "configuration",
            file: path.into(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| Error::Config {
            file: path.into(),
            line: error.span().map(|span| 1 + text[..span.start].matches('\n').count()),
            reason: without_values(error.message()),
        })
    }
}

impl TagTable {
    fn protect(
        &self,
        tag: &Tag,
        auth: &mut Auth,
        fault: impl Fn(String) -> Error,
    ) -> Result<(), Error> {
        for (name, keys) in &self.keys {
            let action = protectable(name).map_err(|reason| fault(format!("keys: {reason}")))?;
            for key in keys.texts() {
                let hash =
                    KeyHash::parse(key).map_err(|error| fault(format!("keys.{name}: {error}")))?;
                auth.protect(tag.clone(), action, hash);
            }
        }
        for (name, files) in &self.key_files {
            let action =
                protectable(name).map_err(|reason| fault(format!("key-files: {reason}")))?;
            for file in files.texts() {
                auth.protect(tag.clone(), action, key_in(Path::new(file))?);
            }
        }
        Ok(())
    }
}

/// `TAG:ACTION:KEYFILE`.
fn protect(auth: &mut Auth, pair: &str) -> Result<(), Error> {
    let fault = |reason: &str| option("--protect", format!("{pair}: {reason}"));
    let mut parts = pair.splitn(3, ':');
    let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(fault("write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key"));
    };
    let tag = Tag::parse(tag).map_err(|error| fault(&error.to_string()))?;
    let action = protectable(action).map_err(|reason| fault(&reason))?;
    auth.protect(tag, action, key_in(Path::new(file))?);
    Ok(())
}

fn protectable(name: &str) -> Result<Protectable, String> {
    Protectable::from_name(name)
        .ok_or_else(|| format!("`{name}` cannot be protected; set, send and broadcast can"))
}

fn key_in(file: &Path) -> Result<KeyHash, Error> {
    let line = secret::first_line("key file", file)?;
    KeyHash::parse(&line).map_err(|error| Error::Content {
        what: "key file",
        file: file.into(),
        reason: error.to_string(),
    })
}

fn listen_addresses(texts: &[String]) -> Result<Vec<Address>, Error> {
    if texts.is_empty() {
        return Ok(loopback(PORT).into());
    }
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(port) => addresses.extend(loopback(port)),
            Err(_) => addresses.push(Address { socket: socket("--listen", text)?, given: true }),
        }
    }
    Ok(addresses)
}

/// Both loopback addresses. Not every machine has the one of IPv6.
fn loopback(port: u16) -> [Address; 2] {
    [
        Address { socket: (Ipv4Addr::LOCALHOST, port).into(), given: true },
        Address { socket: (Ipv6Addr::LOCALHOST, port).into(), given: false },
    ]
}

fn admin_address(text: Option<&str>) -> Result<Option<Address>, Error> {
    let Some(text) = text else {
        let socket = (Ipv4Addr::LOCALHOST, ADMIN_PORT).into();
        return Ok(Some(Address { socket, given: false }));
    };
    if text == "off" {
        return Ok(None);
    }
    let socket = match text.parse::<u16>() {
        Ok(port) => (Ipv4Addr::LOCALHOST, port).into(),
        Err(_) => socket("--admin", text)?,
    };
    Ok(Some(Address { socket, given: true }))
}

fn socket(name: &'static str, text: &str) -> Result<SocketAddr, Error> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = local {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into());
    }
    text.parse().map_err(|_| {
        option(name, format!("{text}: write PORT, ADDR:PORT or [ADDR6]:PORT, as in 127.0.0.1:9090"))
    })
}

fn duration(
    name: &'static str,
    text: Option<String>,
    default: Duration,
) -> Result<Duration, Error> {
    let Some(text) = text else { return Ok(default) };
    match humantime::parse_duration(&text) {
        Ok(duration) if duration >= SHORTEST => Ok(duration),
        Ok(_) => Err(option(name, format!("{text}: at least {SHORTEST:?}"))),
        Err(_) => Err(option(name, format!("{text}: write a time such as 500ms, 25s or 2m"))),
    }
}

fn option(option: &'static str, reason: String) -> Error {
    Error::Option { option, reason }
}

/// An error of the TOML parser without what it quotes: that may be a key.
fn without_values(message: &str) -> String {
    let mut shown = String::new();
    for (index, part) in message.split('"').enumerate() {
        shown.push_str(if index % 2 == 0 { part } else { "…" });
    }
    shown.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_do_not_repeat_its_values() {
        let error = toml::from_str::<File>("[tags.a]\nkeys = \"s3cr3t-s3cr3t\"\n").unwrap_err();
        assert!(error.message().contains("s3cr3t"), "else this test is pointless");
        assert!(!without_values(error.message()).contains("s3cr3t"));
    }

    #[test]
    fn a_bare_port_is_both_loopback_addresses() {
        let sockets: Vec<String> = listen_addresses(&["7".into(), "192.0.2.1:8".into()])
            .unwrap()
            .iter()
            .map(|address| address.socket.to_string())
            .collect();
        assert_eq!(sockets, ["127.0.0.1:7", "[::1]:7", "192.0.2.1:8"]);
    }
}
