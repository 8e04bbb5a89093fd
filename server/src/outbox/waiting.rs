//! How much waits for the sockets: one, and all together.

use prometheus_client::metrics::gauge::Gauge;

/// Bytes that wait in one outbox, and their part in the sum over all outboxes. Only what a socket
/// did not take at once comes here, so the sum costs most deliveries nothing.
#[derive(Debug)]
pub(super) struct Waiting {
    bytes: usize,
    all: Gauge,
}

impl Waiting {
    pub(super) fn nothing(all: Gauge) -> Self {
        Self { bytes: 0, all }
    }

    /// The sum over all outboxes.
    pub(super) fn all(&self) -> Gauge {
        self.all.clone()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.inc_by(signed(bytes));
    }

    pub(super) fn subtract(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.dec_by(signed(bytes));
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

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
