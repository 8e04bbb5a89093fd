//! The addresses that a server listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// The addresses of the server, and the networks of trusted proxies.
#[derive(Debug, Clone, Default)]
pub struct ListenSettings {
    /// The addresses for clients, from `--listen`.
    pub(crate) listen: Vec<Listen>,
    /// The addresses for proxies, from `--listen-proxy`. Their connections begin with a PROXY
    /// header.
    pub(crate) listen_proxy: Vec<ListenAddress>,
    /// The networks of proxies whose PROXY header is trusted.
    pub(crate) trust_proxy: Vec<IpNet>,
    /// The address of the admin port, if there is one.
    pub(crate) admin: Option<ListenAddress>,
}

/// An address or the path of a Unix socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(ListenAddress),
    /// A Unix socket. Its connections begin with a PROXY header.
    Unix(PathBuf),
}

/// A TCP address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    pub(crate) socket: SocketAddr,
    /// Whether the server must listen on this address. If false, a failure is only a warning; this
    /// applies to the IPv6 loopback address of a port alone, and to the default address of the
    /// admin port.
    pub(crate) given: bool,
}

impl ListenSettings {
    /// Returns the default address of the admin port, if another option uses it for clients. The
    /// server then has no admin port.
    pub(crate) fn displaced_admin(&self) -> Option<Listen> {
        let admin = Listen::Tcp(self.admin.filter(|address| !address.given)?);
        let proxied = self.listen_proxy.iter().map(|address| Listen::Tcp(*address));
        let taken = proxied.chain(self.listen.iter().cloned()).any(|taken| taken.overlaps(&admin));
        taken.then_some(admin)
    }
}

impl Listen {
    /// Whether the two addresses cannot be bound at the same time.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => {
                let (one, other) = (one.socket, other.socket);
                let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() != 0
                    && one.port() == other.port()
                    && one.is_ipv4() == other.is_ipv4()
                    && (one.ip() == other.ip() || everywhere)
            }
            (Self::Unix(one), Self::Unix(other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", address.socket),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
