//! How far this server has come along the stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Behind for less than this, a server is as good as any other: under load there is always
/// something on its way, and a way that is lost is mostly found again at once.
const GRACE: Duration = Duration::from_secs(1);

/// What is known of the stream's end, and since when this server is not near it.
#[derive(Debug)]
pub(super) struct Progress {
    acknowledged: AtomicU64,
    behind: Mutex<Option<Instant>>,
}

impl Progress {
    /// Nothing has been read.
    pub(super) fn new() -> Self {
        Self { acknowledged: AtomicU64::new(0), behind: Mutex::new(Some(Instant::now())) }
    }

    /// NATS has acknowledged an append of this server as this entry.
    pub(super) fn acknowledge(&self, seq: u64) {
        self.acknowledged.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last entry that NATS has acknowledged to this server.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Notes whether there is more to read than is on its way.
    pub(super) fn note(&self, is_near: bool) {
        let mut behind = self.behind.lock();
        match (is_near, *behind) {
            (true, _) => *behind = None,
            (false, None) => *behind = Some(Instant::now()),
            (false, Some(_)) => {}
        }
    }

    /// Whether it has been behind for so long that clients had better go elsewhere.
    pub(super) fn lags(&self) -> bool {
        self.behind.lock().is_some_and(|since| since.elapsed() > GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_for_a_moment_does_not_lag() {
        let progress = Progress::new();
        progress.note(true);
        for _ in 0..10 {
            progress.note(false);
            progress.note(false);
            tokio::time::advance(GRACE / 2).await;
            assert!(!progress.lags());
            progress.note(true);
        }
        progress.note(false);
        tokio::time::advance(GRACE / 2).await;
        // It does not begin anew.
        progress.note(false);
        tokio::time::advance(GRACE).await;
        assert!(progress.lags());
        progress.note(true);
        assert!(!progress.lags());
    }
}
