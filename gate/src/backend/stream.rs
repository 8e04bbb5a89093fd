//! A connection to the backend, whichever kind it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use shared::linger::linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::source_addresses::Lease;

/// TCP or Unix. One branch per system call, so that the relay is one and the same code.
#[derive(Debug)]
pub(crate) enum Stream {
    /// With its place among the connections from that source address, if those are counted: it
    /// is given back once the socket is closed.
    Tcp {
        stream: TcpStream,
        _lease: Option<Lease>,
    },
    Unix(UnixStream),
}

impl Stream {
    /// Closes it in such a way that the last words arrive.
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
