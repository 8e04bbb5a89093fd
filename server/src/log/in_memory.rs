//! The log in memory: it gives the order and nothing else.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Appending, Counts, Log, Sink};
use crate::entry::{AppendContext, Entry};

/// Orders entries by a lock. Nothing survives the process.
#[derive(Debug)]
pub(crate) struct MemoryLog<S> {
    sink: Arc<S>,
    /// The last seq given. Held while the sink applies, so that it sees entries in order.
    head: Mutex<u64>,
    counts: Counts,
}

impl<S: Sink> MemoryLog<S> {
    /// An empty log whose entries take effect in `sink`.
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
