//! Bytes both ways between a client behind TLS and a plain backend.
//!
//! One future per connection, woken by readiness. It owns no buffer: bytes are read into one that
//! belongs to the thread and handed on in the same synchronous section. Only what the other side
//! would not take stays with the connection, and then this side is not read until that is gone.
//! So a reader that stalls stops its writer, and an idle connection holds nothing.
//!
//! The directions are independent, as in two pipes: the end of one, or a failure to write, leaves
//! the other alone. What arrived before an end is always delivered before the end is.

mod flow;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::backend::Stream;
use crate::channel::{Channel, Peer, Send, read};
use crate::handshake::Secured;
use crate::metrics::Meter;
use crate::pending::Pending;
use crate::scratch::{self, CHUNK, Scratch};
use flow::Flow;
pub(crate) use flow::{Carried, Cause, Ended};

/// Rounds of read and write before other connections get their turn: half a MiB each way, some
/// milliseconds of encryption at worst.
const ROUNDS: usize = 8;

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Relay {
    client: TcpStream,
    channel: Channel,
    backend: Stream,
    to_backend: Flow,
    to_client: Flow,
    /// Decrypted, but not taken by the backend yet. The TLS output that the client has not taken
    /// yet is `channel`'s.
    pending: Pending,
    /// Whether the source said its last word: only then is nothing of it left unread.
    client_ended: bool,
    backend_ended: bool,
    /// Writing to the backend reported that it is gone without a last word. The kernel says that
    /// once, so that to the reader it then looks like a proper end.
    backend_reset: bool,
    carried: Carried,
    cause: Option<Cause>,
}

impl Relay {
    /// After the handshake: what the client sent along with the end of it goes to the backend
    /// first.
    pub(crate) fn new(secured: Secured, backend: Stream) -> Self {
        let mut this = Self {
            client: secured.client,
            channel: secured.channel,
            backend,
            to_backend: Flow::Open,
            to_client: Flow::Open,
            pending: Pending::default(),
            client_ended: false,
            backend_ended: false,
            backend_reset: false,
            carried: Carried::default(),
            cause: None,
        };
        this.pending.put(&secured.early);
        this.heed(secured.peer);
        this
    }

    /// Runs until both directions have ended, and lets `meter` count. Cancel safe: nothing is
    /// lost, and the next call goes on.
    ///
    /// A client to which the backend has ended may go on sending, but one that then sends nothing
    /// for `patience` is closed: the backend may be gone altogether, which only a write would tell.
    pub(crate) async fn run(&mut self, meter: &Meter, patience: Duration) {
        let mut left = None;
        poll_fn(|cx| {
            let before = self.carried;
            let mut state = self.poll(cx);
            if state.is_pending() && self.is_left_alone(cx, &mut left, patience) {
                self.close();
                state = self.poll(cx);
            }
            meter.add(before, self.carried);
            state
        })
        .await;
    }

    /// Whether the client has sent nothing for `patience` since the backend ended.
    fn is_left_alone(
        &self,
        cx: &mut Context<'_>,
        left: &mut Option<(u64, Pin<Box<Sleep>>)>,
        patience: Duration,
    ) -> bool {
        if self.to_client != Flow::Done || self.to_backend != Flow::Open {
            return false;
        }
        let sent = self.carried.to_backend;
        if left.as_ref().is_none_or(|(before, _)| *before != sent) {
            *left = Some((sent, Box::pin(sleep(patience))));
        }
        left.as_mut().is_some_and(|(_, until)| until.as_mut().poll(cx).is_ready())
    }

    /// Ends both directions as if both sources had: what was read is delivered, then the end.
    /// [`Relay::run`] does that.
    pub(crate) fn close(&mut self) {
        self.blame(Cause::Stop);
        for flow in [&mut self.to_backend, &mut self.to_client] {
            if *flow == Flow::Open {
                *flow = Flow::Ending { complete: true };
            }
        }
    }

    /// The sockets, for closing.
    pub(crate) fn end(self: Box<Self>) -> Ended {
        Ended {
            client: (!self.client_ended && self.to_client == Flow::Done).then_some(self.client),
            backend: (!self.backend_ended && self.to_backend == Flow::Done).then_some(self.backend),
            carried: self.carried,
            // Nothing else makes an end.
            cause: self.cause.unwrap_or(Cause::Stop),
        }
    }

    fn blame(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        scratch::with(|scratch| {
            for _ in 0..ROUNDS {
                // Reading from the client can leave TLS output (an alert, a key update), so the
                // direction to the client comes second.
                let up = self.poll_to_backend(cx, scratch);
                let down = self.poll_to_client(cx, scratch);
                if self.to_backend.is_over() && self.to_client.is_over() {
                    return Poll::Ready(());
                }
                if up.is_pending() && down.is_pending() {
                    return Poll::Pending;
                }
            }
            // More to do, but not now: a task that wakes itself goes behind the others.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// One step from client to backend. Pending: the waker is registered, or there is nothing
    /// left to do.
    fn poll_to_backend(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        match self.to_backend {
            Flow::Done => return Poll::Pending,
            Flow::Broken => {
                let read = ready!(read(&mut self.client, cx, &mut scratch.raw));
                if !matches!(read, Ok(1..)) {
                    self.client_ended = true;
                    self.to_backend = Flow::Done;
                }
                return Poll::Ready(());
            }
            Flow::Open | Flow::Ending { .. } => {}
        }
        if !self.pending.is_empty() {
            match ready!(self.pending.poll_write_to(&mut self.backend, cx)) {
                Ok(count) => self.carried.to_backend += count as u64,
                Err(error) => self.fail_to_backend(&error),
            }
            return Poll::Ready(());
        }
        if self.to_backend != Flow::Open {
            // Fails only on a connection that is gone, whose reading says so.
            let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
            self.to_backend = Flow::Done;
            return Poll::Ready(());
        }
        match ready!(self.channel.poll_read(&mut self.client, cx, scratch)) {
            // No close_notify, as many programs do: an end like any other.
            Ok(0) => self.heed(Peer::Ended),
            Ok(count) => {
                let peer = self.channel.receive(scratch, count);
                self.hand_to_backend(cx, &scratch.plain);
                if self.to_client.is_over() {
                    scratch.output.take();
                } else {
                    self.channel.send(&mut self.client, cx, &mut scratch.output, Send::Now);
                }
                self.heed(peer);
            }
            Err(_gone) => {
                // A reset ends both directions; what came before it is still delivered.
                self.blame(Cause::ClientGone);
                self.client_ended = true;
                self.to_backend = Flow::Ending { complete: false };
                self.to_client = Flow::Broken;
            }
        }
        Poll::Ready(())
    }

    /// Writes what the backend takes at once, and keeps the rest.
    fn hand_to_backend(&mut self, cx: &mut Context<'_>, plain: &[u8]) {
        if plain.is_empty() {
            return;
        }
        match Pin::new(&mut self.backend).poll_write(cx, plain) {
            Poll::Ready(Ok(count)) => {
                self.carried.to_backend += count as u64;
                self.pending.put(&plain[count..]);
            }
            Poll::Ready(Err(error)) => self.fail_to_backend(&error),
            Poll::Pending => self.pending.put(plain),
        }
    }

    fn fail_to_backend(&mut self, error: &io::Error) {
        // EPIPE: it had ended its own side properly before it went, or only ends reading.
        self.backend_reset = error.kind() != io::ErrorKind::BrokenPipe;
        self.break_to_backend();
    }

    fn break_to_backend(&mut self) {
        self.blame(Cause::BackendGone);
        self.pending = Pending::default();
        self.to_backend = Flow::Broken;
    }

    /// Takes note of how the client's side stands after its bytes were received.
    fn heed(&mut self, peer: Peer) {
        let complete = peer == Peer::Ended;
        match peer {
            Peer::Open => return,
            Peer::Ended => {
                self.blame(Cause::Client);
                self.client_ended = true;
            }
            Peer::Faulty(_) => {
                self.blame(Cause::ClientFault);
                // The alert is pending; after it there is nothing more to say to this client.
                if self.to_client == Flow::Open {
                    self.to_client = Flow::Ending { complete: false };
                }
            }
        }
        if self.to_backend == Flow::Open {
            self.to_backend = Flow::Ending { complete };
        }
    }

    /// One step from backend to client. Pending as in [`Relay::poll_to_backend`].
    fn poll_to_client(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        match self.to_client {
            Flow::Done => return Poll::Pending,
            Flow::Broken => {
                let read = ready!(read(&mut self.backend, cx, &mut scratch.raw));
                if !matches!(read, Ok(1..)) {
                    self.backend_ended = true;
                    self.to_client = Flow::Done;
                }
                return Poll::Ready(());
            }
            Flow::Open | Flow::Ending { .. } => {}
        }
        if ready!(self.flush_to_client(cx)) == Flow::Broken {
            return Poll::Ready(());
        }
        match self.to_client {
            Flow::Ending { complete: true } => {
                // The end of the stream follows, in the same packet.
                self.channel.say_end(&mut scratch.output);
                self.channel.send(&mut self.client, cx, &mut scratch.output, Send::Along);
                self.to_client = Flow::Ending { complete: false };
                return Poll::Ready(());
            }
            Flow::Ending { complete: false } => {
                let _ = ready!(Pin::new(&mut self.client).poll_shutdown(cx));
                self.to_client = Flow::Done;
                return Poll::Ready(());
            }
            Flow::Open | Flow::Done | Flow::Broken => {}
        }
        match ready!(read(&mut self.backend, cx, &mut scratch.raw[..CHUNK])) {
            Ok(0) => {
                self.blame(Cause::Backend);
                self.backend_ended = true;
                self.to_client = Flow::Ending { complete: !self.backend_reset };
            }
            Ok(count) => {
                if self.channel.encrypt(&scratch.raw[..count], &mut scratch.output).is_err() {
                    self.to_client = Flow::Ending { complete: false };
                } else {
                    self.carried.to_client += count as u64;
                }
                self.channel.send(&mut self.client, cx, &mut scratch.output, Send::Now);
            }
            Err(_gone) => {
                // Not an end but a reset: the client shall not take it for a complete answer.
                self.backend_ended = true;
                self.to_client = Flow::Ending { complete: false };
                self.break_to_backend();
            }
        }
        Poll::Ready(())
    }

    /// Ready when no TLS output is pending, or none will ever be taken.
    fn flush_to_client(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        if ready!(self.channel.poll_flush(&mut self.client, cx)).is_err() {
            self.blame(Cause::ClientGone);
            self.to_client = Flow::Broken;
        }
        Poll::Ready(self.to_client)
    }
}
