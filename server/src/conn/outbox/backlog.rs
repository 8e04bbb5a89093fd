//! The memory of all connections together: bytes that wait for sockets, and unfinished messages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::limits;

/// One outbox may take 1/64 of the bytes that are left. However many clients read slowly, some
/// memory is then left for clients that are slow for a moment (dynamic thresholds, Choudhury and
/// Hahne, 1998).
const SHARE: usize = 64;

/// The number of bytes in the backlog of all connections, and its limit.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    most: usize,
    /// Whether a shard waits until replays can continue.
    awaited: AtomicBool,
    freed: Notify,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::new(limits::BACKLOG)
    }
}

impl Backlog {
    /// An empty backlog with a limit in bytes.
    pub fn new(most: usize) -> Self {
        let (awaited, freed) = (AtomicBool::new(false), Notify::new());
        Self { bytes: AtomicUsize::new(0), most, awaited, freed }
    }

    /// The number of bytes in the backlog now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes that may wait in one outbox.
    pub(super) fn share(&self) -> usize {
        self.most.saturating_sub(self.bytes()) / SHARE
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    // The accesses are sequentially consistent, as in `freed`, so that a waiting shard is never
    // missed: `freed` sees the new number of bytes, or this thread sees `awaited`.
    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst)
            && self.has_room_for_replay()
            && self.awaited.swap(false, Ordering::SeqCst)
        {
            self.freed.notify_waiters();
        }
    }

    /// Whether an outbox may take the smallest piece of a replay.
    pub(crate) fn has_room_for_replay(&self) -> bool {
        self.most.saturating_sub(self.bytes.load(Ordering::SeqCst)) / SHARE >= limits::REPLAY_LEAST
    }

    /// Waits until [`Backlog::has_room_for_replay`] is true. Cancel safe.
    pub(crate) async fn freed(&self) {
        loop {
            // The future exists before the check, so it notices bytes that are freed right after
            // the check.
            let freed = self.freed.notified();
            self.awaited.store(true, Ordering::SeqCst);
            if self.has_room_for_replay() {
                return;
            }
            freed.await;
        }
    }
}
