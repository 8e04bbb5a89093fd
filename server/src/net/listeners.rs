//! The listening sockets of a server.

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

/// The listening sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) public: Vec<PublicListener>,
    pub(crate) admin: Option<Listener>,
}

/// A listening socket for clients or for proxies.
#[derive(Debug)]
pub(crate) enum PublicListener {
    /// The peer is the client.
    Plain(Listener),
    /// The peer is a proxy, which first sends the address of the client.
    Proxied { listener: Listener, trusted: Vec<IpNet> },
    /// The peer is a proxy, too. The permissions of the socket file decide which proxies may
    /// connect.
    Unix(UnixListener),
}

/// A new connection. The variant depends on the kind of its listener.
#[derive(Debug)]
pub(crate) enum AcceptedSocket {
    Direct { socket: Unregistered<TcpStream>, from: IpAddr },
    Proxied(Unregistered<TcpStream>),
    Unix(Unregistered<UnixStream>),
}

impl Listeners {
    /// Uses the sockets `given` by a service manager for clients. If there are none, binds the
    /// addresses of the settings. A TCP socket of the service manager is for clients, or for
    /// proxies if its name is `proxy`. Must be called in a runtime.
    ///
    /// # Errors
    /// [`Error::Bind`] if an address cannot be bound. For some default addresses a warning is
    /// logged instead.
    pub fn open(settings: &ListenSettings, given: Vec<Given>) -> Result<Self, Error> {
        let displaced = given.is_empty() && settings.displaced_admin().is_some();
        let public = if given.is_empty() {
            bind_all(settings)?
        } else {
            let listeners = given.into_iter().map(|given| adopt(given, settings));
            let unusable =
                |source| Error::Os { what: "using the sockets of the service manager", source };
            listeners.collect::<io::Result<_>>().map_err(unusable)?
        };
        let admin = match settings.admin {
            Some(address) if !displaced => bind(address, NO_ADMIN)?,
            _ => None,
        };
        Ok(Self { public, admin })
    }

    /// The addresses of the TCP sockets to which clients connect directly.
    pub(crate) fn plain(&self) -> impl Iterator<Item = SocketAddr> {
        self.public.iter().filter_map(|listener| match listener {
            PublicListener::Plain(listener) => Some(listener.address()),
            PublicListener::Proxied { .. } | PublicListener::Unix(_) => None,
        })
    }

    /// Prints all addresses on stdout.
    pub(crate) fn announce(&self) {
        for listener in &self.public {
            announce_text("listening", &listener.to_string());
        }
        if let Some(listener) = &self.admin {
            announce_text("listening", &format!("admin {}", listener.address()));
        }
    }
}

/// The name of a service manager's socket to which proxies connect.
pub(crate) const PROXY: &str = "proxy";

fn adopt(given: Given, settings: &ListenSettings) -> io::Result<PublicListener> {
    Ok(match given.socket {
        GivenSocket::Unix(socket) => PublicListener::Unix(UnixListener::adopt(socket)?),
        GivenSocket::Tcp(socket) => {
            let listener = Listener::adopt(socket)?;
            if given.name == PROXY {
                proxied(listener, settings)
            } else {
                PublicListener::Plain(listener)
            }
        }
    })
}

fn proxied(listener: Listener, settings: &ListenSettings) -> PublicListener {
    PublicListener::Proxied { listener, trusted: settings.trust_proxy.clone() }
}

fn bind_all(settings: &ListenSettings) -> Result<Vec<PublicListener>, Error> {
    let mut listeners = Vec::new();
    for listen in &settings.listen {
        match listen {
            Listen::Tcp(address) => {
                listeners.extend(bind(*address, NO_LISTENER)?.map(PublicListener::Plain))
            }
            Listen::Unix(path) => listeners.push(PublicListener::Unix(bind_path(path)?)),
        }
    }
    for address in &settings.listen_proxy {
        let listener = bind(*address, NO_LISTENER)?;
        listeners.extend(listener.map(|listener| proxied(listener, settings)));
    }
    Ok(listeners)
}

const NO_LISTENER: &str = "cannot listen on a default address";
const NO_ADMIN: &str =
    "there is no admin port; choose another with --admin ADDR:PORT, or --admin off";

/// Binds an address. If that fails and `address.given` is false, logs `warning` and returns `None`.
fn bind(address: ListenAddress, warning: &str) -> Result<Option<Listener>, Error> {
    match Listener::bind(address.socket) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !address.given => {
            tracing::warn!(address = %address.socket, %error, "{warning}");
            Ok(None)
        }
        Err(source) => Err(Error::Bind { address: address.socket.to_string(), source }),
    }
}

fn bind_path(path: &Path) -> Result<UnixListener, Error> {
    let address = || format!("unix:{}", path.display());
    UnixListener::bind(path).map_err(|source| Error::Bind { address: address(), source })
}

impl PublicListener {
    /// Waits for the next connection. Connections of untrusted proxies are closed and counted.
    /// Cancel safe.
    pub(crate) async fn accept(&self, counters: &Counters) -> AcceptedSocket {
        static UNTRUSTED: LogThrottle = LogThrottle::new();
        match self {
            Self::Plain(listener) => {
                let (socket, peer) = listener.accept().await;
                AcceptedSocket::Direct { socket, from: peer.ip() }
            }
            Self::Proxied { listener, trusted } => loop {
                let (socket, peer) = listener.accept().await;
                if trusted.iter().any(|network| network.contains(&peer.ip())) {
                    return AcceptedSocket::Proxied(socket);
                }
                counters.without_proxy_header.inc();
                if let Some(connections) = UNTRUSTED.record() {
                    tracing::warn!(
                        connections, last = %peer.ip(),
                        "connections to --listen-proxy closed: the peer is not among those of \
                         --trust-proxy; if it is your proxy, add its address there"
                    );
                }
                tracing::debug!(%peer, "connection closed: the peer is not among those of --trust-proxy");
            },
            Self::Unix(listener) => AcceptedSocket::Unix(listener.accept().await),
        }
    }
}

/// Writes the address as it is printed at the start.
impl fmt::Display for PublicListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(listener) => write!(f, "server {}", listener.address()),
            Self::Proxied { listener, .. } => write!(f, "server-proxy {}", listener.address()),
            Self::Unix(listener) => write!(f, "server unix:{}", listener.path().display()),
        }
    }
}
