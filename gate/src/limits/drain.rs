//! Places for connections, and whose turn it is to be closed after the stop signal.
//!
//! Clients whose connection ends come back. Closed all together they would come back together, so
//! each gets another moment of the time allowed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shared::linger;
use shared::shutdown::{Drained, Shutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bound on connections, and the order in which those left at the stop are closed.
#[derive(Debug)]
pub(crate) struct Drain {
    shutdown: Shutdown,
    limit: Duration,
    permits: Arc<Semaphore>,
    capacity: usize,
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

    /// The most connections at a time.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A place for one connection, once there is one; dropping it frees the place. `None` when
    /// the gate stops. Cancel safe.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.shutdown.stopping() => None,
            // Never closed, so this cannot fail.
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        }
    }

    /// Ends when this connection is to be closed: never before the stop, and then each at
    /// another moment, the last one before the limit.
    pub(crate) async fn close_slot(&self) {
        self.shutdown.stopping().await;
        // Asked by every live connection at once, right after the stop.
        let live = *self
            .live_at_stop
            .get_or_init(|| self.capacity.saturating_sub(self.permits.available_permits()));
        let slot = self.slots_taken.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(slot_delay(self.limit, slot, live)).await;
    }

    /// Whether [`Drain::close_slot`] can end at all: it need not be polled again before that.
    pub(crate) fn has_begun(&self) -> bool {
        self.shutdown.is_stopping()
    }

    /// Waits for the connections that are left, until the limit.
    pub(crate) async fn finished(&self) -> Drained {
        // Even with no time at all, those told to close need a moment for their last words.
        self.shutdown.drained(self.limit.max(linger::LIMIT)).await
    }
}

/// The moment of the `slot`-th of `live` connections: evenly spread, so that a single one still
/// gets half the time for what it is doing, and the last one has time to say goodbye.
fn slot_delay(limit: Duration, slot: usize, live: usize) -> Duration {
    let live = live.max(slot);
    // Connections are far fewer than 2^52, so nothing is lost here.
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
