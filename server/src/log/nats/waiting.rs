//! Tracks the appends whose entries have not come back from the stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connect::Connections;
use super::peers::Peers;
use super::progress::StreamProgress;
use crate::entry::AppendId;
use crate::log::answer::{AppendAnswer, OpenAppends};
use crate::log::{Counts, Queued};
use crate::protocol::Outcome;

/// If an entry does not come back from the stream within this time, the outcome is unknown.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that the tasks of the log share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The `writer` in the [`AppendId`] of every entry: the random number of this process.
    pub(super) writer: u64,
    pub(super) open: OpenAppends,
    pub(super) waiting: Mutex<PendingAppends>,
    pub(super) counts: Counts,
    pub(super) peers: Arc<Peers>,
    pub(super) progress: StreamProgress,
}

#[derive(Debug, Default)]
pub(super) struct PendingAppends {
    /// The number of the last append, counted from 1.
    pub(super) number: u64,
    pub(super) by_number: HashMap<u64, PendingAppend>,
    pub(super) bytes: usize,
}

/// An append whose entry has not come back from the stream.
#[derive(Debug)]
pub(super) struct PendingAppend {
    pub(super) answer: AppendAnswer,
    pub(super) origin: Option<u64>,
    pub(super) received: Instant,
    pub(super) bytes: usize,
    /// Whether the entry may have been sent to NATS.
    pub(super) is_sent: bool,
}

impl PendingAppends {
    pub(super) fn queued(&self) -> Queued {
        Queued { entries: self.by_number.len(), bytes: self.bytes }
    }
}

impl Shared {
    /// The state before the first append.
    pub(super) fn new(writer: u64, epoch: u64, connections: Connections) -> Self {
        Self {
            writer,
            open: OpenAppends::default(),
            waiting: Mutex::default(),
            counts: Counts::default(),
            peers: Arc::new(Peers::new(writer, epoch, connections)),
            progress: StreamProgress::new(),
        }
    }

    /// The number of the last entry that the stream is known to have.
    pub(super) fn known(&self) -> u64 {
        self.progress.acknowledged().max(self.peers.furthest())
    }

    /// Removes and returns the waiting append of an entry, if this process has appended the entry.
    pub(super) fn take(&self, append: Option<AppendId>) -> Option<PendingAppend> {
        let number = append.filter(|append| append.writer == self.writer)?.number;
        self.remove(number)
    }

    fn remove(&self, number: u64) -> Option<PendingAppend> {
        let mut all = self.waiting.lock();
        let waiting = all.by_number.remove(&number)?;
        all.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Counts an append whose entry has come back, and returns its answer.
    pub(super) fn done(&self, waiting: PendingAppend) -> AppendAnswer {
        self.counts.appended(1);
        self.counts.commits.lock().note(waiting.received.elapsed());
        waiting.answer
    }

    /// Marks an append as sent. Returns `false` if it was answered already; then it must not be
    /// sent.
    pub(super) fn mark_sent(&self, number: u64) -> bool {
        let mut all = self.waiting.lock();
        let Some(waiting) = all.by_number.get_mut(&number) else { return false };
        waiting.is_sent = true;
        true
    }

    /// Answers an append that was not sent, or that NATS has not acknowledged. If its entry has
    /// come back in the meantime, the append was answered already.
    pub(super) fn fail(&self, number: u64, outcome: Outcome) {
        if let Some(waiting) = self.remove(number) {
            self.answer(waiting, outcome);
        }
    }

    /// Answers the appends whose entries have not come back in time. Entries that were not sent yet
    /// will not be sent.
    pub(super) fn expire(&self) {
        let mut guard = self.waiting.lock();
        let all = &mut *guard;
        let is_late =
            |_: &u64, waiting: &mut PendingAppend| waiting.received.elapsed() > RETURN_TIMEOUT;
        let late: Vec<PendingAppend> =
            all.by_number.extract_if(is_late).map(|(_, waiting)| waiting).collect();
        all.bytes -= late.iter().map(|waiting| waiting.bytes).sum::<usize>();
        drop(guard);
        for waiting in late {
            let outcome = if waiting.is_sent { Outcome::Unknown } else { Outcome::Refused };
            self.answer(waiting, outcome);
        }
    }

    fn answer(&self, waiting: PendingAppend, outcome: Outcome) {
        self.counts.failed(1, outcome);
        let why = match outcome {
            Outcome::Refused => "NATS accepts no messages at present; retry in a moment",
            Outcome::Unknown => {
                "NATS did not answer in time and may have stored the message; retry with the same mid"
            }
        };
        waiting.answer.fail(outcome, why);
    }
}
