//! How much is kept.

use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

use super::{Keep, TagKeep};
use crate::id::Tag;

/// What is kept of one tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// Broadcasts.
    pub broadcasts: usize,
    /// Unread messages in its inboxes.
    pub unread: usize,
}

/// What is kept of all tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptTotals {
    /// Tags with a record, if only of what they have lost.
    pub tags: usize,
    /// Broadcasts.
    pub broadcasts: usize,
    /// Unread messages.
    pub unread: usize,
    /// Inboxes that have any.
    pub inboxes: usize,
    /// The memory that all of it takes.
    pub bytes: usize,
    /// The memory that it may take.
    pub max_bytes: usize,
}

/// What a tag holds, or all of them do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: usize,
    broadcasts: usize,
    unread: usize,
    inboxes: usize,
}

impl KeptCounts {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.broadcasts == 0 && self.unread == 0
    }
}

impl Keep {
    /// What is kept of each tag.
    pub fn counts(&self) -> impl Iterator<Item = (&Tag, KeptCounts)> {
        self.tags.iter().map(|(tag, keep)| (tag, keep.counts()))
    }

    /// What is kept of one of them.
    #[must_use]
    pub fn counts_of(&self, tag: &Tag) -> KeptCounts {
        self.tags.get(tag).map(TagKeep::counts).unwrap_or_default()
    }

    /// What is kept of all of them.
    #[must_use]
    pub fn totals(&self) -> KeptTotals {
        let Held { bytes, broadcasts, unread, inboxes } = self.held;
        let (tags, max_bytes) = (self.tags.len(), self.settings.max_memory);
        KeptTotals { tags, broadcasts, unread, inboxes, bytes, max_bytes }
    }

    /// The sums anew, from every tag.
    pub(super) fn recounted(&self) -> Held {
        self.tags.values().map(TagKeep::held).sum()
    }
}

impl TagKeep {
    fn counts(&self) -> KeptCounts {
        KeptCounts { broadcasts: self.ring.len(), unread: self.inboxes.len() }
    }

    pub(super) fn held(&self) -> Held {
        let KeptCounts { broadcasts, unread } = self.counts();
        Held { bytes: self.bytes(), broadcasts, unread, inboxes: self.inboxes.owners() }
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, more: Self) {
        let Self { bytes, broadcasts, unread, inboxes } = more;
        self.bytes += bytes;
        self.broadcasts += broadcasts;
        self.unread += unread;
        self.inboxes += inboxes;
    }
}

impl SubAssign for Held {
    fn sub_assign(&mut self, less: Self) {
        let Self { bytes, broadcasts, unread, inboxes } = less;
        self.bytes -= bytes;
        self.broadcasts -= broadcasts;
        self.unread -= unread;
        self.inboxes -= inboxes;
    }
}

impl Sum for Held {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|one| sum += one);
        sum
    }
}
