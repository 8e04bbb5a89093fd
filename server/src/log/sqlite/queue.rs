//! The queue of entries that wait to be written.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::entry::{AppendContext, AppendId, Appended, Entry};
use crate::log::Queued;
use crate::log::answer::{AppendAnswer, OpenAppends};

/// How many entries one transaction writes at most, and how many bytes. Such a transaction takes a
/// few milliseconds, so the last of its senders does not wait for long.
const BATCH: usize = 2_048;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// An entry in the queue, and the answer for which its sender waits.
#[derive(Debug)]
pub(super) struct QueuedAppend {
    pub(super) entry: Entry,
    pub(super) context: AppendContext,
    pub(super) answer: AppendAnswer,
}

/// The reason why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// Too many entries or bytes are in the queue.
    Full,
    /// The queue is closed, because the writer ends.
    Closed,
}

/// The queue between the tasks that append and the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
    abandoned: Condvar,
    open: OpenAppends,
    /// The `writer` in the [`AppendId`] of every entry: the random number of this process.
    writer: u64,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<QueuedAppend>,
    bytes: usize,
    /// The number of the last append, counted from 1.
    number: u64,
    closed: bool,
    abandoned: bool,
}

impl QueueState {
    fn queued(&self) -> Queued {
        Queued { entries: self.waiting.len(), bytes: self.bytes }
    }
}

impl Queue {
    pub(super) fn new(writer: u64) -> Self {
        let (filled, abandoned) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::default(), filled, abandoned, open: OpenAppends::default(), writer }
    }

    /// Queues an entry and gives it an [`AppendId`]. Returns the receiver of its outcome.
    pub(super) fn push(
        &self,
        mut entry: Entry,
        context: AppendContext,
    ) -> Result<oneshot::Receiver<Appended>, Rejected> {
        let bytes = entry.size();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected::Closed);
        }
        if !state.queued().has_room(bytes) {
            return Err(Rejected::Full);
        }
        let (answer, outcome) = self.open.begin();
        state.number += 1;
        entry.append = Some(AppendId { writer: self.writer, number: state.number });
        state.bytes += bytes;
        state.waiting.push_back(QueuedAppend { entry, context, answer });
        drop(state);
        self.filled.notify_one();
        Ok(outcome)
    }

    /// Moves the next entries into `batch`, at most as many as one transaction writes. Waits at
    /// most `patience` for an entry. Returns `false` if the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<QueuedAppend>, patience: Duration) -> bool {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && !state.closed && !patience.is_zero() {
            self.filled.wait_for(&mut state, patience);
        }
        let mut taken = 0;
        while batch.len() < BATCH
            && taken < BATCH_BYTES
            && let Some(waiting) = state.waiting.pop_front()
        {
            taken += waiting.entry.size();
            batch.push(waiting);
        }
        state.bytes -= taken;
        !(state.closed && state.waiting.is_empty() && batch.is_empty())
    }

    pub(super) fn waiting(&self) -> Queued {
        self.state.lock().queued()
    }

    /// Completes when every append has its answer.
    pub(super) fn answered(&self) -> BoxFuture<'_, ()> {
        self.open.answered()
    }

    /// Closes the queue and drops the waiting entries. Their senders get the outcome `unknown`.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        (state.closed, state.abandoned) = (true, true);
        state.waiting.clear();
        self.abandoned.notify_all();
    }

    /// Waits until the queue is abandoned, at most for `limit`. Returns whether it is abandoned.
    pub(super) fn is_abandoned_within(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        self.abandoned.wait_while_for(&mut state, |state| !state.abandoned, limit);
        state.abandoned
    }

    /// Closes the queue: every further entry is refused.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::log::sqlite::tests::broadcast;

    #[test]
    fn too_many_and_too_large_ones_are_not_taken() {
        let queue = Queue::new(1);
        let taken: Vec<_> = (0..limits::LOG_QUEUE)
            .map(|_| queue.push(broadcast("x"), AppendContext::default()))
            .collect();
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(
            queue.push(broadcast("x"), AppendContext::default()).unwrap_err(),
            Rejected::Full
        );
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, Duration::ZERO));
        assert_eq!(batch.len(), BATCH);
        queue.push(broadcast("x"), AppendContext::default()).unwrap();
        // Every entry has the number of this process, and the entries are numbered in order.
        let names = batch.iter().map(|waiting| waiting.entry.append.unwrap());
        let numbers: Vec<_> = names.map(|name| (name.writer, name.number)).collect();
        assert_eq!(numbers, (1..=BATCH as u64).map(|number| (1, number)).collect::<Vec<_>>());

        let queue = Queue::new(1);
        let large = broadcast(&"x".repeat(64 * 1024));
        let taken = std::iter::repeat_with(|| queue.push(large.clone(), AppendContext::default()))
            .take_while(Result::is_ok);
        let taken = taken.count();
        assert_eq!(taken, limits::LOG_QUEUE_BYTES / large.size());
        let mut batches = 0;
        batch.clear();
        while queue.take(&mut batch, Duration::ZERO) && !batch.is_empty() {
            assert!(batch.len() * large.size() <= BATCH_BYTES + large.size());
            batches += 1;
            batch.clear();
        }
        assert!(batches > 16);
        assert_eq!(queue.state.lock().bytes, 0);
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new(1);
        let outcome = queue.push(broadcast("x"), AppendContext::default()).unwrap();
        queue.close();
        assert_eq!(
            queue.push(broadcast("y"), AppendContext::default()).unwrap_err(),
            Rejected::Closed
        );
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, Duration::from_secs(60)));
        assert_eq!(batch.len(), 1);
        batch.clear();
        assert!(!queue.take(&mut batch, Duration::from_secs(60)));
        drop(outcome);
    }
}
