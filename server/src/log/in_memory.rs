//! The log in memory. It only puts entries in order, and stores none.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Appending, Counts, Log, Sink};
use crate::entry::{AppendContext, Entry};

/// A log that orders entries with a lock. Nothing survives the process.
#[derive(Debug)]
pub(crate) struct MemoryLog<S> {
    sink: Arc<S>,
    /// The seq of the last entry. The lock is held while the sink applies an entry, so that the
    /// sink sees the entries in order.
    head: Mutex<u64>,
    counts: Counts,
}

impl<S: Sink> MemoryLog<S> {
    /// Creates an empty log, which passes entries to `sink`.
    pub(crate) fn new(sink: Arc<S>) -> Self {
        Self { sink, head: Mutex::new(0), counts: Counts::default() }
    }
}

impl<S: Sink> Log for MemoryLog<S> {
    fn append(&self, entry: Entry, context: AppendContext) -> Appending {
        let mut head = self.head.lock();
        if let Err(refusal) = self.sink.admit() {
            return self.counts.refuse(refusal);
        }
        *head += 1;
        self.counts.appended(1);
        Appending::Done(self.sink.apply(*head, &entry, context))
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}
