//! How much there is, for those who watch: numbers only, never an ID.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::Hub;
use crate::id::Tag;
use crate::keep::{KeptCounts, KeptTotals};
use crate::shard::Progress;

/// The counts of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagCounts {
    /// The tag.
    pub tag: Tag,
    /// Registrations in all.
    pub registrations: u64,
    /// Different IDs among them.
    pub ids: usize,
    /// Entries handed to listeners, once for each of them, since somebody has been listening.
    pub deliveries: u64,
    /// What is kept of it.
    pub kept: KeptCounts,
}

/// The sums over all tags.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Tags that somebody listens on.
    pub tags: usize,
    /// Registrations.
    pub registrations: usize,
    /// Different IDs on each tag.
    pub ids: usize,
    /// What is kept.
    pub kept: KeptTotals,
}

impl Hub {
    /// The counts of the tags that anyone listens on or that hold anything: `most` of them, those
    /// with most registrations first, and how many others there are.
    #[must_use]
    pub fn counts(&self, most: usize) -> (Vec<TagCounts>, usize) {
        let state = self.state.lock();
        let mut tags: HashMap<&Tag, (u64, KeptCounts)> = state
            .keep
            .counts()
            .filter(|(_, kept)| !kept.is_empty())
            .map(|(tag, kept)| (tag, (0, kept)))
            .collect();
        for (tag, audience) in &state.audiences {
            tags.entry(tag).or_default().0 = audience.registrations();
        }
        let mut tags: Vec<_> = tags.into_iter().collect();
        let left_out = tags.len().saturating_sub(most);
        // Sorting them all would hold up deliveries where there are very many.
        if left_out > 0 && most > 0 {
            tags.select_nth_unstable_by_key(most - 1, rank);
        }
        tags.truncate(most);
        tags.sort_unstable_by_key(rank);
        let counts = tags.into_iter().map(|(tag, (registrations, kept))| {
            let audience = state.audiences.get(tag);
            TagCounts {
                tag: tag.clone(),
                registrations,
                ids: audience.map_or(0, |audience| audience.ids()),
                deliveries: audience.map_or(0, |audience| audience.deliveries()),
                kept,
            }
        });
        (counts.collect(), left_out)
    }

    /// The sums over all tags.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            tags: state.audiences.len(),
            registrations: state.registrations,
            ids: state.audiences.values().map(|audience| audience.ids()).sum(),
            kept: state.keep.totals(),
        }
    }

    /// What the shards have done together, and what waits for them.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut all = Progress::default();
        for shard in &self.shards {
            all.add(&shard.progress());
        }
        all
    }
}

/// Most registrations first, then most messages, then by name.
fn rank<'a>(
    (tag, (registrations, kept)): &(&'a Tag, (u64, KeptCounts)),
) -> (Reverse<u64>, Reverse<usize>, &'a Tag) {
    (Reverse(*registrations), Reverse(kept.broadcasts + kept.unread), *tag)
}
