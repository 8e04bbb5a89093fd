//! How far this server has come along the stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Behind for less than this, a server is as good as any other: under load there is always
/// something on its way, and a way that is lost is mostly found again at once.
const GRACE: Duration = Duration::from_secs(1);

/// Why a server is behind.
const READING: &str = "reading what the other servers have appended";
pub(super) const STUCK: &str = "the stream cannot be read; the log says why";

/// What is known of the stream's end, and since when and why this server is not near it.
#[derive(Debug)]
pub(super) struct StreamProgress {
    acknowledged: AtomicU64,
    behind: Mutex<Option<(Instant, &'static str)>>,
}

impl StreamProgress {
    /// Nothing has been read.
    pub(super) fn new() -> Self {
        Self {
            acknowledged: AtomicU64::new(0),
            behind: Mutex::new(Some((Instant::now(), READING))),
        }
    }

    /// NATS has acknowledged an append of this server as this entry.
    pub(super) fn acknowledge(&self, seq: u64) {
        self.acknowledged.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last entry that NATS has acknowledged to this server.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Everything that is to come is on its way.
    pub(super) fn is_near(&self) {
        *self.behind.lock() = None;
    }

    /// There is more to read than is on its way.
    pub(super) fn is_behind(&self) {
        self.is_behind_for(READING);
    }

    /// The stream cannot be read at present.
    pub(super) fn is_stuck(&self) {
        self.is_behind_for(STUCK);
    }

    fn is_behind_for(&self, why: &'static str) {
        let mut behind = self.behind.lock();
        let since = behind.map_or_else(Instant::now, |(since, _)| since);
        *behind = Some((since, why));
    }

    /// Why it has been behind for so long that clients had better go elsewhere.
    pub(super) fn lags(&self) -> Option<&'static str> {
        let behind = *self.behind.lock();
        behind.filter(|(since, _)| since.elapsed() > GRACE).map(|(_, why)| why)
    }

    /// Whether it is not behind at all.
    pub(super) fn has_caught_up(&self) -> bool {
        self.behind.lock().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_for_a_moment_does_not_lag() {
        let progress = StreamProgress::new();
        assert!(!progress.has_caught_up());
        progress.is_near();
        assert!(progress.has_caught_up());
        for _ in 0..10 {
            progress.is_behind();
            progress.is_behind();
            tokio::time::advance(GRACE / 2).await;
            assert_eq!(progress.lags(), None);
            progress.is_near();
        }
        progress.is_behind();
        tokio::time::advance(GRACE / 2).await;
        // It does not begin anew.
        progress.is_stuck();
        tokio::time::advance(GRACE).await;
        assert_eq!(progress.lags(), Some(STUCK));
        progress.is_near();
        assert_eq!(progress.lags(), None);
    }
}
