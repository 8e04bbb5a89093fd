//! Notifies the WebSockets that the server stops.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The two steps of a stop. First the connections stop reading, and the requests so far are
/// answered. Then all connections close.
#[derive(Debug, Default)]
pub struct ShutdownNotice {
    stop_reading: AtomicBool,
    close: CancellationToken,
}

impl ShutdownNotice {
    /// Makes all connections stop reading. No task is woken for this, because most connections are
    /// idle.
    pub fn stop_reading(&self) {
        self.stop_reading.store(true, Ordering::Relaxed);
    }

    /// Closes all connections.
    pub fn close(&self) {
        self.stop_reading();
        self.close.cancel();
    }

    pub(super) fn reading_has_stopped(&self) -> bool {
        self.stop_reading.load(Ordering::Relaxed)
    }

    pub(super) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.close.cancelled()
    }
}
