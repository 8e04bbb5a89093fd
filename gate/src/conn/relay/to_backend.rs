//! The direction of the relay from the client to the backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::Relay;
use crate::buffer::{self, Pending, Scratch};
use crate::conn::flow::{Cause, Flow};
use crate::tls::PeerState;

impl Relay {
    /// Takes one step from client to backend. `Pending` means that the waker is registered or that
    /// nothing is left to do.
    pub(super) fn poll_to_backend(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<()> {
        match self.to_backend {
            Flow::Done => return self.poll_after_end(cx, scratch),
            Flow::Broken => {
                ready!(self.poll_discard(cx, scratch));
                if self.client_closed {
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
            // The shutdown fails only if the connection is already closed. The next read then
            // reports the closed connection.
            let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
            self.to_backend = Flow::Done;
            return Poll::Ready(());
        }
        match ready!(self.session.poll_read(&mut self.client, cx, scratch)) {
            // The client closed the connection without a `close_notify`, as many programs do. The
            // gate treats this as a normal end.
            Ok(0) => {
                self.client_closed = true;
                self.note_peer(PeerState::Ended);
            }
            Ok(count) => {
                let peer = self.session.receive(scratch, count);
                self.hand_to_backend(cx, &scratch.plain);
                if self.to_client.is_over() {
                    scratch.output.take();
                } else {
                    self.session.send(&mut self.client, cx, &mut scratch.output);
                }
                self.note_peer(peer);
            }
            Err(_gone) => {
                // A reset ends both directions. Bytes that came before the reset are still
                // delivered.
                self.lose_client();
                self.to_backend = Flow::Ending { complete: false };
            }
        }
        Poll::Ready(())
    }

    /// Keeps reading from a client that has ended its stream and waits for an answer. While the
    /// backend is silent, only a read shows that the client has disconnected.
    fn poll_after_end(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        if self.client_closed || self.to_client.is_over() {
            return Poll::Pending;
        }
        self.poll_discard(cx, scratch)
    }

    /// Reads and discards bytes from the client, because the backend takes no more.
    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        match ready!(buffer::read(&mut self.client, cx, &mut scratch.raw)) {
            Ok(1..) => {}
            Ok(0) => {
                self.client_ended = true;
                self.client_closed = true;
            }
            Err(_gone) => self.lose_client(),
        }
        Poll::Ready(())
    }

    /// Writes the bytes that the backend takes now, and keeps the rest.
    fn hand_to_backend(&mut self, cx: &mut Context<'_>, plain: &[u8]) {
        if plain.is_empty() {
            return;
        }
        self.client_sent = true;
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
        // EPIPE does not mean a reset: the backend ended its stream properly, or it only stopped
        // reading.
        self.backend_reset = error.kind() != io::ErrorKind::BrokenPipe;
        self.break_to_backend();
    }

    pub(super) fn break_to_backend(&mut self) {
        self.set_cause(Cause::BackendGone);
        self.pending = Pending::default();
        self.to_backend = Flow::Broken;
    }
}
