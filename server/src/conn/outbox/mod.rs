//! The outgoing bytes of a connection.
//!
//! A shard writes a frame straight to the client's socket, with no task in between. If the socket
//! does not take all bytes, the rest waits here, bounded in size, until the connection's task finds
//! the socket writable. All writes go through one lock, so frames never interleave, and a partly
//! written frame is always finished first.

mod backlog;
mod outcome;
mod state;
mod waiting;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

pub use backlog::Backlog;
pub(crate) use outcome::{Closing, Demand, Pushed};
use state::OutboxState;
use waiting::WaitingBytes;
pub(crate) use wire::Wire;

use crate::conn::frame;
use crate::limits;

/// Close code of a client that reads too slowly.
pub(crate) const SLOW_CONSUMER: u16 = 4000;
/// Close code if the server restarts, or if it has missed entries of the log.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The outgoing side of one connection.
pub struct Outbox {
    /// The socket. The connection's task also reads from it.
    pub(crate) wire: Wire,
    state: Mutex<OutboxState>,
    /// Wakes the connection's task.
    changed: AtomicWaker,
    /// Always false; [`Outbox::touch`] reads it.
    touched: AtomicBool,
}

impl Outbox {
    /// Creates an empty outbox for a socket. The bytes that wait in the outbox count in `backlog`.
    pub fn new(wire: impl Into<Wire>, backlog: Arc<Backlog>) -> Self {
        Self {
            wire: wire.into(),
            state: Mutex::new(OutboxState::new(backlog)),
            changed: AtomicWaker::new(),
            touched: AtomicBool::new(false),
        }
    }

    /// Reads one byte of the outbox, so that the CPU loads its cache lines. A shard that will write
    /// to many outboxes touches several of them first, so that their cache misses overlap.
    pub(crate) fn touch(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Writes whole frames and queues the bytes that the socket does not take. If more bytes wait
    /// than [`limits::OUTBOX`] or than the outbox's share of the backlog, the client is closed as a
    /// slow consumer.
    pub fn push(&self, frames: &Bytes) -> Pushed {
        self.push_within(frames, |waiting| limits::OUTBOX.min(waiting.share()))
    }

    /// Writes a piece of a replay like [`Outbox::push`]. `Outbox::share` determined the size of the
    /// piece, so only [`limits::OUTBOX`] applies, even if the backlog has grown since.
    pub fn push_piece(&self, frames: &Bytes) -> Pushed {
        self.push_within(frames, |_waiting| limits::OUTBOX)
    }

    /// The number of bytes that may wait in this outbox. It depends on how full the backlog is.
    pub(crate) fn share(&self) -> usize {
        self.state.lock().waiting.share()
    }

    /// The backlog in which the waiting bytes of this outbox count.
    pub(crate) fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.state.lock().waiting.all)
    }

    fn push_within(&self, frames: &Bytes, most: impl Fn(&WaitingBytes) -> usize) -> Pushed {
        let mut state = self.state.lock();
        if state.closing.is_some() || state.broken {
            return Pushed::Closed;
        }
        if state.queue.is_empty() && state.held_at.is_none() {
            match self.write(&mut state, frames, Wire::send_now) {
                Ok(length) if length == frames.len() => return Pushed::Sent,
                Ok(length) => state.enqueue_rest(frames.clone(), length),
                Err(_broken) => {
                    drop(state);
                    self.changed.wake();
                    return Pushed::Closed;
                }
            }
        } else {
            state.enqueue_rest(frames.clone(), 0);
        }
        let overflowed = state.waiting.bytes() > most(&state.waiting);
        if overflowed {
            state.shed();
            state.close(SLOW_CONSUMER, "reads too slowly; reconnect and resume");
        }
        drop(state);
        self.changed.wake();
        if overflowed { Pushed::Overflowed } else { Pushed::Queued }
    }

    /// Notes how many bytes of an unfinished message of the peer are in memory. They count in the
    /// backlog like bytes that wait for the socket. If they exceed the connection's share, the peer
    /// is closed.
    pub fn note_incoming(&self, bytes: usize) {
        let mut state = self.state.lock();
        if !state.waiting.set_incoming(bytes) {
            state.close(SLOW_CONSUMER, "too little memory for a message of this length; reconnect");
            drop(state);
            self.changed.wake();
        }
    }

    /// Queues a close frame after the bytes that wait. Nothing can be pushed afterwards. If this is
    /// called again, the first code remains.
    pub fn close(&self, code: u16, reason: &str) {
        self.state.lock().close(code, reason);
        self.changed.wake();
    }

    /// Does the same as [`Outbox::close`], but first drops the frames that wait, because the peer
    /// does not read them. A partly written frame is finished.
    pub fn shed_and_close(&self, code: u16, reason: &str) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.shed();
            state.close(code, reason);
        }
        drop(state);
        self.changed.wake();
    }

    /// Answers a close frame of the peer (RFC 6455 section 5.5.1). Nothing can be pushed
    /// afterwards.
    pub fn close_back(&self, code: Option<u16>) {
        let echo = code.map_or_else(frame::empty_close_frame, |code| frame::close_frame(code, ""));
        let closing = Closing { code: code.unwrap_or(1000), by_peer: true };
        self.state.lock().close_with(closing, echo);
        self.changed.wake();
    }

    /// Holds back the frames that others push, until the returned guard is released with the bytes
    /// that must precede them.
    ///
    /// `set` needs this: the shard may deliver messages of a registration before the reply to `set`
    /// is written, but the client must read the reply first.
    pub fn hold(&self) -> OutboxHold<'_> {
        let mut state = self.state.lock();
        state.held_at = Some(state.queue.len());
        OutboxHold { outbox: self }
    }

    /// Writes as much of the queue as the socket takes, and returns what is left to do.
    pub fn flush(&self) -> Demand {
        let mut state = self.state.lock();
        self.flush_locked(&mut state);
        state.demand()
    }

    /// What the task of the connection has to do now.
    pub(crate) fn demand(&self) -> Demand {
        self.state.lock().demand()
    }

    /// Whether bytes wait for the socket.
    pub fn has_waiting(&self) -> bool {
        self.state.lock().waiting.bytes() > 0
    }

    /// The code of the close frame, if one is queued or written.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.closing().map(|closing| closing.code)
    }

    /// The close frame, if one is queued or written.
    pub(crate) fn closing(&self) -> Option<Closing> {
        self.state.lock().closing
    }

    /// Makes `take_drained` report when the queue becomes empty. Returns false if the queue is
    /// empty already.
    pub fn await_drained(&self) -> bool {
        let mut state = self.state.lock();
        state.awaited = !state.queue.is_empty() || state.held_at.is_some();
        state.awaited
    }

    /// Whether the queue has become empty since [`Outbox::await_drained`]. Returns true once for
    /// each call of that function.
    pub(crate) fn take_drained(&self) -> bool {
        let mut state = self.state.lock();
        let drained = state.awaited && state.queue.is_empty() && state.held_at.is_none();
        state.awaited &= !drained;
        drained
    }

    /// The bytes that waited in the queue and were written since the connection began.
    pub(crate) fn flushed(&self) -> u64 {
        self.state.lock().flushed
    }

    /// Registers the waker that is woken when `demand` may have changed. It replaces an earlier
    /// waker. Read the demand after this call, not before.
    pub fn wake_on_change(&self, waker: &Waker) {
        self.changed.register(waker);
    }

    fn flush_locked(&self, state: &mut OutboxState) {
        while !state.broken && state.held_at.is_none() {
            let Some(front) = state.queue.front().cloned() else { break };
            let rest = front.slice(state.written..);
            match self.write(state, &rest, Wire::try_write) {
                Ok(length) => {
                    state.waiting.subtract(length);
                    state.written += length;
                    state.flushed += length as u64;
                    if length < rest.len() {
                        break;
                    }
                    state.queue.pop_front();
                    state.written = 0;
                }
                Err(_broken) => break,
            }
        }
        if state.queue.is_empty() {
            // Frees the memory of a burst at once.
            state.queue = VecDeque::new();
        }
    }

    /// Writes until the socket takes no more bytes. An error marks the outbox as broken and empties
    /// it.
    fn write(
        &self,
        state: &mut OutboxState,
        bytes: &[u8],
        write: impl Fn(&Wire, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match write(&self.wire, &bytes[written..]) {
                Ok(0) => return state.fail(io::ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return state.fail(error),
            }
        }
        Ok(written)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Outbox")
            .field("waiting", &state.waiting.bytes())
            .field("closing", &state.closing)
            .field("broken", &state.broken)
            .finish_non_exhaustive()
    }
}

/// A guard: pushed frames wait while it exists. See [`Outbox::hold`].
#[derive(Debug)]
pub struct OutboxHold<'a> {
    outbox: &'a Outbox,
}

impl OutboxHold<'_> {
    /// Writes `first`, then the frames that were pushed in the meantime.
    pub fn release(self, first: Bytes) {
        let mut state = self.outbox.state.lock();
        if let Some(index) = state.held_at
            && !state.broken
            // No frame may follow a close frame that was queued in the meantime.
            && state.closing.is_none()
        {
            state.waiting.add(first.len());
            state.queue.insert(index, first);
        }
    }
}

impl Drop for OutboxHold<'_> {
    fn drop(&mut self) {
        let mut state = self.outbox.state.lock();
        state.held_at = None;
        self.outbox.flush_locked(&mut state);
        let wake = state.demand() != Demand::Nothing || state.awaited;
        drop(state);
        if wake {
            self.outbox.changed.wake();
        }
    }
}

#[cfg(test)]
pub(crate) mod pipe;
#[cfg(test)]
mod tests;
