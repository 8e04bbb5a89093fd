//! The backend: the plain server behind the gate. Connecting is retried while the server is down.

mod header;
pub(crate) mod self_forward;
mod source_addresses;
mod stream;
mod target;
mod unanswered;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::CommonState;
use shared::accept::keepalive;
use shared::deadline::within;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::error::Error;

pub(crate) use header::ProxyVersion;
use source_addresses::SourceAddresses;
pub(crate) use stream::Stream;
pub(crate) use target::Target;
use unanswered::Unanswered;

/// The time limit for connecting to one address. On the same machine, connecting takes
/// microseconds. Across a network, the kernel sends three SYN packets within this time (after 0, 1
/// and 3 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the first retry. Each retry doubles the pause, up to `LONGEST_PAUSE`. A
/// restarted server is found within 250 ms, and the retries of thousands of waiting clients cost a
/// few percent of one core.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long a server may leave data unacknowledged before it counts as dead. On a quiet connection,
/// keepalive also finds a dead server after 120 seconds: 60 of silence and 4 probes, 15 seconds
/// each.
const DEAD_AFTER: Duration = Duration::from_secs(120);

/// The server to forward to, and whether it is reachable.
#[derive(Debug)]
pub(crate) struct Backend {
    target: Target,
    proxy_protocol: Option<ProxyVersion>,
    retry: Duration,
    sources: SourceAddresses,
    /// Whether the last attempt failed. A change is logged once, not for each client.
    unreachable: AtomicBool,
    unanswered: Unanswered,
}

impl Backend {
    pub(crate) fn new(
        target: Target,
        proxy_protocol: Option<ProxyVersion>,
        retry: Duration,
    ) -> Self {
        Self {
            target,
            proxy_protocol,
            retry,
            sources: SourceAddresses::new(),
            unreachable: AtomicBool::new(false),
            unanswered: Unanswered::default(),
        }
    }

    /// The PROXY header to send before the client's first byte. Empty if the PROXY protocol is off.
    pub(crate) fn header(
        &self,
        peer: SocketAddr,
        client: &TcpStream,
        tls: &CommonState,
    ) -> Vec<u8> {
        self.proxy_protocol.map_or_else(Vec::new, |version| version.header(peer, client, tls))
    }

    /// Connects to the first address that answers, and sends `header` to it. While the server seems
    /// to be restarting, this retries for the time of `--backend-retry`. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Backend`], with the reason why each address failed.
    pub(crate) async fn connect(&self, header: &[u8]) -> Result<Stream, Error> {
        let until = Instant::now() + self.retry;
        let mut pause = FIRST_PAUSE;
        let failure = loop {
            match self.attempt().await {
                Ok(mut stream) => {
                    self.log_reachable();
                    if !header.is_empty() {
                        // The kernel takes the header of a new socket at once. If the write fails,
                        // the backend has already closed the connection. The relay then delivers
                        // any bytes that the backend sent before.
                        let sent = stream.write_all(header);
                        let _ = within("sending the header", CONNECT_TIMEOUT, sent).await;
                    }
                    return Ok(stream);
                }
                Err(failure) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !failure.temporary || left.is_zero() {
                        break failure.text;
                    }
                    if pause == FIRST_PAUSE {
                        tracing::debug!("waiting for the backend ({})", failure.text);
                    }
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        self.log_unreachable(&failure);
        Err(Error::Backend(failure))
    }

    /// Records that the server closed a connection without sending a byte, although the client had
    /// sent some. `answered` is the number of bytes that the server has sent so far to all clients.
    ///
    /// The gate does not interpret the bytes that it forwards. Only connections that are closed
    /// without an answer show that the gate and the server disagree about the PROXY protocol.
    pub(crate) fn closed_unanswered(&self, answered: u64) {
        let Some(times) = self.unanswered.add(answered) else { return };
        let question = match (self.proxy_protocol, &self.target) {
            (None, _) => {
                "does it expect a PROXY header? If so, give gate --proxy-protocol v2, or a port of \
                 the server that expects none"
            }
            (Some(_), Target::Tcp(_)) => {
                "does it expect no PROXY header? If so, leave out --proxy-protocol, or give a port \
                 of the server that expects one"
            }
            (Some(_), Target::Unix(_)) => {
                "does it expect no PROXY header? If so, give gate --proxy-protocol off"
            }
        };
        tracing::warn!(
            "the server behind {self} has closed {times} connections in a row without an answer to \
             what the client sent: {question}"
        );
    }

    async fn attempt(&self) -> Result<Stream, Failure> {
        match &self.target {
            Target::Unix(path) => connect_unix(path).await,
            Target::Tcp(addresses) => {
                let mut failure = Failure::default();
                for address in addresses {
                    match within("connecting", CONNECT_TIMEOUT, self.connect_tcp(*address)).await {
                        Ok(Ok(stream)) => return Ok(stream),
                        Ok(Err(error)) => failure.add(address, &error, is_temporary(&error)),
                        Err(expired) => failure.add(address, &expired, false),
                    }
                }
                Err(failure)
            }
        }
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Stream> {
        let (stream, lease) = match address {
            SocketAddr::V4(address) if address.ip().is_loopback() => {
                let (stream, lease) = self.sources.connect(address).await?;
                (stream, Some(lease))
            }
            _ => (TcpStream::connect(address).await?, None),
        };
        set_options(&stream, address.ip());
        Ok(Stream::Tcp { stream, _lease: lease })
    }

    fn log_reachable(&self) {
        // The flag is read before it is written, because every write slows down all other threads
        // that read the flag.
        if self.unreachable.load(Ordering::Relaxed)
            && self.unreachable.swap(false, Ordering::Relaxed)
        {
            tracing::info!("the backend {self} is back");
        }
    }

    fn log_unreachable(&self, failures: &str) {
        if !self.unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "cannot reach the backend ({failures}); clients are disconnected until it answers: \
                 start the server there, or start gate with its address"
            );
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        match self.proxy_protocol {
            Some(version) => write!(f, " with PROXY protocol {version}"),
            None => Ok(()),
        }
    }
}

async fn connect_unix(path: &Path) -> Result<Stream, Failure> {
    UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| {
        let mut failure = Failure::default();
        failure.add(&format_args!("unix:{}", path.display()), &error, is_temporary(&error));
        failure
    })
}

/// Sets the options that find a dead server. The kernel closes the connections of a process that
/// ends on this machine, so only a server on another machine can vanish unnoticed.
fn set_options(stream: &TcpStream, address: IpAddr) {
    let socket = SockRef::from(stream);
    // These calls fail only if the connection is already closed. The first read then reports the
    // closed connection.
    let _ = socket.set_tcp_nodelay(true);
    if !address.is_loopback() {
        let _ = socket.set_tcp_keepalive(&keepalive());
        let _ = socket.set_tcp_user_timeout(Some(DEAD_AFTER));
    }
}

/// Why an attempt to connect failed, with the reason for each address.
#[derive(Debug, Default)]
struct Failure {
    text: String,
    /// Whether at least one of the addresses may answer soon.
    temporary: bool,
}

impl Failure {
    fn add(&mut self, address: &dyn fmt::Display, error: &dyn fmt::Display, temporary: bool) {
        let separator = if self.text.is_empty() { "" } else { "; " };
        self.text.push_str(&format!("{separator}{address}: {error}"));
        self.temporary |= temporary;
    }
}

/// Whether the server seems to be restarting, or is slow to accept.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // No process listens at the address, or the server ended while this connection was in its
        // queue.
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            // The Unix socket does not exist yet, or its queue is full (connect(2): EAGAIN).
            | io::ErrorKind::NotFound
            | io::ErrorKind::WouldBlock
            // All source ports are in use.
            | io::ErrorKind::AddrNotAvailable
    )
}
