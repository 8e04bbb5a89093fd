//! How much is kept, as configured.

use std::collections::HashMap;
use std::time::Duration;

use crate::id::Tag;

/// How much of one kind is kept. A count of 0 keeps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryBounds {
    /// Messages.
    pub count: usize,
    /// Since they were accepted.
    pub age: Duration,
    /// Their frames' bytes.
    pub bytes: usize,
}

/// What is kept of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagBounds {
    /// The last broadcasts.
    pub ring: HistoryBounds,
    /// The unread messages of each person. Nothing where sending is open to strangers, who could
    /// fill it.
    pub inbox: HistoryBounds,
}

/// What is kept of every tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The most bytes kept in memory, of all tags together.
    pub max_memory: usize,
    usual: TagBounds,
    by_tag: HashMap<Tag, TagBounds>,
}

impl TagBounds {
    /// The same without an inbox.
    #[must_use]
    pub(crate) fn without_inbox(self) -> Self {
        Self { inbox: HistoryBounds { count: 0, ..self.inbox }, ..self }
    }
}

/// 100 broadcasts and 1 h; 50 unread messages and 7 d.
impl Default for TagBounds {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            ring: HistoryBounds { count: 100, age: HOUR, bytes: 8 * 1024 * 1024 },
            inbox: HistoryBounds { count: 50, age: HOUR * 24 * 7, bytes: 1024 * 1024 },
        }
    }
}

/// The default bounds for every tag, but no inboxes.
impl Default for Settings {
    fn default() -> Self {
        Self::new(256 * 1024 * 1024, TagBounds::default())
    }
}

impl Settings {
    /// Settings that keep so much of every tag, without inboxes.
    #[must_use]
    pub(crate) fn new(max_memory: usize, usual: TagBounds) -> Self {
        Self { max_memory, usual: usual.without_inbox(), by_tag: HashMap::new() }
    }

    /// Keeps so much of this tag instead.
    pub(crate) fn set(&mut self, tag: Tag, bounds: TagBounds) {
        self.by_tag.insert(tag, bounds);
    }

    /// What is kept of a tag of which nothing else is said.
    #[must_use]
    pub(crate) fn usual(&self) -> TagBounds {
        self.usual
    }

    /// What is kept of the tags of which something is said.
    pub(crate) fn by_tag(&self) -> impl Iterator<Item = (&Tag, TagBounds)> {
        self.by_tag.iter().map(|(tag, bounds)| (tag, *bounds))
    }

    /// What is kept of a tag.
    #[must_use]
    pub(crate) fn of(&self, tag: &Tag) -> TagBounds {
        self.by_tag.get(tag).copied().unwrap_or(self.usual)
    }

    /// The longest that anything is kept.
    #[must_use]
    pub(crate) fn longest_age(&self) -> Duration {
        let ages = |bounds: &TagBounds| {
            let age =
                |bounds: HistoryBounds| if bounds.count == 0 { Duration::ZERO } else { bounds.age };
            age(bounds.ring).max(age(bounds.inbox))
        };
        self.by_tag.values().map(ages).fold(ages(&self.usual), Duration::max)
    }
}
