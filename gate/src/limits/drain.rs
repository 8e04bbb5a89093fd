//! The limit on open connections, and the order in which they are closed after the stop signal.
//!
//! Clients reconnect when their connection ends. If all connections were closed at once, all
//! clients would reconnect at once, so the closes are spread over the allowed time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shared::linger;
use shared::shutdown::{Drained, Shutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(crate) struct Drain {
    shutdown: Shutdown,
    limit: Duration,
    permits: Arc<Semaphore>,
    /// The maximum number of open connections.
    pub(crate) capacity: usize,
    live_at_stop: OnceLock<usize>,
    slots_taken: AtomicUsize,
}

impl Drain {
    pub(crate) fn new(shutdown: Shutdown, limit: Duration, capacity: usize) -> Self {
        Self {
            shutdown,
            limit,
            permits: Arc::new(Semaphore::new(capacity)),
            capacity,
            live_at_stop: OnceLock::new(),
            slots_taken: AtomicUsize::new(0),
        }
    }

    /// Waits for a permit for one connection. Dropping the permit returns it. `None` if the gate
    /// stops first. Cancel safe.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.shutdown.stopping() => None,
            // The semaphore is never closed, so acquiring a permit cannot fail.
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        }
    }

    /// Completes when this connection must be closed, some time after the stop signal. Each
    /// connection has its own delay. The longest delay is just below the limit.
    pub(crate) async fn close_slot(&self) {
        self.shutdown.stopping().await;
        // Every open connection gets here right after the stop signal. The first one to arrive
        // stores the number of open connections.
        let live = *self
            .live_at_stop
            .get_or_init(|| self.capacity.saturating_sub(self.permits.available_permits()));
        let slot = self.slots_taken.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(slot_delay(self.limit, slot, live)).await;
    }

    /// Whether the stop signal has come. Before that, [`Drain::close_slot`] cannot complete and
    /// need not be polled again.
    pub(crate) fn has_begun(&self) -> bool {
        self.shutdown.is_stopping()
    }

    /// Waits for the remaining connections, at most until the limit.
    pub(crate) async fn finished(&self) -> Drained {
        // Even with a limit of 0, closing takes a moment, because the last bytes must arrive.
        self.shutdown.drained(self.limit.max(linger::LIMIT)).await
    }
}

/// The delay after which the `slot`-th of `live` connections is closed. The slots are evenly
/// spread: a single connection gets half of the limit to finish its work, and the last one of many
/// still has time to close properly.
fn slot_delay(limit: Duration, slot: usize, live: usize) -> Duration {
    let live = live.max(slot);
    // There are far fewer than 2^52 connections, so the conversion to `f64` is exact.
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^52")]
    limit.mul_f64(slot as f64 / (live + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_spread_inside_the_limit() {
        let limit = Duration::from_secs(30);
        assert_eq!(slot_delay(limit, 1, 1), Duration::from_secs(15));
        assert_eq!(slot_delay(limit, 1, 2), Duration::from_secs(10));
        assert_eq!(slot_delay(limit, 2, 2), Duration::from_secs(20));
        assert!(slot_delay(limit, 5, 2) < limit);
        assert_eq!(slot_delay(Duration::ZERO, 1, 1), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_closed_before_the_stop() {
        let shutdown = Shutdown::new();
        let drain = Drain::new(shutdown.clone(), Duration::from_secs(30), 8);
        let _permit = drain.permit().await.unwrap();
        let before = tokio::time::timeout(Duration::from_secs(3_600), drain.close_slot()).await;
        assert!(before.is_err());

        shutdown.stop();
        assert!(drain.permit().await.is_none());
        let start = tokio::time::Instant::now();
        drain.close_slot().await;
        assert_eq!(start.elapsed(), Duration::from_secs(15));
    }
}
