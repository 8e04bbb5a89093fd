//! How much history is kept, as configured.

use std::collections::HashMap;
use std::time::Duration;

use crate::id::Tag;

/// The bounds of a ring or an inbox. A count of 0 stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryBounds {
    pub count: usize,
    /// The longest time since a message was accepted.
    pub age: Duration,
    /// The memory of the messages.
    pub bytes: usize,
}

/// The bounds of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagBounds {
    /// Broadcasts.
    pub ring: HistoryBounds,
    /// Unread messages of each person. A tag on which anyone may send has no inboxes, because anyone
    /// could fill them.
    pub inbox: HistoryBounds,
}

/// The bounds of all tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The memory budget of all tags together, in bytes.
    pub max_memory: usize,
    pub(crate) usual: TagBounds,
    by_tag: HashMap<Tag, TagBounds>,
}

impl TagBounds {
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
    /// The same bounds for every tag, without inboxes.
    pub(crate) fn new(max_memory: usize, usual: TagBounds) -> Self {
        Self { max_memory, usual: usual.without_inbox(), by_tag: HashMap::new() }
    }

    /// Sets the bounds of one tag.
    pub(crate) fn set(&mut self, tag: Tag, bounds: TagBounds) {
        self.by_tag.insert(tag, bounds);
    }

    /// The tags with bounds of their own.
    pub(crate) fn by_tag(&self) -> impl Iterator<Item = (&Tag, TagBounds)> {
        self.by_tag.iter().map(|(tag, bounds)| (tag, *bounds))
    }

    /// The bounds of a tag.
    pub(crate) fn of(&self, tag: &Tag) -> TagBounds {
        self.by_tag.get(tag).copied().unwrap_or(self.usual)
    }

    /// The longest age of all bounds.
    pub(crate) fn longest_age(&self) -> Duration {
        let ages = |bounds: &TagBounds| {
            let age =
                |bounds: HistoryBounds| if bounds.count == 0 { Duration::ZERO } else { bounds.age };
            age(bounds.ring).max(age(bounds.inbox))
        };
        self.by_tag.values().map(ages).fold(ages(&self.usual), Duration::max)
    }
}
