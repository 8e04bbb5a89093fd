//! Relays bytes both ways between a client behind TLS and a plain backend.
//!
//! Each connection is one future, which runs when a socket is ready. It owns no read buffer: it
//! reads into a buffer of the thread and writes in the same synchronous step. If a receiver does
//! not take all bytes, the connection keeps the rest, and reads nothing more from the sender until
//! the rest is written. So a slow receiver slows down its sender, and an idle connection holds no
//! buffer.
//!
//! The two directions are independent, like two pipes. The end of one direction, or a failed write,
//! does not end the other one. All bytes that arrived before an end are delivered before that end.

mod to_backend;
mod to_client;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::flow::{Cause, Ended, Flow};
use crate::backend::Stream;
use crate::buffer::{self, Pending};
use crate::metrics::{Carried, Meter};
use crate::tls::{PeerState, Secured, TlsSession};

/// Rounds of reading and writing before other connections of the thread get their turn. Each round
/// reads at most 64 KiB, so 8 rounds forward 512 KiB each way. Encrypting them takes some
/// milliseconds at worst.
const ROUNDS: usize = 8;

/// How often the gate checks whether a client that closed its sending side has disconnected. tokio
/// reports the end of the sending side once, but does not report a later failure of the socket. The
/// kernel detects an unreachable machine by keepalive after 120 s: 60 s of silence and 4 probes, 15
/// s each.
const GONE_CHECK: Duration = Duration::from_secs(5);

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Relay {
    client: TcpStream,
    session: TlsSession,
    backend: Stream,
    to_backend: Flow,
    to_client: Flow,
    /// Plaintext that the backend has not taken yet. `session` holds the TLS output that the client
    /// has not taken yet.
    pending: Pending,
    /// Whether the client has sent any plaintext, even if the backend did not take it.
    client_sent: bool,
    /// Whether the client's stream was read to its proper end.
    client_ended: bool,
    backend_ended: bool,
    /// Whether the client's socket was read to its end, which may come after the end of TLS.
    client_closed: bool,
    /// Whether a write failed because the backend reset the connection. The kernel reports a reset
    /// only once, and the next read then looks like a proper end.
    backend_reset: bool,
    carried: Carried,
    cause: Option<Cause>,
    /// True until the first round. Until then, the pending TLS output is the last part of the
    /// handshake.
    is_new: bool,
}

impl Relay {
    /// Starts the relay after the handshake. Plaintext that the client sent together with its last
    /// handshake message goes to the backend first.
    pub(crate) fn new(client: TcpStream, secured: Secured, backend: Stream) -> Self {
        let mut this = Self {
            client,
            session: secured.session,
            backend,
            to_backend: Flow::Open,
            to_client: Flow::Open,
            pending: Pending::default(),
            client_sent: !secured.early.is_empty(),
            client_ended: false,
            backend_ended: false,
            client_closed: false,
            backend_reset: false,
            carried: Carried::default(),
            cause: None,
            is_new: true,
        };
        this.pending.put(&secured.early);
        this.note_peer(secured.peer);
        this
    }

    /// Runs until both directions have ended, and counts bytes in `meter`. Cancel safe: no bytes
    /// are lost, and the next call continues.
    ///
    /// After the backend has ended its side, the client may go on sending. If the client then sends
    /// nothing for `half_closed_timeout`, the gate closes the connection, because the backend may
    /// have exited, and the gate detects an exited backend only by a write.
    pub(crate) async fn run(&mut self, meter: &Meter, half_closed_timeout: Duration) {
        let mut idle = None;
        let mut next_check = None;
        poll_fn(|cx| {
            let before = self.carried;
            let mut state = self.poll(cx);
            if state.is_pending() && self.is_silent_too_long(cx, &mut idle, half_closed_timeout) {
                // The backend ended first, but the log must name the client's silence as the cause.
                self.cause = None;
                self.close(Cause::Silence);
                state = self.poll(cx);
            }
            if state.is_pending() && self.client_has_vanished(cx, &mut next_check) {
                self.lose_client();
                state = self.poll(cx);
            }
            meter.add(before, self.carried);
            state
        })
        .await;
    }

    /// Whether the client has sent nothing for `half_closed_timeout` since the backend ended its
    /// side. A client whose bytes the backend has not taken yet does not count as silent.
    fn is_silent_too_long(
        &self,
        cx: &mut Context<'_>,
        idle: &mut Option<(u64, Pin<Box<Sleep>>)>,
        half_closed_timeout: Duration,
    ) -> bool {
        if self.to_client != Flow::Done || self.to_backend != Flow::Open {
            return false;
        }
        if !self.pending.is_empty() {
            *idle = None;
            return false;
        }
        let sent = self.carried.to_backend;
        if idle.as_ref().is_none_or(|(before, _)| *before != sent) {
            *idle = Some((sent, Box::pin(sleep(half_closed_timeout))));
        }
        idle.as_mut().is_some_and(|(_, until)| until.as_mut().poll(cx).is_ready())
    }

    /// Whether the client closed its sending side and its socket has failed since then.
    fn client_has_vanished(
        &self,
        cx: &mut Context<'_>,
        next_check: &mut Option<Pin<Box<Sleep>>>,
    ) -> bool {
        if !self.client_closed || self.to_backend != Flow::Done || self.to_client.is_over() {
            return false;
        }
        loop {
            let until = next_check.get_or_insert_with(|| Box::pin(sleep(GONE_CHECK)));
            if until.as_mut().poll(cx).is_pending() {
                return false;
            }
            *next_check = None;
            if !matches!(self.client.take_error(), Ok(None)) {
                return true;
            }
        }
    }

    /// Records that the client's socket has failed and can neither be read nor written any more.
    fn lose_client(&mut self) {
        self.set_cause(Cause::ClientGone);
        self.client_ended = true;
        self.client_closed = true;
        if !self.to_client.is_over() {
            self.to_client = Flow::Broken;
        }
    }

    /// Ends both directions as if both sides had closed. [`Relay::run`] then delivers the pending
    /// bytes and ends both streams.
    pub(crate) fn close(&mut self, cause: Cause) {
        self.set_cause(cause);
        for flow in [&mut self.to_backend, &mut self.to_client] {
            if *flow == Flow::Open {
                *flow = Flow::Ending { complete: true };
            }
        }
    }

    pub(crate) fn into_ended(self: Box<Self>) -> Ended {
        // The cause is always set here, because every path that ends a connection sets it.
        let cause = self.cause.unwrap_or(Cause::Stop);
        // The cause `Silence` is possible only after the backend has ended its side.
        let by_backend = matches!(cause, Cause::Backend | Cause::BackendGone | Cause::Silence);
        Ended {
            unanswered: by_backend && self.client_sent && self.carried.to_client == 0,
            client: (!self.client_ended && self.to_client == Flow::Done).then_some(self.client),
            backend: (!self.backend_ended && self.to_backend == Flow::Done).then_some(self.backend),
            carried: self.carried,
            cause,
        }
    }

    fn set_cause(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        buffer::with(|scratch| {
            for _ in 0..ROUNDS {
                // Reading from the client can produce TLS output (an alert, a key update), so the
                // direction to the client is polled second.
                let up = self.poll_to_backend(cx, scratch);
                if std::mem::take(&mut self.is_new) && up.is_ready() {
                    // The client has already sent a request, so an answer will follow, and the
                    // session tickets can share its packet. Without a request, the tickets are sent
                    // at once: the client may hold back its request (Nagle's algorithm) until a
                    // packet acknowledges its last handshake message.
                    self.session.send_with_next(&self.client);
                }
                let down = self.poll_to_client(cx, scratch);
                if self.to_backend.is_over() && self.to_client.is_over() {
                    return Poll::Ready(());
                }
                if up.is_pending() && down.is_pending() {
                    return Poll::Pending;
                }
            }
            // More work is left, but other connections come first. A task that wakes itself goes to
            // the end of the runtime's queue.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Updates both directions after bytes from the client were processed.
    fn note_peer(&mut self, peer: PeerState) {
        let complete = peer == PeerState::Ended;
        match peer {
            PeerState::Open => return,
            PeerState::Ended => {
                self.set_cause(Cause::Client);
                self.client_ended = true;
            }
            PeerState::Faulty(_) => {
                self.set_cause(Cause::ClientFault);
                // The TLS alert is pending. After it, nothing more can be sent to this client.
                if self.to_client == Flow::Open {
                    self.to_client = Flow::Ending { complete: false };
                }
            }
        }
        if self.to_backend == Flow::Open {
            self.to_backend = Flow::Ending { complete };
        }
    }
}
