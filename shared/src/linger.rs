//! Closing without losing the last words.
//!
//! Closing a socket whose input was not read to the end makes the kernel send RST, which may
//! destroy, at the peer, what it has not read yet: the very error message that explains the
//! close. So: finish writing, shut down that direction, and throw away input for a moment.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a closed peer may take to read our last words and close its side.
pub const LIMIT: Duration = Duration::from_secs(1);

/// How much of what it still sends is read and thrown away meanwhile.
const DISCARD: usize = 256 * 1024;

/// Shuts down writing and discards input for [`LIMIT`] at most, or 256 KiB, or until the peer's
/// end of stream.
pub async fn linger(stream: &impl Socket) {
    let mut farewell = Farewell::begin(stream);
    std::future::poll_fn(|context| farewell.poll(stream, context)).await;
}

/// A connected stream socket.
pub trait Socket {
    /// Whether a read would get something; else the waker is registered.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends the end of stream.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn shut_down_writing(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

impl Socket for UnixStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

/// A socket that lingers when it is shut down.
#[derive(Debug)]
pub struct Lingering {
    stream: TcpStream,
    farewell: Option<Farewell>,
}

impl Lingering {
    /// Wraps a connected socket.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, farewell: None }
    }

    /// The socket itself, for those who close it in their own way.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }
}

#[derive(Debug)]
struct Farewell {
    until: Pin<Box<Sleep>>,
    discarded: usize,
}

impl Farewell {
    fn begin(stream: &impl Socket) -> Self {
        // Whatever goes wrong with a socket that is being given up is of no interest.
        let _ = stream.shut_down_writing();
        Self { until: Box::pin(sleep_until(Instant::now() + LIMIT)), discarded: 0 }
    }

    fn poll(&mut self, stream: &impl Socket, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.discarded < DISCARD {
            if stream.poll_read_ready(context).is_pending() {
                return self.until.as_mut().poll(context);
            }
            match stream.try_read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(length) => self.discarded += length,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, farewell } = &mut *self;
        let farewell = farewell.get_or_insert_with(|| Farewell::begin(stream));
        farewell.poll(stream, context).map(Ok)
    }
}
