//! The queue of an outbox, and how much of it is written.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Backlog, Closing, Demand, WaitingBytes};
use crate::conn::frame;

/// The state behind the lock of an outbox.
pub(super) struct OutboxState {
    /// Each element begins at the start of a frame.
    pub(super) queue: VecDeque<Bytes>,
    /// How many bytes of the first element are written.
    pub(super) written: usize,
    /// The number of bytes in `queue` that are not written yet.
    pub(super) waiting: WaitingBytes,
    /// The index in `queue` for the bytes that must go first; `None` unless the outbox is held.
    pub(super) held_at: Option<usize>,
    pub(super) closing: Option<Closing>,
    pub(super) broken: bool,
    /// Whether a replay waits until `queue` is empty.
    pub(super) awaited: bool,
    /// How many queued bytes were written since the connection began: the progress of a slow
    /// client.
    pub(super) flushed: u64,
}

impl OutboxState {
    pub(super) fn new(backlog: Arc<Backlog>) -> Self {
        Self {
            queue: VecDeque::new(),
            written: 0,
            waiting: WaitingBytes::nothing(backlog),
            held_at: None,
            closing: None,
            broken: false,
            awaited: false,
            flushed: 0,
        }
    }

    pub(super) fn demand(&self) -> Demand {
        if self.broken {
            Demand::Broken
        } else if self.closing.is_some() {
            Demand::Close
        } else if self.waiting.bytes() > 0 {
            Demand::Flush
        } else {
            Demand::Nothing
        }
    }

    /// Queues `frames`, of which the socket has already taken the first `written` bytes. `written`
    /// must be 0 unless the queue is empty.
    pub(super) fn enqueue_rest(&mut self, frames: Bytes, written: usize) {
        self.waiting.add(frames.len() - written);
        if written > 0 {
            self.written = written;
        }
        self.queue.push_back(frames);
    }

    /// Drops the queue, except the rest of a partly written frame.
    pub(super) fn shed(&mut self) {
        let first = self.queue.pop_front();
        self.queue = VecDeque::new();
        self.held_at = self.held_at.map(|_| 0);
        self.waiting.clear();
        if let Some(first) = first
            && self.written > 0
        {
            let end = frame::end_of_frame_at(&first, self.written);
            if end > self.written {
                // A copy, because the slice would keep the whole buffer alive.
                let rest = Bytes::copy_from_slice(&first[self.written..end]);
                self.waiting.add(rest.len());
                self.queue.push_back(rest);
                self.held_at = self.held_at.map(|_| 1);
            }
        }
        self.written = 0;
    }

    pub(super) fn close(&mut self, code: u16, reason: &str) {
        self.close_with(Closing { code, by_peer: false }, frame::close_frame(code, reason));
    }

    pub(super) fn close_with(&mut self, closing: Closing, frame: Bytes) {
        if self.closing.is_some() || self.broken {
            return;
        }
        self.closing = Some(closing);
        self.waiting.add(frame.len());
        self.queue.push_back(frame);
    }

    pub(super) fn fail(&mut self, error: io::Error) -> io::Result<usize> {
        self.queue = VecDeque::new();
        self.waiting.clear();
        (self.written, self.held_at, self.awaited, self.flushed) = (0, None, false, 0);
        self.broken = true;
        Err(error)
    }
}
