//! The sockets of a server, and the ways in that they are.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ipnet::IpNet;
use shared::accept::{Listener, UnixListener, Unregistered};
use shared::log_throttle::LogThrottle;
use shared::service::{Given, GivenSocket};
use shared::telemetry::announce_text;

use crate::counters::Counters;
use crate::error::Error;
use crate::net::addresses::{Listen, ListenAddress, ListenSettings};

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

/// A new connection, by the kind of its listener.
#[derive(Debug)]
pub(crate) enum NewConnection {
    Direct { socket: Unregistered<TcpStream>, from: IpAddr },
    Proxied(Unregistered<TcpStream>),
    Unix(Unregistered<UnixStream>),
}

impl Listeners {
    /// Takes the sockets `given` by a service manager for clients; binds what the settings name if there
    /// are none.
    ///
    /// A given TCP socket is plain unless it is named `proxy`. Must be called within a runtime.
    ///
    /// # Errors
    /// [`Error::Bind`]; an address that nobody asked for may be missing, with a warning.
    /// [`Error::Os`] for a socket that cannot be used.
    pub fn open(settings: &ListenSettings, given: Vec<Given>) -> Result<Self, Error> {
        let displaced = given.is_empty() && settings.displaced_admin().is_some();
        let public = if given.is_empty() {
            bind_all(settings)?
        } else {
            let ways = given.into_iter().map(|given| adopt(given, settings));
            let unusable = |source| Error::Os { what: "using the sockets given", source };
            ways.collect::<io::Result<_>>().map_err(unusable)?
        };
        let admin = settings
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
pub(crate) const PROXY: &str = "proxy";

fn adopt(given: Given, settings: &ListenSettings) -> io::Result<Way> {
    Ok(match given.socket {
        GivenSocket::Unix(socket) => Way::Unix(UnixListener::adopt(socket)?),
        GivenSocket::Tcp(socket) => {
            let listener = Listener::adopt(socket)?;
            if given.name == PROXY { proxied(listener, settings) } else { Way::Plain(listener) }
        }
    })
}

fn proxied(listener: Listener, settings: &ListenSettings) -> Way {
    Way::Proxied { listener, trusted: settings.trust_proxy.clone() }
}

fn bind_all(settings: &ListenSettings) -> Result<Vec<Way>, Error> {
    let mut ways = Vec::new();
    for place in &settings.listen {
        match place {
            Listen::Tcp(address) => ways.extend(bind(*address, NO_LISTENER)?.map(Way::Plain)),
            Listen::Unix(path) => ways.push(Way::Unix(bind_path(path)?)),
        }
    }
    for address in &settings.listen_proxy {
        let listener = bind(*address, NO_LISTENER)?;
        ways.extend(listener.map(|listener| proxied(listener, settings)));
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
    pub(crate) async fn accept(&self, counters: &Counters) -> NewConnection {
        static UNTRUSTED: LogThrottle = LogThrottle::new();
        match self {
            Self::Plain(listener) => {
                let (socket, peer) = listener.accept().await;
                NewConnection::Direct { socket, from: peer.ip() }
            }
            Self::Proxied { listener, trusted } => loop {
                let (socket, peer) = listener.accept().await;
                if trusted.iter().any(|network| network.contains(&peer.ip())) {
                    return NewConnection::Proxied(socket);
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
            Self::Unix(listener) => NewConnection::Unix(listener.accept().await),
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
