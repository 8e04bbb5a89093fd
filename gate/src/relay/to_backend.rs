//! The direction from the client to the backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::Relay;
use super::flow::{Cause, Flow};
use crate::channel::{Peer, read};
use crate::pending::Pending;
use crate::scratch::Scratch;

impl Relay {
    /// One step from client to backend. Pending: the waker is registered, or there is nothing
    /// left to do.
    pub(super) fn poll_to_backend(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<()> {
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
                    self.channel.send(&mut self.client, cx, &mut scratch.output);
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

    pub(super) fn break_to_backend(&mut self) {
        self.blame(Cause::BackendGone);
        self.pending = Pending::default();
        self.to_backend = Flow::Broken;
    }
}
