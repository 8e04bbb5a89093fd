//! A connection to the backend, by TCP or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use shared::linger::linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::source_addresses::Lease;

/// One type for both kinds of socket, so that the relay needs no generics. Each system call costs
/// one branch more.
#[derive(Debug)]
pub(crate) enum Stream {
    /// `_lease` counts the connection for its source address until the socket is closed. It is
    /// `None` unless the backend's address is an IPv4 loopback address.
    Tcp {
        stream: TcpStream,
        _lease: Option<Lease>,
    },
    Unix(UnixStream),
}

impl Stream {
    /// Closes the connection in a way that lets the server receive the last bytes.
    pub(crate) async fn linger(&self) {
        match self {
            Self::Tcp { stream, .. } => linger(stream).await,
            Self::Unix(stream) => linger(stream).await,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
