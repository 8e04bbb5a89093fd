//! The entry: what is published, as it stands in the log.

use std::time::Instant;

use crate::id::{Address, Tag};
use crate::protocol::{Mark, Message, Mid, Refusal};

/// What is appended: something that concerns one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The audience.
    pub tag: Tag,
    /// What happens there.
    pub kind: EntryKind,
    /// When it was accepted, in milliseconds since 1970.
    pub at: u64,
    /// When it is no longer worth keeping, likewise.
    pub expires: Option<u64>,
    /// The sender's name for it.
    pub mid: Option<Mid>,
    /// The appending server's own name for it: what a log has taken twice, because it was asked
    /// again after a lost answer, is applied once.
    pub append: Option<AppendId>,
    /// The connection that asked for it, which needs no news of it. Means nothing outside this
    /// process, so no log keeps it.
    pub origin: Option<u64>,
    /// When this process accepted it; likewise.
    pub received: Option<Instant>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A message for everyone who listens on the tag.
    Broadcast(Message),
    /// A message for one person.
    Direct(Address, Message),
    /// That person has read something.
    Read(Address, Mark),
    /// That person has logged out: connections end, the inbox is emptied.
    Drop(Address),
}

/// One append of one server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AppendId {
    /// A random number, another one for every process.
    pub writer: u64,
    /// Counts that process's appends.
    pub number: u64,
}

/// Whom an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// Everyone who listens on the tag.
    Everyone,
    /// Who is registered at this address.
    One(Address),
}

impl Entry {
    /// Gives it another time, and as long to live from then on.
    pub(crate) fn set_time(&mut self, at: u64) {
        let life = self.expires.map(|expires| expires.saturating_sub(self.at));
        self.at = at;
        self.expires = life.map(|life| at.saturating_add(life));
    }

    /// What it costs in memory and where it is kept, roughly.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        /// Numbers, address, the row's and the queue's own.
        const REST: usize = 200;
        let message = self.kind.message().map_or(0, |message| message.as_json().len());
        let mark = match &self.kind {
            EntryKind::Read(_, Mark::Only(seqs)) => size_of_val(&**seqs),
            _ => 0,
        };
        let mid = self.mid.as_ref().map_or(0, |mid| mid.as_str().len());
        REST + self.tag.as_str().len() + message + mark + mid
    }
}

impl EntryKind {
    /// Whom it concerns.
    #[must_use]
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Broadcast(_) => Target::Everyone,
            Self::Direct(address, _) | Self::Read(address, _) | Self::Drop(address) => {
                Target::One(*address)
            }
        }
    }

    /// The message that it carries.
    #[must_use]
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Broadcast(message) | Self::Direct(_, message) => Some(message),
            Self::Read(..) | Self::Drop(_) => None,
        }
    }
}

/// What applying an entry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Its number in the log.
    pub seq: u64,
    /// The registrations that it was handed to.
    pub clients: u64,
    /// Whether an inbox keeps it.
    pub stored: bool,
    /// Whether it had been applied before, under the same `mid`.
    pub duplicate: bool,
    /// Whether other servers may have handed it to more.
    pub partial: bool,
}

impl Applied {
    /// What has no effect, as of the entry `seq`.
    #[must_use]
    pub(crate) fn nothing(seq: u64) -> Self {
        Self { seq, clients: 0, stored: false, duplicate: false, partial: false }
    }
}

/// What an append comes to.
pub(crate) type Appended = Result<Applied, Refusal>;
