//! The message history: the ring and the inboxes of every tag, within one memory budget.
//!
//! The history depends on the entries alone: its time is that of the last entry, not of the system
//! clock. So all servers that apply the same log keep the same messages. Only reads look at the
//! clock, to leave out messages that have expired since the last entry.

pub(crate) mod inbox;
mod replay;
pub(crate) mod ring;
mod settings;
mod usage;

use std::cmp::Reverse;
use std::collections::HashMap;

pub(crate) use replay::{Begun, Handed, Pulled, Replay, Start};
pub(crate) use settings::{HistoryBounds, Settings, TagBounds};
use usage::Usage;
pub(crate) use usage::{TagUsage, TotalUsage};

use crate::entry::Target;
use crate::hub::history::inbox::Inboxes;
use crate::hub::history::ring::{Aged, Ring, StoredMessage};
use crate::id::{Address, Tag};
use crate::protocol::Mark;

/// An estimate of the memory that a tag takes besides its messages, in bytes.
const RECORD: usize = 512;

/// How many empty tags keep their own `evicted_through`, the highest seq that was lost. Beyond this
/// number, the lower half of these values is replaced by one common value. `recovered` may then be
/// false although nothing was lost; it is never true after a loss.
const REMEMBERED: usize = 64 * 1024;

/// The messages of all tags.
#[derive(Debug)]
pub(crate) struct History {
    settings: Settings,
    tags: HashMap<Tag, TagHistory>,
    /// The memory and the number of messages of all tags together.
    held: Usage,
    /// The time of the last entry, in milliseconds since 1970.
    now: u64,
    /// The common `evicted_through` of all tags that have no record.
    forgotten_through: u64,
    /// When there are more records than this, the records of empty tags are dropped.
    fold_at: usize,
}

/// The messages of one tag.
#[derive(Debug)]
struct TagHistory {
    bounds: TagBounds,
    ring: Ring,
    inboxes: Inboxes,
}

impl History {
    /// Creates an empty history. The entries of the log through `evicted_through` are gone.
    pub(crate) fn new(settings: Settings, evicted_through: u64) -> Self {
        Self {
            settings,
            tags: HashMap::new(),
            held: Usage::default(),
            now: 0,
            forgotten_through: evicted_through,
            fold_at: REMEMBERED,
        }
    }

    /// Drops all messages, because the entries through `evicted_through` are lost.
    pub(crate) fn reset_to(&mut self, evicted_through: u64) {
        *self = Self::new(self.settings.clone(), evicted_through);
    }

    pub(crate) fn adopt(&mut self, settings: Settings) {
        for (tag, tag_history) in &mut self.tags {
            tag_history.bounds = settings.of(tag);
        }
        self.settings = settings;
        if self.held.bytes > self.settings.max_memory {
            self.evict();
        }
    }

    /// Sets the time to that of the next entry, even if it is lower than before: if a clock was
    /// ahead once, messages must not look too old from then on.
    pub(crate) fn advance(&mut self, at: u64) {
        self.now = at;
    }

    /// Stores a message, whose seq must be above all others. Returns whether an inbox stores it.
    pub(crate) fn push(&mut self, tag: &Tag, target: Target, message: StoredMessage) -> bool {
        let now = self.now;
        let stored = self.change(tag, |tag_history| {
            let stored = match target {
                Target::Everyone => {
                    tag_history.ring.push(message, &tag_history.bounds.ring, now);
                    false
                }
                Target::One(address) => {
                    tag_history.inboxes.push(address, message, &tag_history.bounds.inbox, now)
                }
            };
            tag_history.drop_aged(now);
            stored
        });
        if self.held.bytes > self.settings.max_memory {
            self.evict();
        }
        if self.tags.len() > self.fold_at {
            self.forget_tags();
        }
        stored
    }

    /// Removes the messages that the person has read from the inbox.
    pub(crate) fn read(&mut self, tag: &Tag, address: Address, mark: &Mark) {
        if self.tags.contains_key(tag) {
            let now = self.now;
            self.change(tag, |tag_history| {
                // A message that became too old before it was read counts as lost.
                tag_history.drop_aged(now);
                tag_history.inboxes.read(address, mark);
            });
        }
    }

    /// Whether the tag has inboxes.
    pub(crate) fn has_inboxes(&self, tag: &Tag) -> bool {
        self.settings.of(tag).inbox.count > 0
    }

    /// Whether an inbox contains any message that the mark names.
    pub(crate) fn has(&self, tag: &Tag, address: Address, mark: &Mark) -> bool {
        self.tags.get(tag).is_some_and(|tag_history| tag_history.inboxes.has(address, mark))
    }

    /// Whether an inbox contains this message.
    pub(crate) fn is_unread(&self, tag: &Tag, address: Address, seq: u64) -> bool {
        self.tags.get(tag).is_some_and(|tag_history| tag_history.inboxes.contains(address, seq))
    }

    /// The unread messages of one person that have not expired at `clock`, oldest first.
    pub(crate) fn unread(
        &self,
        tag: &Tag,
        address: Address,
        clock: u64,
    ) -> impl Iterator<Item = &StoredMessage> {
        let now = self.now.max(clock);
        let aged = self.inbox_aged(tag, address, now).through;
        let inbox = self.tags.get(tag).map(|tag_history| tag_history.inboxes.after(address, aged));
        inbox.into_iter().flatten().filter(move |message| message.is_due(now))
    }

    /// Drops the messages of a tag that are too old by now. Without this call they are dropped when
    /// the next message on the tag is stored.
    pub(crate) fn refresh(&mut self, tag: &Tag) {
        let now = self.now;
        if self.tags.contains_key(tag) {
            self.change(tag, |tag_history| tag_history.drop_aged(now));
        }
    }

    #[cfg(test)]
    /// The memory of all tags, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.held.bytes
    }

    #[cfg(test)]
    /// The memory of each tag, in bytes.
    pub(crate) fn bytes_by_tag(&self) -> impl Iterator<Item = (&Tag, usize)> {
        self.tags.iter().map(|(tag, tag_history)| (tag, tag_history.bytes()))
    }

    fn ring_aged(&self, tag: &Tag, now: u64) -> Aged {
        let forgotten = Aged { through: 0, evicted_through: self.forgotten_through };
        self.tags
            .get(tag)
            .map_or(forgotten, |tag_history| tag_history.ring.aged(&tag_history.bounds.ring, now))
    }

    fn inbox_aged(&self, tag: &Tag, address: Address, now: u64) -> Aged {
        let forgotten = Aged { through: 0, evicted_through: self.forgotten_through };
        let tag_history = self.tags.get(tag);
        tag_history.map_or(forgotten, |tag_history| {
            tag_history.inboxes.aged(address, &tag_history.bounds.inbox, now)
        })
    }

    /// Changes one tag, and updates the sums over all tags.
    fn change<T>(&mut self, tag: &Tag, change: impl FnOnce(&mut TagHistory) -> T) -> T {
        let tag_history = match self.tags.get_mut(tag) {
            Some(tag_history) => tag_history,
            None => {
                let tag_history = TagHistory::new(self.settings.of(tag), self.forgotten_through);
                self.held += tag_history.held();
                self.tags.entry(tag.clone()).or_insert(tag_history)
            }
        };
        self.held -= tag_history.held();
        let result = change(tag_history);
        self.held += tag_history.held();
        result
    }

    /// Evicts messages until the history is 1/64 below its memory budget, so that the next message
    /// need not evict again. Only tags above an equal share of the budget lose messages, the
    /// largest tag first.
    fn evict(&mut self) {
        let goal = self.settings.max_memory - self.settings.max_memory / 64;
        let now = self.now;
        self.tags.values_mut().for_each(|tag_history| tag_history.drop_aged(now));
        let mut sizes: Vec<usize> = self.tags.values().map(TagHistory::bytes).collect();
        let mut total: usize = sizes.iter().sum();
        let share = share(&mut sizes, goal);
        let mut above: Vec<_> =
            self.tags.iter_mut().filter(|(_, tag_history)| tag_history.bytes() > share).collect();
        above.sort_by_cached_key(|(tag, tag_history)| {
            (Reverse(tag_history.bytes()), (*tag).clone())
        });
        for (_, tag_history) in above {
            while total > goal && tag_history.bytes() > share {
                let before = tag_history.bytes();
                if !tag_history.drop_oldest(now) {
                    break;
                }
                total -= before - tag_history.bytes();
            }
        }
        self.held = self.recounted();
        if self.held.bytes > goal {
            // Only the records of empty tags and inboxes are left to drop.
            self.tags.values_mut().for_each(|tag_history| tag_history.inboxes.forget());
            self.forget_tags();
        }
    }

    /// Drops the records of half of the empty tags: those with the lowest `evicted_through`.
    fn forget_tags(&mut self) {
        let idle = self.tags.values().filter(|tag_history| tag_history.is_empty());
        if let Some(middle) = inbox::median(idle.map(TagHistory::evicted_through).collect()) {
            let through = self.forgotten_through.max(middle);
            self.forgotten_through = through;
            self.tags.retain(|_, tag_history| {
                !tag_history.is_empty() || tag_history.evicted_through() > through
            });
            self.tags.shrink_to(2 * self.tags.len());
        }
        self.held = self.recounted();
        self.fold_at = REMEMBERED.max(2 * self.tags.len());
    }
}

impl TagHistory {
    fn new(bounds: TagBounds, evicted_through: u64) -> Self {
        Self { bounds, ring: Ring::new(evicted_through), inboxes: Inboxes::new(evicted_through) }
    }

    fn bytes(&self) -> usize {
        RECORD + self.ring.bytes + self.inboxes.bytes()
    }

    fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.inboxes.is_empty()
    }

    fn evicted_through(&self) -> u64 {
        self.ring.evicted_through.max(self.inboxes.evicted_through())
    }

    fn drop_aged(&mut self, now: u64) {
        self.ring.drop_aged(&self.bounds.ring, now);
        self.inboxes.drop_aged(&self.bounds.inbox, now);
    }

    /// Drops the oldest message of the tag. Returns whether there was one.
    fn drop_oldest(&mut self, now: u64) -> bool {
        match (self.ring.oldest(), self.inboxes.oldest()) {
            (Some(broadcast), Some((direct, _))) if broadcast > direct => {
                self.inboxes.drop_oldest(now)
            }
            (Some(_), _) => self.ring.drop_oldest(now).is_some(),
            (None, _) => self.inboxes.drop_oldest(now),
        }
    }
}

/// The largest share for which all sizes, each cut down to the share, add up to at most `goal`.
fn share(sizes: &mut [usize], goal: usize) -> usize {
    sizes.sort_unstable();
    let mut left = goal;
    let count = sizes.len();
    for (index, size) in sizes.iter().enumerate() {
        let equal = left / (count - index);
        if *size > equal {
            return equal;
        }
        left -= size;
    }
    usize::MAX
}

#[cfg(test)]
mod tests;
