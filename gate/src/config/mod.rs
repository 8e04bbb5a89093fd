//! The configuration: the command line, checked and resolved. The gate opens no socket before the
//! whole configuration is valid.

pub(crate) mod cli;
mod listen;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use shared::descriptors::raise_limit;

use crate::backend::{ProxyVersion, Target, self_forward};
use crate::error::Error;
use crate::limits::ConnLimits;
use crate::pem::{Identity, PemFiles, PemWatch};
use cli::{Cli, ProxyProtocol};
pub(crate) use listen::Listen;
use listen::not_an_address;

/// File descriptors for everything but clients: listeners, log, certificate, and up to 64
/// connections to the admin port (the limit in `shared::admin`).
const RESERVED_DESCRIPTORS: usize = 128;

/// File descriptors of one tokio runtime: two for epoll, one to wake it, one for signals.
const DESCRIPTORS_PER_THREAD: usize = 4;

/// The connection limit on a system without a limit of open files.
const MOST_CONNECTIONS: usize = 1_000_000;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The address where clients connect.
    pub(crate) listen: Listen,
    /// The server to forward to.
    pub(crate) backend: Target,
    /// The version of the PROXY header that the backend gets for each client; `None` for no header.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// How long a new connection waits while the backend is down.
    pub(crate) backend_retry: Duration,
    /// The key and certificates, as read at the start.
    pub(crate) identity: Identity,
    /// Detects when the files with key and certificates are renewed.
    pub(crate) watch: PemWatch,
    /// The time between two checks of the PEM files.
    pub(crate) reload_interval: Duration,
    /// The time limit for a client's first byte and handshake together.
    pub(crate) handshake_timeout: Duration,
    /// How long a client may stay silent after the backend has ended its side.
    pub(crate) half_closed_timeout: Duration,
    /// The time over which open connections are closed after a stop signal.
    pub(crate) drain: Duration,
    /// Threads that serve connections.
    pub(crate) threads: NonZeroUsize,
    /// The maximum number of open connections.
    pub(crate) max_connections: usize,
    /// The limits that apply to a connection before TLS.
    pub(crate) limits: ConnLimits,
    /// The address of the admin port, if there is one.
    pub(crate) admin: Option<SocketAddr>,
}

impl Config {
    /// Checks everything that can be checked without opening a socket, and reads the PEM file.
    /// Raises the limit of open files as far as the system allows, because each connection needs
    /// two file descriptors.
    ///
    /// # Errors
    /// The first fault found.
    pub fn resolve(cli: &Cli) -> Result<Self, Error> {
        let listen = Listen::parse(&cli.listen)?;
        let backend = Target::parse(&cli.backend)?;
        self_forward::reject(&backend, &listen.addresses(), self_forward::LISTENS)?;
        if cli.handshake_timeout.is_zero() {
            return Err(Error::Usage("--handshake-timeout must be more than 0".to_owned()));
        }
        if cli.reload_interval.is_zero() {
            return Err(Error::Usage("--reload-interval must be more than 0".to_owned()));
        }
        let threads = cli.threads.unwrap_or_else(cores);
        let possible = possible_connections(raise_limit(), threads);
        let max_connections = match cli.max_connections.map(NonZeroUsize::get) {
            None => possible,
            Some(wanted) if wanted > possible => {
                return Err(Error::Usage(format!(
                    "--max-connections {wanted} needs more open files than the system allows; \
                     give {possible} at most, or raise `ulimit -Hn`"
                )));
            }
            Some(wanted) => wanted,
        };
        let (watch, identity) = PemWatch::open(PemFiles::new(&cli.pem))?;
        let limits = ConnLimits {
            connections_per_address: cli.max_connections_per_address.get(),
            handshakes_per_address: cli.max_handshakes_per_address.get(),
            handshakes: cli.max_handshakes.get(),
        };
        let admin = cli.admin.as_deref().map(admin).transpose()?;
        if let Some(admin) = admin {
            self_forward::reject(&backend, &[admin], "that is its own --admin")?;
        }
        Ok(Self {
            listen,
            proxy_protocol: proxy_protocol(cli.proxy_protocol, &backend),
            backend,
            backend_retry: cli.backend_retry,
            identity,
            watch,
            reload_interval: cli.reload_interval,
            handshake_timeout: cli.handshake_timeout,
            half_closed_timeout: cli.half_closed_timeout,
            drain: cli.drain,
            threads,
            max_connections,
            limits,
            admin,
        })
    }

    /// Refuses an admin port that is also the port for clients. Must not be called if a service
    /// manager passed the sockets, because they replace [`Config::listen`].
    ///
    /// # Errors
    /// [`Error::Usage`] if both ports are the same.
    pub(crate) fn separate_ports(&self) -> Result<(), Error> {
        let Some(admin) = self.admin.filter(|admin| admin.port() != 0) else { return Ok(()) };
        let taken = self.listen.addresses().into_iter().any(|own| {
            let everywhere = own.ip().is_unspecified() || admin.ip().is_unspecified();
            own.port() == admin.port()
                && own.is_ipv4() == admin.is_ipv4()
                && (own.ip() == admin.ip() || everywhere)
        });
        if taken {
            return Err(Error::Usage(format!(
                "--admin cannot be {admin}: clients connect there; give it a port of its own"
            )));
        }
        Ok(())
    }
}

/// The version of the PROXY protocol. For a Unix socket, version 2 is the default, because the
/// backend has no other way to learn the client's address.
fn proxy_protocol(wanted: Option<ProxyProtocol>, backend: &Target) -> Option<ProxyVersion> {
    match (wanted, backend) {
        (Some(ProxyProtocol::Off), _) | (None, Target::Tcp(_)) => None,
        (Some(ProxyProtocol::V1), _) => Some(ProxyVersion::V1),
        (Some(ProxyProtocol::V2), _) | (None, Target::Unix(_)) => Some(ProxyVersion::V2),
    }
}

/// Parses `--admin`. For a port without an address, the gate listens on 127.0.0.1.
fn admin(text: &str) -> Result<SocketAddr, Error> {
    match text.parse() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse().map_err(|_| not_an_address(text)),
    }
}

/// The number of cores that this process may use.
fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The number of connections that the limit of open files allows. Each connection has two sockets,
/// one to the client and one to the backend.
fn possible_connections(files: usize, threads: NonZeroUsize) -> usize {
    let runtimes = threads.get().saturating_mul(DESCRIPTORS_PER_THREAD);
    let reserved = runtimes.saturating_add(RESERVED_DESCRIPTORS);
    (files.saturating_sub(reserved) / 2).clamp(1, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_threads() {
        let threads = |count| NonZeroUsize::new(count).unwrap();
        assert_eq!(possible_connections(1_024, threads(1)), (1_024 - 128 - 4) / 2);
        assert_eq!(possible_connections(1_024, threads(100)), (1_024 - 128 - 400) / 2);
        assert_eq!(possible_connections(1_024, threads(usize::MAX)), 1);
    }

    #[test]
    fn a_unix_backend_is_told_about_clients_unless_it_must_not() {
        let tcp = Target::parse("9090").unwrap();
        let unix = Target::parse("unix:/run/tocsin.sock").unwrap();
        assert_eq!(proxy_protocol(None, &tcp), None);
        assert_eq!(proxy_protocol(None, &unix), Some(ProxyVersion::V2));
        for backend in [tcp, unix] {
            let with = |wanted| proxy_protocol(Some(wanted), &backend);
            assert_eq!(with(ProxyProtocol::Off), None);
            assert_eq!(with(ProxyProtocol::V1), Some(ProxyVersion::V1));
            assert_eq!(with(ProxyProtocol::V2), Some(ProxyVersion::V2));
        }
    }
}
