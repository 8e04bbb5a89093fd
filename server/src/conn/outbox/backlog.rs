//! The memory of all outboxes together: bytes that wait for sockets, and unfinished messages.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// One outbox may take 1/64 of what is left. So however many clients read slowly, some memory is
/// left for those that are slow for a moment (dynamic thresholds, Choudhury and Hahne, 1998).
const SHARE: usize = 64;

/// The bytes that wait, and their limit.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    most: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::new(limits::BACKLOG)
    }
}

impl Backlog {
    /// An empty backlog with a limit in bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), most }
    }

    /// The bytes that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes that may wait in one outbox.
    pub(super) fn share(&self) -> usize {
        self.most.saturating_sub(self.bytes()) / SHARE
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
