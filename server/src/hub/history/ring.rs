//! The last messages of one kind, limited in number, age and bytes, and the highest seq that was
//! evicted.
//!
//! Each tag has a ring for its broadcasts, and each inbox is a ring. The present time is taken from
//! the entries, so this module reads no clock.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::hub::history::HistoryBounds;

/// An estimate of the memory that a message takes besides its frame, in bytes: this record, the
/// allocator's headers and the indexes.
pub(crate) const OVERHEAD: usize = 160;

/// A message in the history.
#[derive(Debug, Clone)]
pub(crate) struct StoredMessage {
    pub seq: u64,
    /// The time at which a server accepted the message, in milliseconds since 1970.
    pub at: u64,
    /// The time at which the message expires, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// The encoded WebSocket frame.
    pub frame: Bytes,
}

impl StoredMessage {
    /// Whether the message may still be delivered at the time `now`: it has not expired.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    /// The time at which the message becomes older than the bounds allow.
    fn too_old_at(&self, bounds: &HistoryBounds) -> u64 {
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        self.at.saturating_add(age)
    }

    /// The memory that the message takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.frame.len() + OVERHEAD
    }
}

/// The messages that a ring will evict at the next entry because of their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aged {
    /// All messages through this seq are too old.
    pub through: u64,
    /// The value of [`Ring::evicted_through`] after the eviction.
    pub evicted_through: u64,
}

/// Messages in the order of their seqs, oldest first.
#[derive(Debug)]
pub(crate) struct Ring {
    messages: VecDeque<StoredMessage>,
    /// The memory that the messages take, in bytes.
    pub(crate) bytes: usize,
    /// The highest seq of a message that was evicted before it was read or expired.
    pub(crate) evicted_through: u64,
}

impl Ring {
    /// Creates an empty ring. The entries through `evicted_through` are gone.
    pub(crate) fn new(evicted_through: u64) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, evicted_through }
    }

    /// Stores a message, whose seq must be above all others, and evicts the messages that exceed
    /// the bounds. `now` is the time of the log.
    pub(crate) fn push(&mut self, message: StoredMessage, bounds: &HistoryBounds, now: u64) {
        self.drop_aged(bounds, now);
        if bounds.count == 0 || message.size() > bounds.bytes {
            self.note_evicted(&message, now);
            return;
        }
        self.bytes += message.size();
        self.messages.push_back(message);
        while self.messages.len() > bounds.count || self.bytes > bounds.bytes {
            self.drop_oldest(now);
        }
        self.drop_aged(bounds, now);
    }

    /// Evicts messages that are too old. A message counts as lost unless it expired before it
    /// became too old; the time of this call makes no difference.
    pub(crate) fn drop_aged(&mut self, bounds: &HistoryBounds, now: u64) {
        while let Some(oldest) = self.messages.front()
            && let until = oldest.too_old_at(bounds)
            && until <= now
        {
            self.drop_oldest(until);
        }
    }

    /// The messages that [`Ring::drop_aged`] would evict.
    pub(crate) fn aged(&self, bounds: &HistoryBounds, now: u64) -> Aged {
        let mut aged = Aged { through: 0, evicted_through: self.evicted_through };
        for message in self.messages.iter().take_while(|oldest| oldest.too_old_at(bounds) <= now) {
            aged.through = message.seq;
            if message.is_due(message.too_old_at(bounds)) {
                aged.evicted_through = aged.evicted_through.max(message.seq);
            }
        }
        aged
    }

    /// Evicts the oldest message, which counts as lost unless it had expired. Returns its seq.
    pub(crate) fn drop_oldest(&mut self, now: u64) -> Option<u64> {
        let oldest = self.messages.pop_front()?;
        self.bytes -= oldest.size();
        self.note_evicted(&oldest, now);
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        Some(oldest.seq)
    }

    /// Removes the messages for whose seq `unwanted` returns true. They do not count as lost.
    pub(crate) fn remove(&mut self, unwanted: impl Fn(u64) -> bool) {
        let bytes = &mut self.bytes;
        self.messages.retain(|message| {
            let gone = unwanted(message.seq);
            if gone {
                *bytes -= message.size();
            }
            !gone
        });
        self.messages.shrink_to(2 * self.messages.len());
    }

    /// The messages after `seq`, oldest first.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = &StoredMessage> {
        let first = self.messages.partition_point(|message| message.seq <= seq);
        self.messages.range(first..)
    }

    /// The seq after which the last `count` messages follow; 0 if the ring has at most `count`
    /// messages.
    pub(crate) fn before_last(&self, count: usize) -> u64 {
        match self.messages.len().checked_sub(count + 1) {
            Some(index) => self.messages[index].seq,
            None => 0,
        }
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.messages.front().map(|message| message.seq)
    }

    pub(crate) fn newest(&self) -> Option<u64> {
        self.messages.back().map(|message| message.seq)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn note_evicted(&mut self, message: &StoredMessage, now: u64) {
        if message.is_due(now) {
            self.evicted_through = self.evicted_through.max(message.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(seq: u64, at: u64) -> StoredMessage {
        StoredMessage { seq, at, expires: None, frame: Bytes::from_static(b"frame") }
    }

    fn bounds(count: usize) -> HistoryBounds {
        HistoryBounds { count, age: Duration::from_millis(100), bytes: 1 << 20 }
    }

    fn seqs(ring: &Ring, after: u64) -> Vec<u64> {
        ring.after(after).map(|message| message.seq).collect()
    }

    #[test]
    fn beyond_its_bounds_the_oldest_goes_and_counts_as_lost() {
        let mut ring = Ring::new(0);
        for seq in [2, 5, 9] {
            ring.push(message(seq, 0), &bounds(2), 0);
        }
        assert_eq!((seqs(&ring, 0), ring.evicted_through), (vec![5, 9], 2));
        assert_eq!((seqs(&ring, 5), ring.before_last(1)), (vec![9], 5));
        ring.push(message(11, 100), &bounds(5), 100);
        assert_eq!((seqs(&ring, 0), ring.evicted_through), (vec![11], 9));
        let small = HistoryBounds { bytes: 2 * message(1, 0).size(), ..bounds(9) };
        ring.push(message(12, 100), &small, 100);
        ring.push(message(13, 100), &small, 100);
        assert_eq!((seqs(&ring, 0), ring.evicted_through), (vec![12, 13], 11));
    }

    #[test]
    fn a_message_that_cannot_be_kept_is_lost_at_once() {
        let mut ring = Ring::new(0);
        ring.push(message(1, 0), &bounds(9), 0);
        let large = StoredMessage { frame: Bytes::from(vec![0; 2 << 20]), ..message(2, 0) };
        ring.push(large, &bounds(9), 0);
        assert_eq!((seqs(&ring, 0), ring.evicted_through), (vec![1], 2));
    }

    #[test]
    fn what_is_too_old_is_told_as_it_will_be_dropped() {
        let mut ring = Ring::new(1);
        ring.push(message(2, 0), &bounds(9), 0);
        ring.push(StoredMessage { expires: Some(70), ..message(3, 0) }, &bounds(9), 0);
        ring.push(message(4, 50), &bounds(9), 50);
        for (now, through, evicted_through) in [(99, 0, 1), (100, 3, 2), (150, 4, 4)] {
            assert_eq!(ring.aged(&bounds(9), now), Aged { through, evicted_through });
            ring.drop_aged(&bounds(9), now);
            assert_eq!((ring.after(through).count(), ring.len()), (ring.len(), ring.len()));
            assert_eq!(ring.evicted_through, evicted_through);
        }
    }

    #[test]
    fn what_expired_or_was_taken_out_is_not_lost() {
        let mut ring = Ring::new(0);
        ring.push(StoredMessage { expires: Some(10), ..message(1, 0) }, &bounds(1), 0);
        ring.push(message(2, 10), &bounds(1), 10);
        assert_eq!((seqs(&ring, 0), ring.evicted_through), (vec![2], 0));
        ring.remove(|seq| seq == 2);
        assert_eq!((ring.is_empty(), ring.bytes, ring.evicted_through), (true, 0, 0));
    }
}
