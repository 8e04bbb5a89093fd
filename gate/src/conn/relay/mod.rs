//! Relays bytes both ways between a client behind TLS and a plain backend.
//!
//! One future per connection, woken by readiness. It owns no buffer: it reads into a buffer of the
//! thread and writes in the same synchronous step. Only what the other side did not take stays with
//! the connection, and until that is written, this side is not read. So a slow reader stops its
//! writer, and an idle connection holds no buffer.
//!
//! The directions are independent, like two pipes: the end of one direction, or a failed write,
//! does not end the other. What arrived before an end is always delivered before that end.

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

/// Rounds of reading and writing before other connections get their turn: half a MiB each way, at
/// worst some milliseconds of encryption.
const ROUNDS: usize = 8;

/// How often a connection checks whether a client that closed its side is gone altogether. tokio
/// reports the end of that side only once, and not that the socket failed later. The kernel notices
/// a silent machine after 60 + 4 × 15 s (keepalive).
const GONE_CHECK: Duration = Duration::from_secs(5);

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Relay {
    client: TcpStream,
    session: TlsSession,
    backend: Stream,
    to_backend: Flow,
    to_client: Flow,
    /// Plaintext that the backend has not taken yet. TLS output that the client has not taken yet
    /// is in `session`.
    pending: Pending,
    /// The client has sent something, even if the backend did not take it.
    client_sent: bool,
    /// The client ended its stream properly, so nothing of it is left unread.
    client_ended: bool,
    backend_ended: bool,
    /// Nothing more can come from the client's socket, whether or not TLS ended before.
    client_closed: bool,
    /// A write to the backend failed because the backend reset the connection. The kernel reports
    /// that only once, and the next read then looks like a proper end.
    backend_reset: bool,
    carried: Carried,
    cause: Option<Cause>,
    /// Nothing was relayed yet, and the pending TLS output is the end of the handshake.
    is_new: bool,
}

impl Relay {
    /// Starts after the handshake. What the client sent in the same packet as the end of its
    /// handshake goes to the backend first.
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

    /// Runs until both directions have ended, and counts bytes in `meter`. Cancel safe: nothing is
    /// lost, and the next call continues.
    ///
    /// After the backend has ended its side, the client may go on sending. If it then sends nothing
    /// for `half_closed_timeout`, the connection is closed: the backend may be gone altogether,
    /// which only a write would show.
    pub(crate) async fn run(&mut self, meter: &Meter, half_closed_timeout: Duration) {
        let mut idle = None;
        let mut next_check = None;
        poll_fn(|cx| {
            let before = self.carried;
            let mut state = self.poll(cx);
            if state.is_pending() && self.is_silent_too_long(cx, &mut idle, half_closed_timeout) {
                // The backend ended first, but the silence is what ends the connection.
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

    /// Whether the client has sent nothing for `half_closed_timeout` since the backend ended. While
    /// the backend has not taken what the client sent, the client is waiting and not silent.
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

    /// Whether the client, which closed its side before, is gone by now.
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

    /// The client's socket has failed: it can neither be read nor written any more.
    fn lose_client(&mut self) {
        self.set_cause(Cause::ClientGone);
        self.client_ended = true;
        self.client_closed = true;
        if !self.to_client.is_over() {
            self.to_client = Flow::Broken;
        }
    }

    /// Ends both directions as if both sources had ended: [`Relay::run`] then delivers what was
    /// read, and the ends.
    pub(crate) fn close(&mut self, cause: Cause) {
        self.set_cause(cause);
        for flow in [&mut self.to_backend, &mut self.to_client] {
            if *flow == Flow::Open {
                *flow = Flow::Ending { complete: true };
            }
        }
    }

    pub(crate) fn into_ended(self: Box<Self>) -> Ended {
        // Whatever ends a connection sets a cause.
        let cause = self.cause.unwrap_or(Cause::Stop);
        // A client counts as silent only after the backend has ended.
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
                // direction to the client comes second.
                let up = self.poll_to_backend(cx, scratch);
                if std::mem::take(&mut self.is_new) && up.is_ready() {
                    // The client has sent a request, so an answer follows, and the session tickets
                    // leave in the same packet. If it has not, it may be waiting for the tickets'
                    // packet, which acknowledges the end of the handshake: Nagle's algorithm waits
                    // for that before it sends more.
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
            // There is more to do, but other connections come first: a task that wakes itself goes
            // to the end of the queue.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Records the client's state after its bytes were received.
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
                // The alert is pending. After it, nothing more can be sent to this client.
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
