//! What a shard has done.

use std::time::Instant;

use crate::histogram::Histogram;

/// Counts of one shard, in integers of its own: a delivery costs one addition. What has come
/// together is handed over with the work that is done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Frames that were written to a socket or queued for it, as things happened.
    pub deliveries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages handed to those who came back.
    pub replayed: u64,
    /// Replays that have begun, minus those that have ended.
    pub replays: i64,
    /// How long each entry took from its acceptance until the last listener here had it.
    pub latency: Histogram,
}

impl Tally {
    /// Counts the same frames for so many connections.
    pub(crate) fn deliver(&mut self, connections: u64, frames: usize, bytes: usize) {
        self.deliveries += connections * frames as u64;
        self.bytes += connections * bytes as u64;
    }

    /// Notes that entries have reached everyone here. Those read from a log have no time.
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

/// What shards have done, and what waits for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardProgress {
    /// What they have done.
    pub tally: Tally,
    /// Entries, registrations and the like that wait.
    pub entries: usize,
    /// Bytes of frames that wait.
    pub bytes: usize,
}

impl ShardProgress {
    /// Adds another shard's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}
