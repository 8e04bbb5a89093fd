//! Listening sockets whose `accept` cannot fail, and the sockets that they yield.
//!
//! If the machine runs out of descriptors for a second, a server should wait: not end, and not
//! retry in a busy loop. So `accept` skips errors that concern a single connection, waits while
//! descriptors or memory are exhausted, and returns nothing but connections.

mod unix;

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

pub use unix::UnixListener;

use crate::log_throttle::LogThrottle;

/// The most connections that the kernel queues until we accept them. The kernel lowers this to
/// `net.core.somaxconn`, which is 4,096 since Linux 5.4.
const BACKLOG: i32 = 4_096;

/// The pause after an error that shows that the machine, not the connection, is at a limit.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The time after which the kernel gives up a peer that acknowledges nothing or keeps its receive
/// window closed (`TCP_USER_TIMEOUT`). So no write waits longer.
const STALLED: Duration = Duration::from_secs(120);

/// An accepted, non-blocking socket that is not yet registered with a runtime. The thread that
/// serves the connection registers it, so one thread can accept a connection and another can serve
/// it.
#[derive(Debug)]
pub struct Unregistered<S>(S);

impl Unregistered<std::net::TcpStream> {
    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// The error of the kernel, if it has no memory to watch the socket or
    /// `fs.epoll.max_user_watches` is reached.
    pub fn register(self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.0)
    }
}

impl Unregistered<StdUnixStream> {
    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// The same as for TCP.
    pub fn register(self) -> io::Result<UnixStream> {
        UnixStream::from_std(self.0)
    }
}

impl<S: AsFd> AsFd for Unregistered<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A listening TCP socket, from which connections are accepted.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<TcpListener>,
    address: SocketAddr,
    errors: AcceptErrors,
}

impl Listener {
    /// Binds `address`. Port 0 takes a free port; [`Listener::address`] returns it.
    ///
    /// # Errors
    /// The errors of `bind` and `listen`: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = stream_socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        Self::listen(socket, address)
    }

    /// Binds `port` on every address of the machine: IPv6 and IPv4 in one socket if the machine has
    /// IPv6, or else IPv4 alone.
    ///
    /// # Errors
    /// The same as for [`Listener::bind`].
    pub fn bind_every_address(port: u16) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let dual = stream_socket(any).and_then(|socket| {
            socket.set_only_v6(false)?;
            Ok(socket)
        });
        match dual {
            Ok(socket) => Self::listen(socket, any),
            Err(_no_ipv6) => Self::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        }
    }

    fn listen(socket: Socket, address: SocketAddr) -> io::Result<Self> {
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Self::adopt(socket.into())
    }

    /// Takes over a socket that is already listening, such as one that a service manager passes.
    ///
    /// # Errors
    /// An error if the socket is not a TCP socket, or if no runtime is running.
    pub fn adopt(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        // Linux copies both options to every accepted connection, which saves two system calls for
        // each connection.
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_user_timeout(Some(STALLED))?;
        let socket = watch(socket)?;
        Ok(Self { socket, address, errors: AcceptErrors::default() })
    }

    /// Sets [`keepalive`] for all connections that are accepted from now on.
    ///
    /// # Errors
    /// An error if the kernel refuses the values.
    pub fn keep_alive(&self) -> io::Result<()> {
        SockRef::from(self.socket.get_ref()).set_tcp_keepalive(&keepalive())
    }

    /// The bound address, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection, and returns it with the address of its peer. `TCP_NODELAY`
    /// and `TCP_USER_TIMEOUT` are set on it.
    ///
    /// This never fails. A connection that has died in the queue is skipped. If descriptors or
    /// memory are exhausted, the error is logged at most once a minute, and accepting is tried
    /// again. Cancel safe: no accepted connection is lost.
    pub async fn accept(&self) -> (Unregistered<std::net::TcpStream>, SocketAddr) {
        loop {
            match self.socket.async_io(Interest::READABLE, accept_tcp).await {
                Ok((socket, peer)) => return (Unregistered(socket.into()), peer),
                Err(error) => self.errors.wait_out(&self.address, &error).await,
            }
        }
    }
}

/// Registers a listening socket with the runtime of this thread.
#[allow(
    deprecated,
    reason = "deprecated for types whose descriptor may change; that of a std listener does not, \
              and the replacement needs unsafe code"
)]
fn watch<L: AsRawFd>(listener: L) -> io::Result<AsyncFd<L>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Accepts a connection. One system call also makes it non-blocking.
fn accept_now(listener: &impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    Ok(acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}

fn accept_tcp(listener: &TcpListener) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = accept_now(listener)?;
    // A TCP peer always has an address.
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket, SocketAddr::new(canonical(peer.ip()), peer.port())))
}

/// Keepalive settings: a peer that has vanished is detected after 60 + 4 × 15 seconds. A peer that
/// only sends nothing stays connected, because a person may read a page for hours.
#[must_use]
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// Handles the errors of `accept`.
#[derive(Debug, Default)]
struct AcceptErrors {
    throttle: LogThrottle,
}

impl AcceptErrors {
    /// Waits before the next attempt, or returns at once if the error concerns a single connection.
    async fn wait_out(&self, address: &(dyn Display + Sync), error: &io::Error) {
        if concerns_one_connection(error) {
            return;
        }
        // The log line is throttled, because the error may recur with every connection that ends.
        if self.throttle.record().is_some() {
            tracing::warn!(
                %address, %error,
                "cannot accept connections; trying again every {EXHAUSTED_PAUSE:?} \
                 (raise the limit of open files if this recurs)"
            );
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without this option a restart would fail until the last connections leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns the IPv4 address of an IPv4 peer that connected to an IPv6 socket.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Whether an error of `accept` concerns the new connection and not this process. accept(2): "Linux
/// accept() passes already-pending network errors on the new socket as an error code from
/// accept()".
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ipv4_peers_of_a_dual_socket_keep_their_ipv4_address() {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let _client = TcpStream::connect(listener.address()).await.unwrap();
        let (socket, peer) = listener.accept().await;
        let stream = socket.register().unwrap();
        assert_eq!(peer.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(STALLED));
        assert_eq!(canonical("::ffff:127.0.0.1".parse().unwrap()), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[tokio::test]
    async fn a_taken_port_is_said() {
        let first = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let error = Listener::bind(first.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
