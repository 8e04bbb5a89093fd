//! The addresses that a server listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// Where to listen, and whom to believe there.
#[derive(Debug, Clone, Default)]
pub struct ListenSettings {
    /// Where to take connections.
    pub(crate) listen: Vec<Listen>,
    /// Where to take connections that begin with a PROXY header.
    pub(crate) listen_proxy: Vec<ListenAddress>,
    /// From whom such a header is believed.
    pub(crate) trust_proxy: Vec<IpNet>,
    /// Where to answer administrators.
    pub(crate) admin: Option<ListenAddress>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(ListenAddress),
    /// At a path; connections begin with a PROXY header.
    Unix(PathBuf),
}

/// An address to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    pub(crate) socket: SocketAddr,
    /// Whether somebody asked for it. What is only a default may be missing on a machine.
    pub(crate) given: bool,
}

impl ListenSettings {
    /// The default address of the admin port, if clients connect there already: then there is none.
    pub(crate) fn displaced_admin(&self) -> Option<Listen> {
        let admin = Listen::Tcp(self.admin.filter(|address| !address.given)?);
        let proxied = self.listen_proxy.iter().map(|address| Listen::Tcp(*address));
        let taken = proxied.chain(self.listen.iter().cloned()).any(|taken| taken.overlaps(&admin));
        taken.then_some(admin)
    }
}

impl Listen {
    /// Whether only one of the two can be had.
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
