//! The command line, checked and resolved: nothing binds before all of it is valid.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use shared::accept::Listener;
use shared::descriptors::raise_limit;

use crate::cli::Cli;
use crate::error::Error;
use crate::pem::{Identity, Source};

/// Descriptors kept for everything that is no connection: listener, log, certificate, runtime.
const RESERVED_DESCRIPTORS: usize = 64;

/// Where a system without a limit of open files is bounded all the same.
const MOST_CONNECTIONS: usize = 1_000_000;

/// A gate that can run.
#[derive(Debug)]
pub struct Config {
    /// Where to accept.
    pub listen: Listen,
    /// Where to forward to, in the order to try.
    pub backend: Vec<SocketAddr>,
    /// Where the certificate and its key come from.
    pub pem: Source,
    /// What they are now.
    pub identity: Identity,
    /// Time for the first byte and the handshake together.
    pub handshake_timeout: Duration,
    /// Time over which connections are closed after the stop.
    pub drain: Duration,
    /// The most connections at a time.
    pub max_connections: usize,
}

impl Config {
    /// Checks everything that can be checked without binding, and reads the PEM file. The limit
    /// of open files is raised as far as the system allows, as each connection takes two.
    ///
    /// # Errors
    /// The first fault found.
    pub fn resolve(cli: &Cli) -> Result<Self, Error> {
        let listen = Listen::parse(&cli.listen)?;
        let backend = backend(&cli.backend)?;
        if cli.handshake_timeout.is_zero() {
            return Err(Error::Usage("--handshake-timeout must be more than 0".to_owned()));
        }
        let possible = possible_connections();
        let max_connections = match cli.max_connections {
            None => possible,
            Some(0) => {
                return Err(Error::Usage("--max-connections must be more than 0".to_owned()));
            }
            Some(wanted) if wanted > possible => {
                return Err(Error::Usage(format!(
                    "--max-connections {wanted} needs more open files than the system allows; \
                     give {possible} at most, or raise `ulimit -Hn`"
                )));
            }
            Some(wanted) => wanted,
        };
        let pem = Source::new(&cli.pem);
        let identity = pem.load()?;
        Ok(Self {
            listen,
            backend,
            pem,
            identity,
            handshake_timeout: cli.handshake_timeout,
            drain: cli.drain,
            max_connections,
        })
    }
}

/// Where to accept connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// This port of every address.
    Every(u16),
    /// One address.
    At(SocketAddr),
}

impl Listen {
    fn parse(text: &str) -> Result<Self, Error> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Every(port));
        }
        text.parse().map(Self::At).map_err(|_| not_an_address("listen on", text))
    }

    /// Binds it. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub fn bind(self) -> Result<Listener, Error> {
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

fn backend(text: &str) -> Result<Vec<SocketAddr>, Error> {
    let local = |port: u16| {
        vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        ]
    };
    let addresses = if let Ok(port) = text.parse() {
        local(port)
    } else if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse) {
        local(port)
    } else {
        vec![text.parse().map_err(|_| not_an_address("forward to", text))?]
    };
    if addresses.iter().any(|address| address.port() == 0) {
        return Err(Error::Usage(format!("cannot forward to {text:?}: port 0 is no server's")));
    }
    Ok(addresses)
}

fn not_an_address(what: &str, text: &str) -> Error {
    Error::Usage(format!(
        "cannot {what} {text:?}: give a port (0 to 65535), or an IP address with its port, \
         as 127.0.0.1:9090 or [::1]:9090"
    ))
}

/// Each connection has two sockets, the client's and the backend's.
fn possible_connections() -> usize {
    (raise_limit().saturating_sub(RESERVED_DESCRIPTORS) / 2).clamp(1, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_this_machine() {
        let both = ["127.0.0.1:9090", "[::1]:9090"].map(|a| a.parse::<SocketAddr>().unwrap());
        assert_eq!(backend("9090").unwrap(), both);
        assert_eq!(backend("localhost:9090").unwrap(), both);
        assert_eq!(backend("10.0.0.7:80").unwrap(), ["10.0.0.7:80".parse().unwrap()]);
        assert_eq!(backend("[::1]:80").unwrap(), ["[::1]:80".parse().unwrap()]);
        assert_eq!(Listen::parse("0").unwrap(), Listen::Every(0));
    }

    #[test]
    fn what_is_no_address_is_said() {
        for text in ["", "65536", "-1", "shop:9090", "::1", "127.0.0.1", "0", "unix:"] {
            let error = backend(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(Listen::parse("localhost:1").is_err());
    }
}
