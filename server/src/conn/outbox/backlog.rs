//! The bytes that wait because of all connections together: for their sockets, or for the ends of
//! their messages.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// One outbox may have so much of what is left: then even the last of very many slow readers leaves
/// something for those who are slow for a moment only (dynamic thresholds, Choudhury and Hahne,
/// 1998).
const SHARE: usize = 64;

/// What waits, and the most that may.
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
    /// Nothing waits yet.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), most }
    }

    /// What waits, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What may wait in one outbox.
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
