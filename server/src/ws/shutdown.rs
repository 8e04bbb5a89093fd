//! The end of a server, as its connections learn of it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// First nothing more is read, so that what was said is dealt with and comes to an end; then everyone
/// is told.
#[derive(Debug, Default)]
pub struct ShutdownNotice {
    last_call: AtomicBool,
    said: CancellationToken,
}

impl ShutdownNotice {
    /// From now on nothing more is taken from any peer. Wakes nobody: most have nothing to say.
    pub fn last_call(&self) {
        self.last_call.store(true, Ordering::Relaxed);
    }

    /// Tells every connection to come to its end.
    pub fn say(&self) {
        self.last_call();
        self.said.cancel();
    }

    pub(super) fn is_last_call(&self) -> bool {
        self.last_call.load(Ordering::Relaxed)
    }

    pub(super) fn said(&self) -> WaitForCancellationFuture<'_> {
        self.said.cancelled()
    }
}
