//! How much waits because of one connection, as part of all that waits.

use std::sync::Arc;

use super::Backlog;

/// Bytes that wait in one outbox, and their part in the sum over all connections. Only what a socket
/// did not take at once comes here, so the sum costs most deliveries nothing.
#[derive(Debug)]
pub(super) struct WaitingBytes {
    bytes: usize,
    /// Of a message that the peer has not finished.
    incoming: usize,
    all: Arc<Backlog>,
}

impl WaitingBytes {
    pub(super) fn nothing(all: Arc<Backlog>) -> Self {
        Self { bytes: 0, incoming: 0, all }
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

    /// Notes how much waits of an unfinished message. Whether that is no more than may.
    pub(super) fn set_incoming(&mut self, bytes: usize) -> bool {
        let share = self.share();
        self.all.subtract(self.incoming);
        self.all.add(bytes);
        self.incoming = bytes;
        bytes <= share
    }

    pub(super) fn clear(&mut self) {
        self.subtract(self.bytes);
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        self.clear();
        self.all.subtract(self.incoming);
    }
}
