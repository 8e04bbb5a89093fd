//! How far this server is behind the end of the stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A server that is behind for less than this counts as caught up: under load there are always
/// entries under way, and a lost subscription is mostly replaced at once.
const GRACE: Duration = Duration::from_secs(1);

/// Why a server is behind.
pub(super) const READING: &str = "reading what the other servers have appended";
pub(super) const STUCK: &str = "the stream cannot be read; the log says why";

/// What is known of the stream's end, and since when and why this server is behind it.
#[derive(Debug)]
pub(super) struct StreamProgress {
    acknowledged: AtomicU64,
    behind: watch::Sender<Option<(Instant, &'static str)>>,
}

impl StreamProgress {
    /// The progress before anything was read.
    pub(super) fn new() -> Self {
        let behind = watch::Sender::new(Some((Instant::now(), READING)));
        Self { acknowledged: AtomicU64::new(0), behind }
    }

    /// Notes that NATS has acknowledged an append of this server as the entry `seq`.
    pub(super) fn acknowledge(&self, seq: u64) {
        self.acknowledged.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last entry that NATS has acknowledged to this server.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Notes that all entries that this server lacks are under way.
    pub(super) fn is_near(&self) {
        self.behind.send_if_modified(|behind| behind.take().is_some());
    }

    /// Notes that there are more entries to read than are under way, or that the stream cannot be
    /// read.
    pub(super) fn is_behind(&self, why: &'static str) {
        self.behind.send_if_modified(|behind| {
            let since = behind.map_or_else(Instant::now, |(since, _)| since);
            *behind = Some((since, why));
            // Nobody waits until this server is behind, so nobody is notified.
            false
        });
    }

    /// Why this server has been behind for longer than the grace period.
    pub(super) fn lags(&self) -> Option<&'static str> {
        let behind = *self.behind.borrow();
        behind.filter(|(since, _)| since.elapsed() > GRACE).map(|(_, why)| why)
    }

    /// Ends when this server is not behind.
    pub(super) async fn caught_up(&self) {
        // The sender is a part of `self`.
        let _ = self.behind.subscribe().wait_for(Option::is_none).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_for_a_moment_does_not_lag() {
        let progress = StreamProgress::new();
        assert!(progress.caught_up().now_or_never().is_none());
        progress.is_near();
        assert!(progress.caught_up().now_or_never().is_some());
        for _ in 0..10 {
            progress.is_behind(READING);
            progress.is_behind(READING);
            tokio::time::advance(GRACE / 2).await;
            assert_eq!(progress.lags(), None);
            progress.is_near();
        }
        progress.is_behind(READING);
        tokio::time::advance(GRACE / 2).await;
        // The time behind does not begin anew.
        progress.is_behind(STUCK);
        tokio::time::advance(GRACE).await;
        assert_eq!(progress.lags(), Some(STUCK));
        progress.is_near();
        assert_eq!(progress.lags(), None);
    }
}
