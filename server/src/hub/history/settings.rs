//! The configured limits of the history.

use std::collections::HashMap;
use std::time::Duration;

use crate::id::Tag;

/// The bounds of a ring or an inbox. A count of 0 stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryBounds {
    pub count: usize,
    /// The longest time for which a message is kept, counted from its acceptance.
    pub age: Duration,
    /// The largest memory of the messages, in bytes.
    pub bytes: usize,
}

/// The bounds of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagBounds {
    /// The bounds of the broadcasts of the tag.
    pub ring: HistoryBounds,
    /// The bounds of the unread messages of each person. A tag on which anyone may send has no
    /// inboxes, because anyone could fill them.
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

/// By default a ring keeps 100 broadcasts for one hour, and an inbox 50 messages for seven days.
impl Default for TagBounds {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            ring: HistoryBounds { count: 100, age: HOUR, bytes: 8 * 1024 * 1024 },
            inbox: HistoryBounds { count: 50, age: HOUR * 24 * 7, bytes: 1024 * 1024 },
        }
    }
}

/// By default every tag has the default bounds, within 256 MiB for all tags.
impl Default for Settings {
    fn default() -> Self {
        Self::new(256 * 1024 * 1024, TagBounds::default())
    }
}

impl Settings {
    /// Settings with the bounds `usual` for every tag.
    pub(crate) fn new(max_memory: usize, usual: TagBounds) -> Self {
        Self { max_memory, usual, by_tag: HashMap::new() }
    }

    /// Sets the bounds of one tag, its inboxes included.
    pub(crate) fn set(&mut self, tag: Tag, bounds: TagBounds) {
        self.by_tag.insert(tag, bounds);
    }

    /// The tags with bounds of their own.
    pub(crate) fn by_tag(&self) -> impl Iterator<Item = (&Tag, TagBounds)> {
        self.by_tag.iter().map(|(tag, bounds)| (tag, *bounds))
    }

    /// The bounds of a tag: its own, or else the usual ones.
    pub(crate) fn of(&self, tag: &Tag) -> TagBounds {
        self.by_tag.get(tag).copied().unwrap_or(self.usual)
    }

    /// The longest age in the bounds of all tags. Bounds that store nothing do not count.
    pub(crate) fn longest_age(&self) -> Duration {
        let ages = |bounds: &TagBounds| {
            let age =
                |bounds: HistoryBounds| if bounds.count == 0 { Duration::ZERO } else { bounds.age };
            age(bounds.ring).max(age(bounds.inbox))
        };
        self.by_tag.values().map(ages).fold(ages(&self.usual), Duration::max)
    }
}
