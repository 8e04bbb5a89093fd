//! The direction from the client to the backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::Relay;
use crate::buffer::{self, Pending, Scratch};
use crate::conn::flow::{Cause, Flow};
use crate::tls::PeerState;

impl Relay {
    /// One step from client to backend. `Pending`: the waker is registered, or nothing is left to
    /// do.
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
            // This fails only if the connection is gone, and then the next read reports that.
            let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
            self.to_backend = Flow::Done;
            return Poll::Ready(());
        }
        match ready!(self.session.poll_read(&mut self.client, cx, scratch)) {
            // The client closed without close_notify, as many programs do. It counts as a normal
            // end.
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
                // A reset ends both directions. What came before it is still delivered.
                self.lose_client();
                self.to_backend = Flow::Ending { complete: false };
            }
        }
        Poll::Ready(())
    }

    /// Keeps reading from a client that has ended its stream and waits for an answer: if it goes
    /// away while the backend is silent, nothing else would show that.
    fn poll_after_end(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        if self.client_closed || self.to_client.is_over() {
            return Poll::Pending;
        }
        self.poll_discard(cx, scratch)
    }

    /// Reads and throws away what the client sends, as there is nobody to take it.
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

    /// Writes what the backend takes now, and keeps the rest.
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
        // EPIPE is no reset: the backend ended its stream properly before it went, or it only
        // stopped reading.
        self.backend_reset = error.kind() != io::ErrorKind::BrokenPipe;
        self.break_to_backend();
    }

    pub(super) fn break_to_backend(&mut self) {
        self.set_cause(Cause::BackendGone);
        self.pending = Pending::default();
        self.to_backend = Flow::Broken;
    }
}
