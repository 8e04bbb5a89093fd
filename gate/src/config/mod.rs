//! The configuration: the command line, checked and resolved. Nothing binds before all of it is
//! valid.

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

/// Descriptors reserved for everything but clients: listeners, log, certificate, and 64
/// administrators.
const RESERVED_DESCRIPTORS: usize = 128;

/// Descriptors of one runtime: two for epoll, one to wake it, one for signals.
const DESCRIPTORS_PER_THREAD: usize = 4;

/// The limit of connections on a system without a limit of open files.
const MOST_CONNECTIONS: usize = 1_000_000;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The addresses at which clients are accepted.
    pub(crate) listen: Listen,
    /// The address of the backend.
    pub(crate) backend: Target,
    /// The version of the PROXY header that the backend gets for each client; `None` for no header.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// How long a connection waits for a backend that does not answer.
    pub(crate) backend_retry: Duration,
    /// The private key and the certificates.
    pub(crate) identity: Identity,
    /// The files of key and certificates, to notice when they are renewed.
    pub(crate) watch: PemWatch,
    /// How often to check whether the files were renewed.
    pub(crate) reload_interval: Duration,
    /// Time for the first byte and the handshake together.
    pub(crate) handshake_timeout: Duration,
    /// How long a client may stay silent after the backend has ended its side.
    pub(crate) half_closed_timeout: Duration,
    /// Time over which connections are closed after the stop.
    pub(crate) drain: Duration,
    /// Threads that serve connections.
    pub(crate) threads: NonZeroUsize,
    /// The most connections at a time.
    pub(crate) max_connections: usize,
    /// The bounds before TLS.
    pub(crate) limits: ConnLimits,
    /// The address of the admin port, if there is one.
    pub(crate) admin: Option<SocketAddr>,
}

impl Config {
    /// Checks everything that can be checked without binding, and reads the PEM file. Raises the
    /// limit of open files as far as the system allows, because each connection needs two.
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

    /// Refuses an admin port that is also the port for clients. Not meant for sockets of a service
    /// manager, which replace [`Config::listen`].
    ///
    /// # Errors
    /// [`Error::Usage`].
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

/// The version of the PROXY protocol. With a Unix socket, the backend has no other way to learn the
/// client's address, so it is on by default.
fn proxy_protocol(wanted: Option<ProxyProtocol>, backend: &Target) -> Option<ProxyVersion> {
    match (wanted, backend) {
        (Some(ProxyProtocol::Off), _) | (None, Target::Tcp(_)) => None,
        (Some(ProxyProtocol::V1), _) => Some(ProxyVersion::V1),
        (Some(ProxyProtocol::V2), _) | (None, Target::Unix(_)) => Some(ProxyVersion::V2),
    }
}

/// Parses `--admin`. A port alone is opened on the loopback only.
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

/// The number of connections that the limit of open files allows: each connection has two sockets,
/// the client's and the backend's.
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
