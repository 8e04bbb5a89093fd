//! An entry of the log: one message, read mark or logout of one tag.

use std::slice;
use std::time::Instant;

use crate::id::{Address, Tag};
use crate::protocol::{Mark, Message, Mid, Refusal};

/// One entry of the log, which concerns one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The tag that the entry concerns.
    pub tag: Tag,
    /// The kind of the entry and its content.
    pub kind: EntryKind,
    /// The time at which a server accepted the entry, in milliseconds since 1970.
    pub at: u64,
    /// The time at which the entry expires, in milliseconds since 1970. `None` if the sender set no
    /// `ttl`.
    pub expires: Option<u64>,
    /// The name that the sender gave the message, by which a retry is recognised.
    pub mid: Option<Mid>,
    /// The name that the appending server gave the append. If the log's answer gets lost, the
    /// server may append the entry twice; by this name the entry is applied only once.
    pub append: Option<AppendId>,
}

/// The kind of an entry and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A message for everyone who listens on the tag.
    Broadcast(Message),
    /// A message for one person.
    Direct(Address, Message),
    /// The person at the address has read the messages that the mark names.
    Read(Address, Mark),
    /// The person at the address has logged out: the connections are closed and the inbox is
    /// emptied.
    Drop(Address),
}

/// Identifies one append of one server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AppendId {
    /// A random number that the process chose at its start.
    pub writer: u64,
    /// The number of the append; each process counts its own appends.
    pub number: u64,
}

/// Data of an append that means nothing outside this process, so no log stores it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AppendContext {
    /// The number of the connection that asked for the entry. The entry is not delivered to it.
    pub origin: Option<u64>,
    /// The time at which this process accepted the entry.
    pub received: Option<Instant>,
}

/// The recipients of an entry.
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
        /// An estimate for the numbers, the address, and the overhead of a queue and of a database
        /// row.
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
    /// The recipients of the entry.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Broadcast(_) => Target::Everyone,
            Self::Direct(address, _) | Self::Read(address, _) | Self::Drop(address) => {
                Target::One(*address)
            }
        }
    }

    /// The message of a broadcast or of a direct message.
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Broadcast(message) | Self::Direct(_, message) => Some(message),
            Self::Read(..) | Self::Drop(_) => None,
        }
    }
}

/// The number by which every log stores a kind.
mod number {
    pub(super) const BROADCAST: u8 = 0;
    pub(super) const DIRECT: u8 = 1;
    /// The body is one seq.
    pub(super) const READ_UP_TO: u8 = 2;
    /// The body is a list of seqs.
    pub(super) const READ_ONLY: u8 = 3;
    pub(super) const DROP: u8 = 4;
}

/// The body of a stored entry. A log stores it next to the kind's number and the address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredBody<'a> {
    Empty,
    Message(&'a str),
    /// Entry numbers (seqs), each stored as eight bytes, little-endian.
    Seqs(&'a [u64]),
}

/// The part of a stored kind that is not valid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BadKind {
    Number,
    Message,
    Mark,
}

impl EntryKind {
    /// The parts of the kind that a log stores: its number, the address and the body.
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

    /// Builds a kind from its stored parts. `number` decides whether the body is `text` or `bytes`.
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

/// The effect of applying an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The entry's number in the log.
    pub seq: u64,
    /// How many registrations the entry was handed to.
    pub clients: u64,
    /// Whether an inbox holds the message as unread.
    pub stored: bool,
    /// Whether an entry with the same `mid` was applied before.
    pub duplicate: bool,
    /// Whether other servers may have handed the entry to registrations that `clients` does not
    /// count.
    pub partial: bool,
}

impl Applied {
    /// The result of a request that changed nothing. `seq` is the last entry applied.
    pub(crate) fn nothing(seq: u64) -> Self {
        Self { seq, clients: 0, stored: false, duplicate: false, partial: false }
    }
}

/// The outcome of an append.
pub(crate) type Appended = Result<Applied, Refusal>;
