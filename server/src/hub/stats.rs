//! Counts for `/status` and `/metrics`. They contain numbers only, never an ID.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Hub;
use crate::hub::history::{TagUsage, TotalUsage};
use crate::hub::tally::ShardProgress;
use crate::id::Tag;

/// The counts of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagCounts {
    pub tag: Tag,
    pub registrations: usize,
    pub ids: usize,
    /// The number of deliveries to listeners since the tag got its first listener.
    pub deliveries: u64,
    pub kept: TagUsage,
}

/// The sums over all tags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    /// The number of tags with listeners.
    pub tags: usize,
    pub registrations: usize,
    /// The number of distinct IDs of each tag, summed over all tags.
    pub ids: usize,
    pub kept: TotalUsage,
}

impl Hub {
    /// The counts of the tags that have listeners or messages: at most `most` tags, those with the
    /// most registrations first. The second value is the number of tags that are left out.
    pub(crate) fn counts(&self, most: usize) -> (Vec<TagCounts>, usize) {
        let state = self.state.lock();
        let mut foremost = Foremost { most, best: BinaryHeap::new(), left_out: 0 };
        for (tag, listeners) in &state.tags {
            foremost.offer(rank(tag, listeners.registrations, state.history.counts_of(tag)));
        }
        for (tag, kept) in state.history.counts() {
            if !kept.is_empty() && !state.tags.contains_key(tag) {
                foremost.offer(rank(tag, 0, kept));
            }
        }
        let Foremost { best, left_out, .. } = foremost;
        let counts = best.into_sorted_vec().into_iter().map(|(Reverse(registrations), _, tag)| {
            let listeners = state.tags.get(tag);
            TagCounts {
                tag: tag.clone(),
                registrations,
                ids: listeners.map_or(0, |listeners| listeners.ids()),
                deliveries: listeners.map_or(0, |listeners| listeners.deliveries),
                kept: state.history.counts_of(tag),
            }
        });
        (counts.collect(), left_out)
    }

    /// The sums over all tags.
    pub(crate) fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            tags: state.tags.len(),
            registrations: state.registrations,
            ids: state.ids,
            kept: state.history.totals(),
        }
    }

    /// The progress of all shards together.
    pub(crate) fn progress(&self) -> ShardProgress {
        let mut all = ShardProgress::default();
        for shard in &self.shards {
            all.add(&shard.progress());
        }
        all
    }
}

type Rank<'a> = (Reverse<usize>, Reverse<usize>, &'a Tag);

/// The key that sorts tags: most registrations first, then most messages, then by name.
fn rank(tag: &Tag, registrations: usize, kept: TagUsage) -> Rank<'_> {
    (Reverse(registrations), Reverse(kept.broadcasts + kept.unread), tag)
}

/// Finds the first `most` of very many items without sorting all of them, because the hub is locked
/// meanwhile. The other items are only counted.
struct Foremost<T> {
    most: usize,
    /// A heap of the first items, with the last of them on top.
    best: BinaryHeap<T>,
    left_out: usize,
}

impl<T: Ord> Foremost<T> {
    fn offer(&mut self, one: T) {
        if self.best.len() < self.most {
            self.best.push(one);
            return;
        }
        self.left_out += 1;
        if let Some(mut last) = self.best.peek_mut()
            && one < *last
        {
            *last = one;
        }
    }
}
