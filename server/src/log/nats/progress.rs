//! Notes whether this server is behind the end of the stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A server that is behind for less than this time counts as caught up. Under load some entries are
/// always on their way, and a lost subscription is usually replaced at once.
const GRACE: Duration = Duration::from_secs(1);

/// The reasons why a server is behind.
pub(super) const READING: &str = "reading what the other servers have appended";
pub(super) const STUCK: &str = "the stream cannot be read; the log says why";

/// What this server knows about the end of the stream, and since when and why it is behind.
#[derive(Debug)]
pub(super) struct StreamProgress {
    acknowledged: AtomicU64,
    behind: watch::Sender<Option<(Instant, &'static str)>>,
}

impl StreamProgress {
    /// The state before anything was read: the server is behind.
    pub(super) fn new() -> Self {
        let behind = watch::Sender::new(Some((Instant::now(), READING)));
        Self { acknowledged: AtomicU64::new(0), behind }
    }

    /// Notes that NATS has acknowledged an append of this server as the entry `seq`.
    pub(super) fn acknowledge(&self, seq: u64) {
        self.acknowledged.fetch_max(seq, Ordering::Relaxed);
    }

    /// The number of the last entry that NATS has acknowledged to this server.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Notes that this server is close to the end of the stream: NATS is already sending all
    /// entries that it lacks.
    pub(super) fn is_near(&self) {
        self.behind.send_if_modified(|behind| behind.take().is_some());
    }

    /// Notes that this server is behind: it lacks more entries than NATS is sending, or the stream
    /// cannot be read.
    pub(super) fn is_behind(&self, why: &'static str) {
        self.behind.send_if_modified(|behind| {
            let since = behind.map_or_else(Instant::now, |(since, _)| since);
            *behind = Some((since, why));
            // No task waits for this state, so none is notified.
            false
        });
    }

    /// The reason why this server lags; `None` if it is not behind, or only within the grace
    /// period.
    pub(super) fn lags(&self) -> Option<&'static str> {
        let behind = *self.behind.borrow();
        behind.filter(|(since, _)| since.elapsed() > GRACE).map(|(_, why)| why)
    }

    /// Completes when this server is not behind.
    pub(super) async fn caught_up(&self) {
        // `wait_for` fails only if the sender is dropped, but `self` owns the sender.
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
        // A new reason does not restart the time for which the server is behind.
        progress.is_behind(STUCK);
        tokio::time::advance(GRACE).await;
        assert_eq!(progress.lags(), Some(STUCK));
        progress.is_near();
        assert_eq!(progress.lags(), None);
    }
}
