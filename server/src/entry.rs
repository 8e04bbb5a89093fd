//! The entry: what is published, as it stands in the log.

use std::slice;
use std::time::Instant;

use crate::id::{Address, Tag};
use crate::protocol::{Mark, Message, Mid, Refusal};

/// One entry of the log. It concerns one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The tag that the entry concerns.
    pub tag: Tag,
    /// What the entry does.
    pub kind: EntryKind,
    /// When it was accepted, in milliseconds since 1970.
    pub at: u64,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// The sender's name for it.
    pub mid: Option<Mid>,
    /// The appending server's name for it. A log may take an append twice, if the answer to the first
    /// was lost; this lets it be applied once.
    pub append: Option<AppendId>,
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
    /// The process's random number.
    pub writer: u64,
    /// The number of the append, counted by that process.
    pub number: u64,
}

/// What an append needs besides its entry. It means nothing outside this process, so no log keeps it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AppendContext {
    /// The connection that asked for the entry, to which it is not delivered.
    pub origin: Option<u64>,
    /// When this process accepted the entry.
    pub received: Option<Instant>,
}

/// Whom an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// Everyone who listens on the tag.
    Everyone,
    /// Everyone who is registered at this address.
    One(Address),
}

impl Entry {
    /// Changes the time of acceptance. The entry expires as long after the new time as after the
    /// old one.
    pub(crate) fn set_time(&mut self, at: u64) {
        let life = self.expires.map(|expires| expires.saturating_sub(self.at));
        self.at = at;
        self.expires = life.map(|life| at.saturating_add(life));
    }

    /// The approximate size of the entry in memory or in a log, in bytes.
    pub(crate) fn size(&self) -> usize {
        /// Numbers, the address, and the overhead of a queue and of a database row.
        const OVERHEAD: usize = 200;
        let message = self.kind.message().map_or(0, |message| message.as_json().len());
        let mark = match &self.kind {
            EntryKind::Read(_, Mark::Only(seqs)) => size_of_val(&**seqs),
            _ => 0,
        };
        let mid = self.mid.as_ref().map_or(0, |mid| mid.as_str().len());
        OVERHEAD + self.tag.as_str().len() + message + mark + mid
    }
}

impl EntryKind {
    /// The audience of the entry.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Broadcast(_) => Target::Everyone,
            Self::Direct(address, _) | Self::Read(address, _) | Self::Drop(address) => {
                Target::One(*address)
            }
        }
    }

    /// The message that it carries.
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Broadcast(message) | Self::Direct(_, message) => Some(message),
            Self::Read(..) | Self::Drop(_) => None,
        }
    }
}

/// The number of a kind in every log.
mod number {
    pub(super) const BROADCAST: u8 = 0;
    pub(super) const DIRECT: u8 = 1;
    /// The body is one seq.
    pub(super) const READ_UP_TO: u8 = 2;
    /// The body is a list of seqs.
    pub(super) const READ_ONLY: u8 = 3;
    pub(super) const DROP: u8 = 4;
}

/// What a log stores of an entry besides its kind's number and its address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredBody<'a> {
    Empty,
    Message(&'a str),
    /// Seqs, each as eight bytes in little-endian.
    Seqs(&'a [u64]),
}

/// The part of a stored kind that no server has written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BadKind {
    Number,
    Message,
    Mark,
}

impl EntryKind {
    /// What a log stores of it: the kind's number, the address and the body.
    pub(crate) fn to_parts(&self) -> (u8, Option<Address>, StoredBody<'_>) {
        match self {
            Self::Broadcast(text) => (number::BROADCAST, None, StoredBody::Message(text.as_json())),
            Self::Direct(address, text) => {
                (number::DIRECT, Some(*address), StoredBody::Message(text.as_json()))
            }
            Self::Read(address, Mark::UpTo(seq)) => {
                (number::READ_UP_TO, Some(*address), StoredBody::Seqs(slice::from_ref(seq)))
            }
            Self::Read(address, Mark::Only(seqs)) => {
                (number::READ_ONLY, Some(*address), StoredBody::Seqs(seqs))
            }
            Self::Drop(address) => (number::DROP, Some(*address), StoredBody::Empty),
        }
    }

    /// The kind with these parts. Its number tells whether the body is `text` or `bytes`.
    pub(crate) fn from_parts<'a>(
        number: u8,
        address: Option<Address>,
        text: impl FnOnce() -> Option<&'a str>,
        bytes: impl FnOnce() -> Option<&'a [u8]>,
    ) -> Result<Self, BadKind> {
        let message = || text().map(|text| Message::kept(text.into())).ok_or(BadKind::Message);
        let seqs = || {
            let (seqs, []) = bytes()?.as_chunks() else { return None };
            Some(seqs.iter().map(|seq| u64::from_le_bytes(*seq)).collect::<Box<[u64]>>())
        };
        Ok(match (number, address) {
            (number::BROADCAST, None) => Self::Broadcast(message()?),
            (number::DIRECT, Some(address)) => Self::Direct(address, message()?),
            (number::READ_UP_TO, Some(address)) => match seqs().as_deref() {
                Some(&[seq]) => Self::Read(address, Mark::UpTo(seq)),
                _ => return Err(BadKind::Mark),
            },
            (number::READ_ONLY, Some(address)) => {
                Self::Read(address, Mark::Only(seqs().ok_or(BadKind::Mark)?))
            }
            (number::DROP, Some(address)) => Self::Drop(address),
            _ => return Err(BadKind::Number),
        })
    }
}

/// The effect of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The entry's number in the log.
    pub seq: u64,
    /// How many registrations it was handed to.
    pub clients: u64,
    /// Whether an inbox keeps it.
    pub stored: bool,
    /// Whether an entry with the same `mid` was applied before.
    pub duplicate: bool,
    /// Whether other servers may have handed it to more registrations.
    pub partial: bool,
}

impl Applied {
    /// No effect, as of the entry `seq`.
    pub(crate) fn nothing(seq: u64) -> Self {
        Self { seq, clients: 0, stored: false, duplicate: false, partial: false }
    }
}

/// The outcome of an append.
pub(crate) type Appended = Result<Applied, Refusal>;
