//! The memory of all outboxes together: bytes that wait for sockets, and unfinished messages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::limits;

/// One outbox may take 1/64 of what is left. So however many clients read slowly, some memory is
/// left for those that are slow for a moment (dynamic thresholds, Choudhury and Hahne, 1998).
const SHARE: usize = 64;

/// The bytes that wait, and their limit.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    most: usize,
    /// Whether a shard waits until replays can go on.
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

    /// The bytes that wait now.
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

    // Sequentially consistent, as `freed` is: of two threads at least one sees what the other has done.
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

    /// Ends when [`Backlog::has_room_for_replay`]. Cancel safe.
    pub(crate) async fn freed(&self) {
        loop {
            // Woken from its creation on, so nothing that is freed after the check is missed.
            let freed = self.freed.notified();
            self.awaited.store(true, Ordering::SeqCst);
            if self.has_room_for_replay() {
                return;
            }
            freed.await;
        }
    }
}
