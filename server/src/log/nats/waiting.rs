//! Appends whose entries have not come back by the way of the stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::peers::Peers;
use crate::log::{AppendId, Appended, Counts};
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
    /// Whether this server has read all that there is.
    pub(super) caught_up: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct AllWaiting {
    /// Entries taken so far.
    pub(super) number: u64,
    pub(super) by_number: HashMap<u64, Waiting>,
    pub(super) bytes: usize,
}

/// An append of which the entry has not come back.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) answer: oneshot::Sender<Appended>,
    pub(super) origin: Option<u64>,
    pub(super) received: Instant,
    pub(super) bytes: usize,
}

impl Shared {
    /// Nothing has been appended yet.
    pub(super) fn new(writer: u64) -> Self {
        Self {
            writer,
            waiting: Mutex::default(),
            counts: Counts::default(),
            peers: Arc::new(Peers::new(writer)),
            caught_up: AtomicBool::new(false),
        }
    }

    /// Whoever waits for this entry, if this process has appended it.
    pub(super) fn take(&self, append: Option<AppendId>) -> Option<Waiting> {
        let number = append.filter(|append| append.writer == self.writer)?.number;
        self.remove(number)
    }

    fn remove(&self, number: u64) -> Option<Waiting> {
        let mut all = self.waiting.lock();
        let waiting = all.by_number.remove(&number)?;
        all.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Its entry has its place in the log.
    pub(super) fn done(&self, waiting: Waiting) -> oneshot::Sender<Appended> {
        self.counts.appended(1);
        self.counts.commits.lock().note(waiting.received.elapsed());
        waiting.answer
    }

    /// NATS has not acknowledged this append. Its entry may have come all the same.
    pub(super) fn fail(&self, number: u64, outcome: Outcome) {
        let Some(waiting) = self.remove(number) else { return };
        self.counts.failed(1, outcome);
        let why = match outcome {
            Outcome::Refused => "NATS takes no messages at present; retry in a moment",
            Outcome::Unknown => {
                "NATS did not answer in time, and may have the message; retry with the same mid"
            }
        };
        let _ = waiting.answer.send(Err(Refusal::unavailable(outcome, why)));
    }

    /// Answers those whose entry has not come back in time.
    pub(super) fn give_up(&self) {
        let all = self.waiting.lock();
        let late =
            all.by_number.iter().filter(|(_, waiting)| waiting.received.elapsed() > COMES_BACK);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        drop(all);
        for number in late {
            self.fail(number, Outcome::Unknown);
        }
    }
}
