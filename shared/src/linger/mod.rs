//! Closes a socket so that the peer receives the last bytes.
//!
//! If a socket is closed before its input was read to the end, the kernel sends RST. This may
//! destroy bytes that the peer has not received yet, such as the error message that explains the
//! close. So this module shuts down writing, then reads and discards input until the peer has
//! acknowledged all bytes, and a moment longer. Acknowledged bytes can be read even after RST.

mod unsent;

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

/// The grace period after FIN. It is renewed while the peer makes progress, up to `MAX_PERIODS`
/// periods in all.
pub const LIMIT: Duration = Duration::from_secs(1);
const MAX_PERIODS: u32 = 10;

/// The most bytes of input that are discarded, if the peer has acknowledged all bytes. Before that
/// there is no limit, because a peer may want to write before it reads.
const DISCARD: usize = 256 * 1024;

/// How many bytes are discarded before other tasks get a turn.
const DISCARD_PER_POLL: usize = 256 * 1024;

/// Shuts down writing and discards input. Ends when the peer ends its stream. If the peer has
/// acknowledged all bytes, also ends when 256 KiB were discarded or a grace period ([`LIMIT`]) is
/// over. Ends in any case after a grace period without progress, or after ten grace periods.
pub async fn linger(stream: &impl LingerSocket) {
    let mut state = LingerState::begin(stream);
    std::future::poll_fn(|context| state.poll(stream, context)).await;
}

/// A connected stream socket.
pub trait LingerSocket {
    /// Ready if a read would return bytes, the end of the stream or an error; otherwise registers
    /// the waker.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads the bytes that have arrived.
    ///
    /// # Errors
    /// `WouldBlock` if no bytes have arrived.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends the end of the stream.
    ///
    /// # Errors
    /// An error if the connection is already gone.
    fn shut_down_writing(&self) -> io::Result<()>;

    /// The number of sent bytes that the peer has not acknowledged. The end of the stream counts as
    /// one.
    fn unsent(&self) -> usize;
}

impl LingerSocket for TcpStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    fn unsent(&self) -> usize {
        unsent::unsent(self)
    }
}

impl LingerSocket for UnixStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    fn unsent(&self) -> usize {
        unsent::unsent(self)
    }
}

/// A socket that is closed like [`linger`] does when it is shut down.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    state: Option<LingerState>,
    /// A function that is called once, with the first bytes read.
    first: Option<fn(&[u8])>,
}

impl<S> Lingering<S> {
    /// Wraps a connected socket.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, state: None, first: None }
    }

    /// Calls `first` with the first bytes that are read.
    #[must_use]
    pub fn noticing(self, first: fn(&[u8])) -> Self {
        Self { first: Some(first), ..self }
    }

    /// Returns the socket, for a caller that closes it in another way.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }
}

#[derive(Debug)]
struct LingerState {
    until: Pin<Box<Sleep>>,
    discarded: usize,
    /// How many grace periods have passed.
    periods: u32,
    last_progress: Progress,
}

#[derive(Debug, PartialEq, Eq)]
struct Progress {
    unsent: usize,
    discarded: usize,
}

impl LingerState {
    fn begin(stream: &impl LingerSocket) -> Self {
        // The socket is given up, so an error does not matter.
        let _ = stream.shut_down_writing();
        Self {
            until: Box::pin(sleep(LIMIT)),
            discarded: 0,
            periods: 0,
            last_progress: Progress { unsent: stream.unsent(), discarded: 0 },
        }
    }

    fn poll(&mut self, stream: &impl LingerSocket, context: &mut Context<'_>) -> Poll<()> {
        while self.until.as_mut().poll(context).is_ready() {
            let now = Progress { unsent: stream.unsent(), discarded: self.discarded };
            self.periods += 1;
            if now.unsent == 0 || now == self.last_progress || self.periods == MAX_PERIODS {
                return Poll::Ready(());
            }
            self.last_progress = now;
            self.until.as_mut().reset(Instant::now() + LIMIT);
        }
        let mut scratch = [0; 4096];
        let before = self.discarded;
        loop {
            if stream.poll_read_ready(context).is_pending() {
                break;
            }
            if self.discarded - before >= DISCARD_PER_POLL {
                context.waker().wake_by_ref();
                break;
            }
            match stream.try_read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(length) => self.discarded += length,
            }
        }
        if self.discarded >= DISCARD && stream.unsent() == 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready()
            && let Some(first) = self.first.take()
        {
            first(&buffer.filled()[before..]);
        }
        read
    }
}

impl<S: LingerSocket + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
        let Self { stream, state, .. } = &mut *self;
        let state = state.get_or_insert_with(|| LingerState::begin(stream));
        state.poll(&*stream, context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A peer that sends nothing and acknowledges `takes` bytes between two checks.
    struct Silent {
        unsent: AtomicUsize,
        takes: usize,
    }

    impl LingerSocket for Silent {
        fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn shut_down_writing(&self) -> io::Result<()> {
            Ok(())
        }

        fn unsent(&self) -> usize {
            let less = |unsent: usize| Some(unsent.saturating_sub(self.takes));
            self.unsent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap()
        }
    }

    async fn limits(unsent: usize, takes: usize) -> u128 {
        let begun = Instant::now();
        linger(&Silent { unsent: unsent.into(), takes }).await;
        begun.elapsed().as_millis() / LIMIT.as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_waited_for_while_it_takes_something_but_not_for_ever() {
        assert_eq!(limits(0, 0).await, 1, "it has everything, and may still close its side");
        assert_eq!(limits(100, 0).await, 1, "it stands still");
        assert_eq!(limits(3, 1).await, 3, "it has taken everything by then");
        assert_eq!(limits(1_000_000, 1).await, u128::from(MAX_PERIODS));
    }

    /// A peer that never stops sending.
    struct Chatty {
        unsent: usize,
        sent: AtomicUsize,
    }

    impl LingerSocket for Chatty {
        fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
            self.sent.fetch_add(buffer.len(), Ordering::Relaxed);
            Ok(buffer.len())
        }

        fn shut_down_writing(&self) -> io::Result<()> {
            Ok(())
        }

        fn unsent(&self) -> usize {
            // The peer acknowledges all bytes after it has sent 1 MiB.
            if self.sent.load(Ordering::Relaxed) < 1 << 20 { self.unsent } else { 0 }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_sends_is_bounded_once_it_has_everything() {
        for (unsent, most) in [(0, DISCARD), (1, 1 << 20)] {
            let peer = Chatty { unsent, sent: AtomicUsize::new(0) };
            linger(&peer).await;
            assert_eq!(peer.sent.into_inner(), most);
        }
    }
}
