//! The address where clients connect, as given on the command line.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use shared::accept::Listener;

use crate::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// This port on every address of the machine.
    Every(u16),
    /// One address and port.
    At(SocketAddr),
}

impl Listen {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Every(port));
        }
        text.parse().map(Self::At).map_err(|_| not_an_address(text))
    }

    pub(super) fn addresses(self) -> Vec<SocketAddr> {
        match self {
            Self::Every(port) => {
                vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
            }
            Self::At(address) => vec![address],
        }
    }

    pub(crate) fn bind(self) -> Result<Listener, Error> {
        let bound = match self {
            Self::Every(port) => Listener::bind_every_address(port),
            Self::At(address) => Listener::bind(address),
        };
        bound.map_err(|source| Error::Bind { address: self.to_string(), source })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(port) => write!(f, "port {port}"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

pub(super) fn not_an_address(text: &str) -> Error {
    Error::Usage(format!(
        "cannot listen on {text:?}: give a port (0 to 65535), or an IP address with its port, \
         as 127.0.0.1:9090 or [::1]:9090"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        assert_eq!(Listen::parse("0").unwrap(), Listen::Every(0));
        let one = "127.0.0.1:9091";
        assert_eq!(Listen::parse(one).unwrap(), Listen::At(one.parse().unwrap()));
        assert!(Listen::parse("localhost:1").is_err());
    }
}
