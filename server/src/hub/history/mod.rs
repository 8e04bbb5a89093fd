//! What is kept for those who come back: every tag's ring and inboxes, within one budget of memory.
//!
//! Pure, and decided by the entries alone: time is theirs, never the wall clock's. So everyone who
//! applies the same log keeps the same. Only who reads looks at the clock, to leave out what has
//! expired or become too old since: without traffic, no entry says what time it is.

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

/// Bytes that a tag's record takes besides what it holds.
const RECORD: usize = 512;

/// Tags that hold nothing and of which is remembered what they have lost. Beyond, that is told of
/// all of them as if they had lost what any of them has.
const REMEMBERED: usize = 64 * 1024;

/// Everything that is kept.
#[derive(Debug)]
pub(crate) struct History {
    settings: Settings,
    tags: HashMap<Tag, TagHistory>,
    /// Of all tags together.
    held: Usage,
    /// The last entry's time.
    now: u64,
    /// What tags without a record may have lost.
    forgotten_through: u64,
    /// Records at which those that hold nothing are looked through next.
    look_at: usize,
}

/// What is kept of one tag.
#[derive(Debug)]
struct TagHistory {
    bounds: TagBounds,
    ring: Ring,
    inboxes: Inboxes,
}

impl History {
    /// Nothing, of a log whose entries through `evicted_through` are not there any more.
    #[must_use]
    pub(crate) fn new(settings: Settings, evicted_through: u64) -> Self {
        Self {
            settings,
            tags: HashMap::new(),
            held: Usage::default(),
            now: 0,
            forgotten_through: evicted_through,
            look_at: REMEMBERED,
        }
    }

    /// Forgets everything, of a log whose entries through `evicted_through` are not there any more.
    pub(crate) fn reset_to(&mut self, evicted_through: u64) {
        *self = Self::new(self.settings.clone(), evicted_through);
    }

    /// Keeps what `settings` say from now on.
    pub(crate) fn adopt(&mut self, settings: Settings) {
        for (tag, keep) in &mut self.tags {
            keep.bounds = settings.of(tag);
        }
        self.settings = settings;
        if self.held.bytes > self.settings.max_memory {
            self.evict();
        }
    }

    /// Notes that an entry of this time has come. Its own time and not the highest so far: a clock
    /// that was ahead for a moment must not make everything look too old from then on.
    pub(crate) fn advance(&mut self, at: u64) {
        self.now = at;
    }

    /// Keeps a message whose seq is above all others. Answers whether an inbox has it.
    pub(crate) fn push(&mut self, tag: &Tag, target: Target, message: StoredMessage) -> bool {
        let now = self.now;
        let stored = self.change(tag, |keep| {
            let stored = match target {
                Target::Everyone => {
                    keep.ring.push(message, &keep.bounds.ring, now);
                    false
                }
                Target::One(address) => {
                    keep.inboxes.push(address, message, &keep.bounds.inbox, now)
                }
            };
            keep.drop_aged(now);
            stored
        });
        if self.held.bytes > self.settings.max_memory {
            self.evict();
        }
        if self.tags.len() > self.look_at {
            self.forget_tags();
        }
        stored
    }

    /// Takes out of an inbox what its owner has read.
    pub(crate) fn read(&mut self, tag: &Tag, address: Address, mark: &Mark) {
        if self.tags.contains_key(tag) {
            let now = self.now;
            self.change(tag, |keep| {
                // What was too old before it was read is lost, whether anybody looked or not.
                keep.drop_aged(now);
                keep.inboxes.read(address, mark);
            });
        }
    }

    /// Whether the people of a tag have inboxes.
    #[must_use]
    pub(crate) fn has_inboxes(&self, tag: &Tag) -> bool {
        self.settings.of(tag).inbox.count > 0
    }

    /// Whether an inbox has any of these.
    #[must_use]
    pub(crate) fn has(&self, tag: &Tag, address: Address, mark: &Mark) -> bool {
        self.tags.get(tag).is_some_and(|keep| keep.inboxes.has(address, mark))
    }

    /// Whether an inbox has this message.
    #[must_use]
    pub(crate) fn is_unread(&self, tag: &Tag, address: Address, seq: u64) -> bool {
        self.tags.get(tag).is_some_and(|keep| keep.inboxes.contains(address, seq))
    }

    /// One person's unread messages that are worth it at `clock`, oldest first.
    pub(crate) fn unread(
        &self,
        tag: &Tag,
        address: Address,
        clock: u64,
    ) -> impl Iterator<Item = &StoredMessage> {
        let now = self.now.max(clock);
        let aged = self.inbox_aged(tag, address, now).through;
        let inbox = self.tags.get(tag).map(|keep| keep.inboxes.after(address, aged));
        inbox.into_iter().flatten().filter(move |message| message.is_due(now))
    }

    /// Drops what is too old by now on a tag that somebody asks about: without traffic of its own
    /// nothing else does.
    pub(crate) fn refresh(&mut self, tag: &Tag) {
        let now = self.now;
        if self.tags.contains_key(tag) {
            self.change(tag, |keep| keep.drop_aged(now));
        }
    }

    #[cfg(test)]
    /// The memory that all of it takes, in bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.held.bytes
    }

    #[cfg(test)]
    /// The memory that each tag takes, in bytes.
    pub(crate) fn bytes_by_tag(&self) -> impl Iterator<Item = (&Tag, usize)> {
        self.tags.iter().map(|(tag, keep)| (tag, keep.bytes()))
    }

    fn ring_aged(&self, tag: &Tag, now: u64) -> Aged {
        let forgotten = Aged { through: 0, evicted_through: self.forgotten_through };
        self.tags.get(tag).map_or(forgotten, |keep| keep.ring.aged(&keep.bounds.ring, now))
    }

    fn inbox_aged(&self, tag: &Tag, address: Address, now: u64) -> Aged {
        let forgotten = Aged { through: 0, evicted_through: self.forgotten_through };
        let keep = self.tags.get(tag);
        keep.map_or(forgotten, |keep| keep.inboxes.aged(address, &keep.bounds.inbox, now))
    }

    /// Changes what is kept of one tag, and the sums over all with it.
    fn change<T>(&mut self, tag: &Tag, change: impl FnOnce(&mut TagHistory) -> T) -> T {
        let keep = match self.tags.get_mut(tag) {
            Some(keep) => keep,
            None => {
                let keep = TagHistory::new(self.settings.of(tag), self.forgotten_through);
                self.held += keep.held();
                self.tags.entry(tag.clone()).or_insert(keep)
            }
        };
        self.held -= keep.held();
        let result = change(keep);
        self.held += keep.held();
        result
    }

    /// Brings everything back within the budget, and a little further, so that this is not to be
    /// done again for the next message. Every tag may have the same share; whoever is above it
    /// gives, the one furthest above first and most.
    fn evict(&mut self) {
        let goal = self.settings.max_memory - self.settings.max_memory / 64;
        let now = self.now;
        self.tags.values_mut().for_each(|keep| keep.drop_aged(now));
        let mut sizes: Vec<usize> = self.tags.values().map(TagHistory::bytes).collect();
        let mut total: usize = sizes.iter().sum();
        let share = share(&mut sizes, goal);
        let mut above: Vec<_> =
            self.tags.iter_mut().filter(|(_, keep)| keep.bytes() > share).collect();
        above.sort_by_cached_key(|(tag, keep)| (Reverse(keep.bytes()), (*tag).clone()));
        for (_, keep) in above {
            while total > goal && keep.bytes() > share {
                let before = keep.bytes();
                if !keep.drop_oldest(now) {
                    break;
                }
                total -= before - keep.bytes();
            }
        }
        self.held = self.recounted();
        if self.held.bytes > goal {
            // Records of what was lost are all that is left.
            self.tags.values_mut().for_each(|keep| keep.inboxes.forget());
            self.forget_tags();
        }
    }

    /// Forgets half of the tags that hold nothing, those first that have lost nothing for longest.
    fn forget_tags(&mut self) {
        let idle = self.tags.values().filter(|keep| keep.is_empty());
        let mut lost: Vec<u64> = idle.map(TagHistory::evicted_through).collect();
        if !lost.is_empty() {
            let middle = lost.len() / 2;
            let (_, middle, _) = lost.select_nth_unstable(middle);
            self.forgotten_through = self.forgotten_through.max(*middle);
            let through = self.forgotten_through;
            self.tags.retain(|_, keep| !keep.is_empty() || keep.evicted_through() > through);
            self.tags.shrink_to(2 * self.tags.len());
        }
        self.held = self.recounted();
        self.look_at = REMEMBERED.max(2 * self.tags.len());
    }
}

impl TagHistory {
    fn new(bounds: TagBounds, evicted_through: u64) -> Self {
        Self { bounds, ring: Ring::new(evicted_through), inboxes: Inboxes::new(evicted_through) }
    }

    fn bytes(&self) -> usize {
        RECORD + self.ring.bytes() + self.inboxes.bytes()
    }

    fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.inboxes.is_empty()
    }

    fn evicted_through(&self) -> u64 {
        self.ring.evicted_through().max(self.inboxes.anyone_lost_through())
    }

    fn drop_aged(&mut self, now: u64) {
        self.ring.drop_aged(&self.bounds.ring, now);
        self.inboxes.drop_aged(&self.bounds.inbox, now);
    }

    /// Drops the oldest message of the tag, whosoever it is.
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

/// The most that each of these may have so that all together have `goal` at most, where those with
/// less leave the rest to the others.
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
