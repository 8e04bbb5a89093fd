//! What waits to be written: bounded, taken as a whole.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::entry::{AppendContext, AppendId, Appended, Entry};
use crate::limits;
use crate::log::Queued;

/// The most entries that are written at once, and the most bytes: some milliseconds' work, so that
/// the last of them does not wait for long.
const BATCH: usize = 2_048;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// An entry and whoever waits to hear of it.
#[derive(Debug)]
pub(super) struct QueuedAppend {
    pub(super) entry: Entry,
    pub(super) context: AppendContext,
    pub(super) answer: oneshot::Sender<Appended>,
}

/// Why an entry is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// There are too many, or too large ones.
    Full,
    /// Nobody will write any more.
    Closed,
}

/// The queue between those who append and the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
    abandoned: Condvar,
    /// This process's own name for its appends.
    writer: u64,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<QueuedAppend>,
    bytes: usize,
    /// Taken and not finished.
    taken: usize,
    /// Entries taken so far.
    number: u64,
    closed: bool,
    abandoned: bool,
}

impl Queue {
    pub(super) fn new(writer: u64) -> Self {
        let (filled, abandoned) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::default(), filled, abandoned, writer }
    }

    /// Takes an entry its place.
    pub(super) fn push(
        &self,
        mut entry: Entry,
        context: AppendContext,
    ) -> Result<oneshot::Receiver<Appended>, Rejected> {
        let (answer, outcome) = oneshot::channel();
        let bytes = entry.size();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected::Closed);
        }
        if state.waiting.len() >= limits::LOG_QUEUE || state.bytes + bytes > limits::LOG_QUEUE_BYTES
        {
            return Err(Rejected::Full);
        }
        state.number += 1;
        entry.append = Some(AppendId { writer: self.writer, number: state.number });
        state.bytes += bytes;
        state.waiting.push_back(QueuedAppend { entry, context, answer });
        drop(state);
        self.filled.notify_one();
        Ok(outcome)
    }

    /// Moves what waits, up to a batch, into `batch`; waits for `patience` if there is nothing.
    /// Whether there will ever be more.
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
        state.taken = batch.len();
        !(state.closed && state.waiting.is_empty() && batch.is_empty())
    }

    /// What was taken last has its answers.
    pub(super) fn finished(&self) {
        self.state.lock().taken = 0;
    }

    /// Whether everything has its answer.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.waiting.is_empty() && state.taken == 0
    }

    pub(super) fn waiting(&self) -> Queued {
        let state = self.state.lock();
        Queued { entries: state.waiting.len(), bytes: state.bytes }
    }

    /// Takes nothing more and forgets what waits: those who wait learn that there is no answer.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        (state.closed, state.abandoned) = (true, true);
        state.waiting.clear();
        self.abandoned.notify_all();
    }

    /// Whether it is abandoned within this time.
    pub(super) fn is_abandoned_within(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        self.abandoned.wait_while_for(&mut state, |state| !state.abandoned, limit);
        state.abandoned
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        // One name for the process, a number for each entry, in order.
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
