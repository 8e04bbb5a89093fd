//! The counts of a shard.

use std::time::Instant;

use crate::histogram::Histogram;

/// The counts of one shard. They are plain integers, so that a delivery costs one addition. When
/// work is done, they are added to the counts in the shard's queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Frames that were written to sockets or queued in outboxes, without those of replays.
    pub deliveries: u64,
    pub bytes: u64,
    /// Messages that were replayed.
    pub replayed: u64,
    /// Replays begun minus replays ended.
    pub replays: i64,
    /// The time from the acceptance of an entry until the last listener of the shard has it.
    pub latency: Histogram,
}

impl Tally {
    /// Counts frames that were delivered to several connections.
    pub(crate) fn deliver(&mut self, connections: u64, frames: usize, bytes: usize) {
        self.deliveries += connections * frames as u64;
        self.bytes += connections * bytes as u64;
    }

    /// Notes the latency of entries that all listeners of the shard have got by now.
    pub(crate) fn reached_all(&mut self, received: impl Iterator<Item = Instant>) {
        let now = Instant::now();
        received.for_each(|then| self.latency.note(now.saturating_duration_since(then)));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.bytes += other.bytes;
        self.replayed += other.replayed;
        self.replays += other.replays;
        self.latency.add(&other.latency);
    }
}

/// The work that shards have done, and the work that is queued for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardProgress {
    pub tally: Tally,
    /// The number of queued pieces of work: deliveries, registrations and others.
    pub entries: usize,
    /// The bytes of the queued frames.
    pub bytes: usize,
}

impl ShardProgress {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}
