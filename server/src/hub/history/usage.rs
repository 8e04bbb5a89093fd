//! Counts the memory and the messages of the history.

use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

use super::{History, TagHistory};
use crate::id::Tag;

/// The number of messages of one tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TagUsage {
    pub broadcasts: usize,
    /// The number of messages in the inboxes of the tag.
    pub unread: usize,
}

/// The number and the memory of the messages of all tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TotalUsage {
    /// The number of tags with a record, even if the record holds no message.
    pub tags: usize,
    pub broadcasts: usize,
    pub unread: usize,
    /// The number of inboxes that are not empty.
    pub inboxes: usize,
    pub bytes: usize,
    /// The limit of `bytes`.
    pub max_bytes: usize,
}

/// The counts of one tag, or the sum over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: usize,
    broadcasts: usize,
    unread: usize,
    inboxes: usize,
}

impl TagUsage {
    pub(crate) fn is_empty(&self) -> bool {
        self.broadcasts == 0 && self.unread == 0
    }
}

impl History {
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&Tag, TagUsage)> {
        self.tags.iter().map(|(tag, tag_history)| (tag, tag_history.counts()))
    }

    pub(crate) fn counts_of(&self, tag: &Tag) -> TagUsage {
        self.tags.get(tag).map(TagHistory::counts).unwrap_or_default()
    }

    pub(crate) fn totals(&self) -> TotalUsage {
        let Usage { bytes, broadcasts, unread, inboxes } = self.held;
        let (tags, max_bytes) = (self.tags.len(), self.settings.max_memory);
        TotalUsage { tags, broadcasts, unread, inboxes, bytes, max_bytes }
    }

    /// The sums over all tags, computed anew.
    pub(super) fn recounted(&self) -> Usage {
        self.tags.values().map(TagHistory::held).sum()
    }
}

impl TagHistory {
    fn counts(&self) -> TagUsage {
        TagUsage { broadcasts: self.ring.len(), unread: self.inboxes.len() }
    }

    pub(super) fn held(&self) -> Usage {
        let TagUsage { broadcasts, unread } = self.counts();
        Usage { bytes: self.bytes(), broadcasts, unread, inboxes: self.inboxes.owners() }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        let Self { bytes, broadcasts, unread, inboxes } = more;
        self.bytes += bytes;
        self.broadcasts += broadcasts;
        self.unread += unread;
        self.inboxes += inboxes;
    }
}

impl SubAssign for Usage {
    fn sub_assign(&mut self, less: Self) {
        let Self { bytes, broadcasts, unread, inboxes } = less;
        self.bytes -= bytes;
        self.broadcasts -= broadcasts;
        self.unread -= unread;
        self.inboxes -= inboxes;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|one| sum += one);
        sum
    }
}
