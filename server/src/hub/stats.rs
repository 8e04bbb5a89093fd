//! How much there is, for those who watch: numbers only, never an ID.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Hub;
use crate::hub::history::{TagUsage, TotalUsage};
use crate::hub::tally::ShardProgress;
use crate::id::Tag;

/// The counts of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagCounts {
    /// The tag.
    pub tag: Tag,
    /// Registrations in all.
    pub registrations: usize,
    /// Different IDs among them.
    pub ids: usize,
    /// Entries handed to listeners, once for each of them, since somebody has been listening.
    pub deliveries: u64,
    /// What is kept of it.
    pub kept: TagUsage,
}

/// The sums over all tags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    /// Tags that somebody listens on.
    pub tags: usize,
    /// Registrations.
    pub registrations: usize,
    /// Different IDs on each tag.
    pub ids: usize,
    /// What is kept.
    pub kept: TotalUsage,
}

impl Hub {
    /// The counts of the tags that anyone listens on or that hold anything: `most` of them, those
    /// with most registrations first, and how many others there are.
    #[must_use]
    pub(crate) fn counts(&self, most: usize) -> (Vec<TagCounts>, usize) {
        let state = self.state.lock();
        let mut foremost = Foremost::new(most);
        for (tag, audience) in &state.audiences {
            foremost.offer(rank(tag, audience.registrations(), state.history.counts_of(tag)));
        }
        for (tag, kept) in state.history.counts() {
            if !kept.is_empty() && !state.audiences.contains_key(tag) {
                foremost.offer(rank(tag, 0, kept));
            }
        }
        let left_out = foremost.left_out;
        let counts = foremost.into_sorted().map(|(Reverse(registrations), _, tag)| {
            let audience = state.audiences.get(tag);
            TagCounts {
                tag: tag.clone(),
                registrations,
                ids: audience.map_or(0, |audience| audience.ids()),
                deliveries: audience.map_or(0, |audience| audience.deliveries()),
                kept: state.history.counts_of(tag),
            }
        });
        (counts.collect(), left_out)
    }

    /// The sums over all tags.
    #[must_use]
    pub(crate) fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            tags: state.audiences.len(),
            registrations: state.registrations,
            ids: state.ids,
            kept: state.history.totals(),
        }
    }

    /// What the shards have done together, and what waits for them.
    #[must_use]
    pub(crate) fn progress(&self) -> ShardProgress {
        let mut all = ShardProgress::default();
        for shard in &self.shards {
            all.add(&shard.progress());
        }
        all
    }
}

type Rank<'a> = (Reverse<usize>, Reverse<usize>, &'a Tag);

/// Most registrations first, then most messages, then by name.
fn rank(tag: &Tag, registrations: usize, kept: TagUsage) -> Rank<'_> {
    (Reverse(registrations), Reverse(kept.broadcasts + kept.unread), tag)
}

/// The first few of very many. All others are counted and forgotten at once: whoever waits for the hub
/// waits for this.
struct Foremost<T> {
    most: usize,
    /// The last of them on top.
    kept: BinaryHeap<T>,
    left_out: usize,
}

impl<T: Ord> Foremost<T> {
    fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new(), left_out: 0 }
    }

    fn offer(&mut self, one: T) {
        if self.kept.len() < self.most {
            self.kept.push(one);
            return;
        }
        self.left_out += 1;
        if let Some(mut last) = self.kept.peek_mut()
            && one < *last
        {
            *last = one;
        }
    }

    fn into_sorted(self) -> impl Iterator<Item = T> {
        self.kept.into_sorted_vec().into_iter()
    }
}
