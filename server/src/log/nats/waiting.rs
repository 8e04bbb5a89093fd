//! Appends whose entries have not come back by the way of the stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connect::Connections;
use super::peers::Peers;
use super::progress::StreamProgress;
use crate::entry::{AppendId, Appended};
use crate::log::Counts;
use crate::protocol::{Outcome, Refusal};

/// What was acknowledged comes back within this time, or its sender is told that it may.
const COMES_BACK: Duration = Duration::from_secs(10);

/// What the parts of the log have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// This process's own name for its appends.
    pub(super) writer: u64,
    pub(super) waiting: Mutex<AllWaiting>,
    pub(super) counts: Counts,
    pub(super) peers: Arc<Peers>,
    pub(super) progress: StreamProgress,
}

#[derive(Debug, Default)]
pub(super) struct AllWaiting {
    /// Entries taken so far.
    pub(super) number: u64,
    pub(super) by_number: HashMap<u64, PendingAppend>,
    pub(super) bytes: usize,
}

/// An append of which the entry has not come back.
#[derive(Debug)]
pub(super) struct PendingAppend {
    pub(super) answer: oneshot::Sender<Appended>,
    pub(super) origin: Option<u64>,
    pub(super) received: Instant,
    pub(super) bytes: usize,
    /// Whether it may have left for NATS.
    pub(super) has_left: bool,
}

impl Shared {
    /// Nothing has been appended yet.
    pub(super) fn new(writer: u64, epoch: u64, connections: Connections) -> Self {
        Self {
            writer,
            waiting: Mutex::default(),
            counts: Counts::default(),
            peers: Arc::new(Peers::new(writer, epoch, connections)),
            progress: StreamProgress::new(),
        }
    }

    /// The last entry that the stream is known to have.
    pub(super) fn known(&self) -> u64 {
        self.progress.acknowledged().max(self.peers.furthest())
    }

    /// Whoever waits for this entry, if this process has appended it.
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

    /// Its entry has its place in the log.
    pub(super) fn done(&self, waiting: PendingAppend) -> oneshot::Sender<Appended> {
        self.counts.appended(1);
        self.counts.commits.lock().note(waiting.received.elapsed());
        waiting.answer
    }

    /// It is about to leave. `false` if its sender has been answered already: then it must not.
    pub(super) fn leaves(&self, number: u64) -> bool {
        let mut all = self.waiting.lock();
        let Some(waiting) = all.by_number.get_mut(&number) else { return false };
        waiting.has_left = true;
        true
    }

    /// It did not leave after all, or NATS has not acknowledged it, when its entry may have come all
    /// the same.
    pub(super) fn fail(&self, number: u64, outcome: Outcome) {
        if let Some(waiting) = self.remove(number) {
            self.answer(waiting, outcome);
        }
    }

    /// Answers those whose entry has not come back in time. What has not left by then stays here.
    pub(super) fn give_up(&self) {
        let mut guard = self.waiting.lock();
        let all = &mut *guard;
        let is_late =
            |_: &u64, waiting: &mut PendingAppend| waiting.received.elapsed() > COMES_BACK;
        let late: Vec<PendingAppend> =
            all.by_number.extract_if(is_late).map(|(_, waiting)| waiting).collect();
        all.bytes -= late.iter().map(|waiting| waiting.bytes).sum::<usize>();
        drop(guard);
        for waiting in late {
            let outcome = if waiting.has_left { Outcome::Unknown } else { Outcome::Refused };
            self.answer(waiting, outcome);
        }
    }

    fn answer(&self, waiting: PendingAppend, outcome: Outcome) {
        self.counts.failed(1, outcome);
        let why = match outcome {
            Outcome::Refused => "NATS takes no messages at present; retry in a moment",
            Outcome::Unknown => {
                "NATS did not answer in time, and may have the message; retry with the same mid"
            }
        };
        let _ = waiting.answer.send(Err(Refusal::unavailable(outcome, why)));
    }
}
