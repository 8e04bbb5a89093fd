//! The log that lives in the process: order and nothing else.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Appending, Entry, Log};
use crate::hub::Hub;

/// Orders entries by a lock. Nothing survives the process.
#[derive(Debug)]
pub struct MemoryLog {
    hub: Arc<Hub>,
    /// The last seq given. Held while the hub applies, so that it sees entries in order.
    head: Mutex<u64>,
}

impl MemoryLog {
    /// An empty log that feeds `hub`.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub, head: Mutex::new(0) }
    }
}

impl Log for MemoryLog {
    fn append(&self, entry: Entry) -> Appending {
        let mut head = self.head.lock();
        Appending::done(self.hub.admit().and_then(|()| {
            *head += 1;
            self.hub.apply(*head, &entry)
        }))
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
