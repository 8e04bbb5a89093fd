//! The sockets of a server, and the ways in that they are.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use shared::accept::{Listener, UnixListener};
use shared::log_throttle::LogThrottle;
use shared::service::{Given, Socket};
use shared::telemetry::announce_text;
use tokio::net::{TcpStream, UnixStream};

use crate::config::cli::RunArgs;
use crate::config::{Config, Listen, ListenAddress};
use crate::counters::Counters;
use crate::error::Error;

/// Where a server is reached.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) public: Vec<Way>,
    pub(crate) admin: Option<Listener>,
}

/// A way in for clients.
#[derive(Debug)]
pub(crate) enum Way {
    /// Whoever connects is the client, or a program that says nothing of it.
    Plain(Listener),
    /// A proxy connects and says first who the client is.
    Proxied { listener: Listener, trusted: Vec<IpNet> },
    /// The same, through the file system, whose permissions say who may.
    Unix(UnixListener),
}

/// A new connection.
#[derive(Debug)]
pub(crate) enum Arrival<T = TcpStream, U = UnixStream> {
    Plain { stream: T, from: IpAddr },
    Proxied(T),
    Unix(U),
}

/// One whose socket belongs to no runtime.
pub(crate) type Unregistered = Arrival<std::net::TcpStream, std::os::unix::net::UnixStream>;

impl Listeners {
    /// Takes the sockets `given` by a service manager for clients; binds what the configuration
    /// names if there are none. Of the configuration's own, asked for in vain, a warning tells.
    ///
    /// A given TCP socket is plain unless it is named `proxy`. Must be called within a runtime.
    ///
    /// # Errors
    /// [`Error::Bind`]; [`Error::Option`] for an address that two options name. An address that nobody asked for may be missing, with a warning.
    /// [`Error::Os`] for a socket that cannot be used.
    pub fn open(config: &Config, given: Vec<Given>) -> Result<Self, Error> {
        let displaced = given.is_empty() && displaced_admin(config).is_some();
        let public = if given.is_empty() {
            if let Some(clash) = clashes(config).into_iter().next() {
                return Err(clash);
            }
            for warning in without_effect(config) {
                tracing::warn!("{warning}");
            }
            bind_all(config)?
        } else {
            warn_of_unused(config);
            let ways = given.into_iter().map(|given| adopt(given, config));
            let unusable = |source| Error::Os { what: "using the sockets given", source };
            ways.collect::<io::Result<_>>().map_err(unusable)?
        };
        let admin = config
            .admin
            .filter(|_| !displaced)
            .map(|address| bind(address, NO_ADMIN))
            .transpose()?
            .flatten();
        Ok(Self { public, admin })
    }

    /// The bound addresses to which clients connect by themselves, without a proxy.
    pub(crate) fn plain(&self) -> impl Iterator<Item = SocketAddr> {
        self.public.iter().filter_map(|way| match way {
            Way::Plain(listener) => Some(listener.address()),
            Way::Proxied { .. } | Way::Unix(_) => None,
        })
    }

    /// Tells on stdout where each of them is.
    pub(crate) fn announce(&self) {
        for way in &self.public {
            announce_text("listening", &way.to_string());
        }
        if let Some(listener) = &self.admin {
            announce_text("listening", &format!("admin {}", listener.address()));
        }
    }
}

/// The name of a given socket to which a proxy connects.
const PROXY: &str = "proxy";

fn adopt(given: Given, config: &Config) -> io::Result<Way> {
    Ok(match given.socket {
        Socket::Unix(socket) => Way::Unix(UnixListener::adopt(socket)?),
        Socket::Tcp(socket) => {
            let listener = Listener::adopt(socket)?;
            if given.name == PROXY { proxied(listener, config) } else { Way::Plain(listener) }
        }
    })
}

fn proxied(listener: Listener, config: &Config) -> Way {
    Way::Proxied { listener, trusted: config.trust_proxy.clone() }
}

/// Says which addresses that somebody asked for are not listened on, as sockets were given.
fn warn_of_unused(config: &Config) {
    let is_default =
        Config::resolve(RunArgs::default()).is_ok_and(|unasked| unasked.listen == config.listen);
    let asked = [("--listen", !is_default), ("--listen-proxy", !config.listen_proxy.is_empty())];
    let unused: Vec<&str> =
        asked.into_iter().filter_map(|(option, asked)| asked.then_some(option)).collect();
    if !unused.is_empty() {
        tracing::warn!(
            "{} not used: the service manager gives the sockets; change its units, in which \
             FileDescriptorName={PROXY} stands for --listen-proxy",
            unused.join(" and "),
        );
    }
}

/// What concerns proxies that nothing listens for. Sockets of a service manager may be for them.
pub(crate) fn without_effect(config: &Config) -> Vec<String> {
    let Ok(unasked) = Config::resolve(RunArgs::default()) else { return Vec::new() };
    let no_port = config.listen_proxy.is_empty();
    let introduced = config.listen.iter().any(|place| matches!(place, Listen::Unix(_)));
    let rate = |config: &Config| config.policy.limits.connect;
    let trusted = (no_port && config.trust_proxy != unasked.trust_proxy).then_some("--trust-proxy");
    let limited = no_port && !introduced && rate(config) != rate(&unasked);
    let limited = limited.then_some("--connect-rate");
    let words = |option| {
        format!(
            "{option} means nothing without --listen-proxy (or a socket of the service manager \
             named {PROXY}): no proxy says who connects"
        )
    };
    trusted.into_iter().chain(limited).map(words).chain(displaced_admin(config)).collect()
}

/// Where clients connect to what would be the admin port, which nobody has asked for.
fn displaced_admin(config: &Config) -> Option<String> {
    let address = config.admin.filter(|address| !address.given)?;
    let admin = Listen::Tcp(address);
    let proxied = config.listen_proxy.iter().any(|at| overlap(&Listen::Tcp(*at), &admin));
    let taken = proxied || config.listen.iter().any(|place| overlap(place, &admin));
    taken.then(|| {
        format!(
            "no admin port: clients connect at its usual {admin}; choose one with --admin ADDR:PORT"
        )
    })
}

/// Addresses that two options name, of which the second would be told that "another program" has
/// them. Not for sockets of a service manager, which take the place of all but the admin port.
pub(crate) fn clashes(config: &Config) -> Vec<Error> {
    let listen = config.listen.iter().map(|place| ("--listen", place.clone()));
    let tcp = |option: &'static str| move |at: &ListenAddress| (option, Listen::Tcp(*at));
    let listen_proxy = config.listen_proxy.iter().map(tcp("--listen-proxy"));
    let admin = config.admin.iter().filter(|at| at.given).map(tcp("--admin"));
    let mut taken: Vec<(&str, Listen)> = Vec::new();
    let mut found = Vec::new();
    for (option, place) in listen.chain(listen_proxy).chain(admin) {
        if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(other, &place)) {
            let reason = match *other == option {
                true => format!("{place} is named twice; leave one"),
                false => format!("{place} is where {other} listens; give each a port of its own"),
            };
            // The other loopback address of the same port goes without saying.
            if found.last() != Some(&(option, reason.clone())) && !is_implied(&place) {
                found.push((option, reason));
            }
        }
        taken.push((option, place));
    }
    found.into_iter().map(|(option, reason)| Error::Option { option, reason }).collect()
}

/// Whether an address stands there only because another of its port does.
fn is_implied(place: &Listen) -> bool {
    matches!(place, Listen::Tcp(address) if !address.given)
}

fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let (one, other) = (one.socket, other.socket);
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0
                && one.port() == other.port()
                && one.is_ipv4() == other.is_ipv4()
                && (one.ip() == other.ip() || everywhere)
        }
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        _ => false,
    }
}

fn bind_all(config: &Config) -> Result<Vec<Way>, Error> {
    let mut ways = Vec::new();
    for place in &config.listen {
        match place {
            Listen::Tcp(address) => ways.extend(bind(*address, NO_LISTENER)?.map(Way::Plain)),
            Listen::Unix(path) => ways.push(Way::Unix(bind_path(path)?)),
        }
    }
    for address in &config.listen_proxy {
        let listener = bind(*address, NO_LISTENER)?;
        ways.extend(listener.map(|listener| proxied(listener, config)));
    }
    Ok(ways)
}

const NO_LISTENER: &str = "not listening there";
const NO_ADMIN: &str = "no admin port; choose one with --admin ADDR:PORT, or --admin off";

/// None if nobody asked for the address and it cannot be had, which is said as `without`.
fn bind(address: ListenAddress, without: &str) -> Result<Option<Listener>, Error> {
    match Listener::bind(address.socket) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !address.given => {
            tracing::warn!(address = %address.socket, %error, "{without}");
            Ok(None)
        }
        Err(source) => Err(Error::Bind { address: address.socket.to_string(), source }),
    }
}

fn bind_path(path: &Path) -> Result<UnixListener, Error> {
    let address = || format!("unix:{}", path.display());
    UnixListener::bind(path).map_err(|source| Error::Bind { address: address(), source })
}

impl Way {
    /// The next connection, whoever may use this way; the others are closed and counted. Cancel safe.
    pub(crate) async fn accept(&self, counters: &Counters) -> Arrival {
        static UNTRUSTED: LogThrottle = LogThrottle::new();
        match self {
            Self::Plain(listener) => {
                let (stream, peer) = listener.accept().await;
                Arrival::Plain { stream, from: peer.ip() }
            }
            Self::Proxied { listener, trusted } => loop {
                let (stream, peer) = listener.accept().await;
                if trusted.iter().any(|network| network.contains(&peer.ip())) {
                    return Arrival::Proxied(stream);
                }
                counters.without_proxy_header.inc();
                if let Some(connections) = UNTRUSTED.record() {
                    tracing::warn!(
                        connections, last = %peer.ip(),
                        "closed: not among those of --trust-proxy, who may say for whom they connect"
                    );
                }
                tracing::debug!(%peer, "closed: not among those of --trust-proxy");
            },
            Self::Unix(listener) => Arrival::Unix(listener.accept().await),
        }
    }
}

/// As it is announced.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(listener) => write!(f, "server {}", listener.address()),
            Self::Proxied { listener, .. } => write!(f, "server-proxy {}", listener.address()),
            Self::Unix(listener) => write!(f, "server unix:{}", listener.path().display()),
        }
    }
}
