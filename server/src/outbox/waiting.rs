//! How much waits for one socket, as part of all that waits.

use std::sync::Arc;

use super::Backlog;

/// Bytes that wait in one outbox, and their part in the sum over all outboxes. Only what a socket
/// did not take at once comes here, so the sum costs most deliveries nothing.
#[derive(Debug)]
pub(super) struct Waiting {
    bytes: usize,
    all: Arc<Backlog>,
}

impl Waiting {
    pub(super) fn nothing(all: Arc<Backlog>) -> Self {
        Self { bytes: 0, all }
    }

    /// All outboxes together.
    pub(super) fn all(&self) -> Arc<Backlog> {
        Arc::clone(&self.all)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much may wait here, of what is left in all.
    pub(super) fn share(&self) -> usize {
        self.all.share()
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.add(bytes);
    }

    pub(super) fn subtract(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.subtract(bytes);
    }

    pub(super) fn clear(&mut self) {
        self.subtract(self.bytes);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}
