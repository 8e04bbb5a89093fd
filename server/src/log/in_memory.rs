//! The log that lives in the process: order and nothing else.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Appending, Counts, Entry, Log};
use crate::hub::Hub;
use crate::protocol::Outcome;

/// Orders entries by a lock. Nothing survives the process.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    hub: Arc<Hub>,
    /// The last seq given. Held while the hub applies, so that it sees entries in order.
    head: Mutex<u64>,
    counts: Counts,
}

impl MemoryLog {
    /// An empty log that feeds `hub`.
    #[must_use]
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, head: Mutex::new(0), counts: Counts::default() }
    }
}

impl Log for MemoryLog {
    fn append(&self, entry: Entry) -> Appending {
        let mut head = self.head.lock();
        if let Err(refusal) = self.hub.admit() {
            self.counts.failed(1, Outcome::Refused);
            return Appending::done(Err(refusal));
        }
        *head += 1;
        self.counts.appended(1);
        Appending::done(self.hub.apply(*head, &entry))
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}
