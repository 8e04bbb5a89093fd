//! The direction of the relay from the backend to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::Relay;
use crate::buffer::{self, CHUNK, Scratch};
use crate::conn::flow::{Cause, Flow};

impl Relay {
    /// Takes one step from backend to client. `Pending` means that the waker is registered or that
    /// nothing is left to do.
    pub(super) fn poll_to_client(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<()> {
        match self.to_client {
            Flow::Done => return Poll::Pending,
            Flow::Broken => {
                let read = ready!(buffer::read(&mut self.backend, cx, &mut scratch.raw));
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
                // The `close_notify` is sent in one packet with the end of the stream (FIN).
                self.session.send_close_notify(&mut scratch.output);
                self.session.queue(&mut scratch.output);
                self.session.send_with_next(&self.client);
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
        match ready!(buffer::read(&mut self.backend, cx, &mut scratch.raw[..CHUNK])) {
            Ok(0) => {
                self.set_cause(Cause::Backend);
                self.backend_ended = true;
                self.to_client = Flow::Ending { complete: !self.backend_reset };
            }
            Ok(count) => {
                if self.session.encrypt(&scratch.raw[..count], &mut scratch.output).is_err() {
                    self.to_client = Flow::Ending { complete: false };
                } else {
                    self.carried.to_client += count as u64;
                }
                self.session.send(&mut self.client, cx, &mut scratch.output);
            }
            Err(_gone) => {
                // A reset is not a proper end, so the client gets no `close_notify` and cannot take
                // a partial answer for a complete one.
                self.backend_ended = true;
                self.to_client = Flow::Ending { complete: false };
                self.break_to_backend();
            }
        }
        Poll::Ready(())
    }

    /// Writes the pending TLS output. Returns the new state once nothing is pending or a write has
    /// failed.
    fn flush_to_client(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        if ready!(self.session.poll_flush(&mut self.client, cx)).is_err() {
            self.set_cause(Cause::ClientGone);
            self.to_client = Flow::Broken;
        }
        Poll::Ready(self.to_client)
    }
}
