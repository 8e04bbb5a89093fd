//! How far the log is applied, and the reset after lost entries.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Hub;
use crate::hub::dedup::DedupWindow;
use crate::hub::delivery_queue::Work;
use crate::log::Target;

/// Between looks at how far this server is.
const LOOK: Duration = Duration::from_millis(5);

impl Hub {
    /// The last entry applied.
    #[must_use]
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Ends when the entry `seq` was applied, or after so long. Cancel safe.
    pub(crate) async fn has_applied(&self, seq: u64, patience: Duration) {
        let until = Instant::now() + patience;
        while self.head() < seq && Instant::now() < until {
            // Rare, and over soon: not worth a notification on every entry.
            sleep(LOOK).await;
        }
    }

    /// Skips a number that has no entry.
    pub(crate) fn skip(&self, seq: u64) {
        let _state = self.state.lock();
        self.move_to(seq);
    }

    /// Entries through `seq` are lost and some of them were not applied: clears the history and closes
    /// all listeners, so that they reconnect.
    pub(crate) fn reset_to(&self, seq: u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        self.move_to(seq);
        state.history.reset_to(seq);
        state.dedup = DedupWindow::default();
        state.generation.0 += 1;
        state.registrations = 0;
        state.ids = 0;
        for (tag, listeners) in state.tags.drain() {
            for (index, shard) in self.shards.iter().enumerate() {
                if listeners.concerns(index, Target::Everyone) {
                    shard.push(Work::Dissolve { tag: tag.clone() });
                }
            }
        }
    }

    /// The caller holds the lock.
    pub(super) fn move_to(&self, seq: u64) {
        self.head.store(seq, Ordering::Release);
    }
}
