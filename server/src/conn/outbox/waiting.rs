//! The share of one connection in the backlog.

use std::sync::Arc;

use super::Backlog;

/// The number of bytes that wait in one outbox. They are also counted in the backlog, which all
/// connections share. Bytes that the socket takes at once are not counted, so most deliveries do
/// not touch the backlog.
#[derive(Debug)]
pub(super) struct WaitingBytes {
    bytes: usize,
    /// The bytes of a message that the peer has not finished.
    incoming: usize,
    pub(super) all: Arc<Backlog>,
}

impl WaitingBytes {
    pub(super) fn nothing(all: Arc<Backlog>) -> Self {
        Self { bytes: 0, incoming: 0, all }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

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

    /// Notes the bytes of an unfinished message. Returns whether they are within the connection's
    /// share.
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
