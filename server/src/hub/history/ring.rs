//! The last messages of a kind, bounded in count, age and bytes, with the memory of what was lost.
//!
//! A tag's ring of broadcasts is one; each inbox is another. Pure: time is that of the entries.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::hub::history::HistoryBounds;

/// Bytes that keeping a message takes besides its frame: this record, the allocations' heads, and
/// the indexes that name it.
pub(crate) const OVERHEAD: usize = 160;

/// A kept message.
#[derive(Debug, Clone)]
pub(crate) struct StoredMessage {
    /// Its number in the log.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub at: u64,
    /// When it is no longer worth replaying, likewise.
    pub expires: Option<u64>,
    /// Encoded, as it is delivered.
    pub frame: Bytes,
}

impl StoredMessage {
    /// Whether it still is worth replaying.
    #[must_use]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    /// From when on it is older than allowed.
    fn too_old_at(&self, bounds: &HistoryBounds) -> u64 {
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        self.at.saturating_add(age)
    }

    /// The memory that it takes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.frame.len() + OVERHEAD
    }
}

/// What a ring would drop for its age, and does with the next entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aged {
    /// Everything up to this seq is too old.
    pub through: u64,
    /// What [`Ring::evicted_through`] will be then.
    pub evicted_through: u64,
}

/// Messages in the order of their seqs.
#[derive(Debug)]
pub(crate) struct Ring {
    kept: VecDeque<StoredMessage>,
    bytes: usize,
    evicted_through: u64,
}

impl Ring {
    /// An empty ring that has lost everything through `evicted_through`.
    #[must_use]
    pub(crate) fn new(evicted_through: u64) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, evicted_through }
    }

    /// Keeps a message whose seq is above all others, and drops what is too much then. `now` is
    /// the log's time.
    pub(crate) fn push(&mut self, message: StoredMessage, bounds: &HistoryBounds, now: u64) {
        self.drop_aged(bounds, now);
        if bounds.count == 0 || message.size() > bounds.bytes {
            self.reset_to(&message, now);
            return;
        }
        self.bytes += message.size();
        self.kept.push_back(message);
        while self.kept.len() > bounds.count || self.bytes > bounds.bytes {
            self.drop_oldest(now);
        }
        self.drop_aged(bounds, now);
    }

    /// Drops what is older than allowed. Whether that is a loss depends on when it became too old,
    /// not on when somebody looks.
    pub(crate) fn drop_aged(&mut self, bounds: &HistoryBounds, now: u64) {
        while let Some(oldest) = self.kept.front()
            && let until = oldest.too_old_at(bounds)
            && until <= now
        {
            self.drop_oldest(until);
        }
    }

    /// What [`Ring::drop_aged`] would drop.
    #[must_use]
    pub(crate) fn aged(&self, bounds: &HistoryBounds, now: u64) -> Aged {
        let mut aged = Aged { through: 0, evicted_through: self.evicted_through };
        for message in self.kept.iter().take_while(|oldest| oldest.too_old_at(bounds) <= now) {
            aged.through = message.seq;
            if message.is_due(message.too_old_at(bounds)) {
                aged.evicted_through = aged.evicted_through.max(message.seq);
            }
        }
        aged
    }

    /// Drops the oldest message, which counts as lost unless it had expired. Answers its seq.
    pub(crate) fn drop_oldest(&mut self, now: u64) -> Option<u64> {
        let oldest = self.kept.pop_front()?;
        self.bytes -= oldest.size();
        self.reset_to(&oldest, now);
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        Some(oldest.seq)
    }

    /// Takes out what `unwanted` says, without calling it lost.
    pub(crate) fn remove(&mut self, unwanted: impl Fn(u64) -> bool) {
        let bytes = &mut self.bytes;
        self.kept.retain(|message| {
            let gone = unwanted(message.seq);
            if gone {
                *bytes -= message.size();
            }
            !gone
        });
        self.kept.shrink_to(2 * self.kept.len());
    }

    /// The messages above `seq`, oldest first.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = &StoredMessage> {
        let first = self.kept.partition_point(|message| message.seq <= seq);
        self.kept.range(first..)
    }

    /// The seq above which the last `count` messages stand.
    #[must_use]
    pub(crate) fn before_last(&self, count: usize) -> u64 {
        match self.kept.len().checked_sub(count + 1) {
            Some(place) => self.kept[place].seq,
            None => 0,
        }
    }

    /// The oldest message's seq.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.kept.front().map(|message| message.seq)
    }

    /// The newest message's seq.
    #[must_use]
    pub(crate) fn newest(&self) -> Option<u64> {
        self.kept.back().map(|message| message.seq)
    }

    /// The highest seq that was dropped although somebody might have wanted it.
    #[must_use]
    pub(crate) fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// How many are kept.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The memory that the messages take.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is kept.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn reset_to(&mut self, message: &StoredMessage, now: u64) {
        if message.is_due(now) {
            self.evicted_through = self.evicted_through.max(message.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(seq: u64, at: u64) -> StoredMessage {
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
            ring.push(kept(seq, 0), &bounds(2), 0);
        }
        assert_eq!((seqs(&ring, 0), ring.evicted_through()), (vec![5, 9], 2));
        assert_eq!((seqs(&ring, 5), ring.before_last(1)), (vec![9], 5));
        ring.push(kept(11, 100), &bounds(5), 100);
        assert_eq!((seqs(&ring, 0), ring.evicted_through()), (vec![11], 9));
        let small = HistoryBounds { bytes: 2 * kept(1, 0).size(), ..bounds(9) };
        ring.push(kept(12, 100), &small, 100);
        ring.push(kept(13, 100), &small, 100);
        assert_eq!((seqs(&ring, 0), ring.evicted_through()), (vec![12, 13], 11));
    }

    #[test]
    fn a_message_that_cannot_be_kept_is_lost_at_once() {
        let mut ring = Ring::new(0);
        ring.push(kept(1, 0), &bounds(9), 0);
        let large = StoredMessage { frame: Bytes::from(vec![0; 2 << 20]), ..kept(2, 0) };
        ring.push(large, &bounds(9), 0);
        assert_eq!((seqs(&ring, 0), ring.evicted_through()), (vec![1], 2));
    }

    #[test]
    fn what_is_too_old_is_told_as_it_will_be_dropped() {
        let mut ring = Ring::new(1);
        ring.push(kept(2, 0), &bounds(9), 0);
        ring.push(StoredMessage { expires: Some(70), ..kept(3, 0) }, &bounds(9), 0);
        ring.push(kept(4, 50), &bounds(9), 50);
        for (now, through, evicted_through) in [(99, 0, 1), (100, 3, 2), (150, 4, 4)] {
            assert_eq!(ring.aged(&bounds(9), now), Aged { through, evicted_through });
            ring.drop_aged(&bounds(9), now);
            assert_eq!((ring.after(through).count(), ring.len()), (ring.len(), ring.len()));
            assert_eq!(ring.evicted_through(), evicted_through);
        }
    }

    #[test]
    fn what_expired_or_was_taken_out_is_not_lost() {
        let mut ring = Ring::new(0);
        ring.push(StoredMessage { expires: Some(10), ..kept(1, 0) }, &bounds(1), 0);
        ring.push(kept(2, 10), &bounds(1), 10);
        assert_eq!((seqs(&ring, 0), ring.evicted_through()), (vec![2], 0));
        ring.remove(|seq| seq == 2);
        assert_eq!((ring.is_empty(), ring.bytes(), ring.evicted_through()), (true, 0, 0));
    }
}
