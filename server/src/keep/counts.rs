//! How much is kept.

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

    /// What is kept of all of them.
    #[must_use]
    pub fn totals(&self) -> KeptTotals {
        let mut totals = KeptTotals {
            tags: self.tags.len(),
            bytes: self.bytes,
            max_bytes: self.settings.max_memory,
            ..KeptTotals::default()
        };
        for keep in self.tags.values() {
            let KeptCounts { broadcasts, unread } = keep.counts();
            totals.broadcasts += broadcasts;
            totals.unread += unread;
            totals.inboxes += keep.inboxes.owners();
        }
        totals
    }
}

impl TagKeep {
    fn counts(&self) -> KeptCounts {
        KeptCounts { broadcasts: self.ring.len(), unread: self.inboxes.len() }
    }
}
