//! A connection's outgoing bytes.
//!
//! Whoever has something for a client writes it straight to its socket, without a task of its own
//! in between; only what the socket does not take waits here, bounded in bytes, until the
//! connection's task finds the socket writable. All writes go through one lock, so frames never
//! interleave and a partly written one is always finished first.

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
/// Close code of a server that restarts, or has lost what it would have to hand over.
pub(crate) const GOING_AWAY: u16 = 1001;

/// One connection's way out.
pub struct Outbox {
    wire: Wire,
    state: Mutex<OutboxState>,
    /// The connection's own task.
    changed: AtomicWaker,
    /// Never true: see [`Outbox::touch`].
    touched: AtomicBool,
}

impl Outbox {
    /// An empty outbox for a socket. What waits in it is part of `backlog`.
    #[must_use]
    pub fn new(wire: impl Into<Wire>, backlog: Arc<Backlog>) -> Self {
        Self {
            wire: wire.into(),
            state: Mutex::new(OutboxState::new(backlog)),
            changed: AtomicWaker::new(),
            touched: AtomicBool::new(false),
        }
    }

    /// The socket, for reading.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Reads one byte of it, so that the rest is on its way from memory when it is needed. Whoever
    /// is about to write to many touches some of them first: their waits then overlap.
    #[must_use]
    pub fn touch(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Writes whole frames, or queues what the socket does not take: as much as may wait here, of what
    /// is left in all. Beyond, the client is closed.
    pub fn push(&self, frames: &Bytes) -> Pushed {
        self.push_within(frames, |waiting| limits::OUTBOX.min(waiting.share()))
    }

    /// The same for a piece of what was missed, whose size was chosen by [`Outbox::share`]: what
    /// others have come to since does not count against it.
    pub fn push_piece(&self, frames: &Bytes) -> Pushed {
        self.push_within(frames, |_waiting| limits::OUTBOX)
    }

    /// How much may wait here, of what is left in all.
    #[must_use]
    pub fn share(&self) -> usize {
        self.state.lock().waiting.share()
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
            state.close(SLOW_CONSUMER, "reads too slowly; come back and resume");
        }
        drop(state);
        self.changed.wake();
        if overflowed { Pushed::Overflowed } else { Pushed::Queued }
    }

    /// Notes how many bytes wait of a message that the peer has not finished; they count like those
    /// that wait for it, and beyond its share it is closed.
    pub fn note_incoming(&self, bytes: usize) {
        let mut state = self.state.lock();
        if !state.waiting.set_incoming(bytes) {
            state.close(SLOW_CONSUMER, "a long message, and too much waits already; come back");
            drop(state);
            self.changed.wake();
        }
    }

    /// Says goodbye after what is queued; nothing can be pushed afterwards. The first code wins.
    pub fn close(&self, code: u16, reason: &str) {
        self.state.lock().close(code, reason);
        self.changed.wake();
    }

    /// As [`Outbox::close`], but drops what is queued: nobody is there to read it.
    pub fn shed_and_close(&self, code: u16, reason: &str) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.shed();
            state.close(code, reason);
        }
        drop(state);
        self.changed.wake();
    }

    /// Answers a close frame of the peer (RFC 6455 section 5.5.1) and closes.
    pub fn close_back(&self, code: Option<u16>) {
        let echo = code.map_or_else(frame::empty_close_frame, |code| frame::close_frame(code, ""));
        let closing = Closing { code: code.unwrap_or(1000), by_peer: true };
        self.state.lock().close_with(closing, echo);
        self.changed.wake();
    }

    /// Holds back what others push until the returned guard is released with the bytes that
    /// come before it.
    ///
    /// A registration needs it: its reply tells where in the log it stands, and the shard may
    /// deliver what follows before the reply could be written.
    pub fn hold(&self) -> Held<'_> {
        let mut state = self.state.lock();
        state.held_at = Some(state.queue.len());
        Held { outbox: self }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) -> Demand {
        let mut state = self.state.lock();
        self.flush_locked(&mut state);
        state.demand()
    }

    /// What the connection's task has to do now.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.state.lock().demand()
    }

    /// Whether bytes wait for the socket.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.state.lock().waiting.bytes() > 0
    }

    /// The code that this side closes with, once it does.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        self.closing().map(|closing| closing.code)
    }

    /// How this side closes, once it does.
    #[must_use]
    pub fn closing(&self) -> Option<Closing> {
        self.state.lock().closing
    }

    /// Asks for [`Outbox::take_drained`] to say so once nothing waits any more. Answers false if
    /// that is so already.
    pub fn await_drained(&self) -> bool {
        let mut state = self.state.lock();
        state.awaited = !state.queue.is_empty() || state.held_at.is_some();
        state.awaited
    }

    /// Whether nothing waits any more and somebody asked for that.
    #[must_use]
    pub fn take_drained(&self) -> bool {
        let mut state = self.state.lock();
        let drained = state.awaited && state.queue.is_empty() && state.held_at.is_none();
        state.awaited &= !drained;
        drained
    }

    /// The bytes that had to wait for the socket and were taken by it since the connection began.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.state.lock().flushed
    }

    /// Wakes this waker, and no earlier one, when [`Outbox::demand`] may have changed. Look at that
    /// after registering.
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
            // A burst's memory goes back at once.
            state.queue = VecDeque::new();
        }
    }

    /// Writes until the socket takes no more. An error marks the outbox broken and empties it.
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

/// Others' bytes wait until this is released or dropped.
#[derive(Debug)]
pub struct Held<'a> {
    outbox: &'a Outbox,
}

impl Held<'_> {
    /// Writes `first`, then what was pushed meanwhile.
    pub fn release(self, first: Bytes) {
        let mut state = self.outbox.state.lock();
        if let Some(place) = state.held_at
            && !state.broken
            // A close frame that came meanwhile (slow consumer, replaced) is the last word.
            && state.closing.is_none()
        {
            state.waiting.add(first.len());
            state.queue.insert(place, first);
        }
    }
}

impl Drop for Held<'_> {
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
