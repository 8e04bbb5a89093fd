//! Protocol version 1: what clients may say, parsed and checked, and what the server answers.
//!
//! Pure: no I/O, no runtime. `docs/protocol.md` is the text for people.

mod fields;
mod parse;
mod reply;

use std::fmt;
use std::time::Duration;

pub(crate) use parse::Incoming;
pub use parse::parse;
pub(crate) use reply::{ErrorCode, Outcome, Refusal, Reply, bye, delivery, gap, live, read};

use crate::access::auth::{Key, Protectable};
use crate::id::{Id, Tag};

/// One thing that a client asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Listen on a tag.
    Set(Box<Set>),
    /// Stop listening on a tag.
    Unset(Tag),
    /// Send to one ID, or broadcast to a tag.
    Publish(Box<Publish>),
    /// Note what a person has read.
    Read(Box<Read>),
    /// Tell what a person has not read.
    Inbox(Box<PersonRequest>),
    /// Log a person out.
    Drop(Box<PersonRequest>),
    /// Are you there?
    Ping,
}

impl Action {
    /// The key that the action itself carries.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::Set(set) => set.key.as_ref(),
            Self::Publish(publish) => publish.key.as_ref(),
            Self::Read(read) => read.key.as_ref(),
            Self::Inbox(person) | Self::Drop(person) => person.key.as_ref(),
            Self::Unset(_) | Self::Ping => None,
        }
    }
}

/// `set`: listen on a tag, perhaps under an ID.
#[derive(Debug, Clone)]
pub struct Set {
    /// The service to listen to.
    pub tag: Tag,
    /// Who is listening.
    pub id: Option<Id>,
    /// What to hand over of what it has missed.
    pub resume: Resume,
    /// A key for this very action.
    pub key: Option<Key>,
    /// Keys remembered for this connection and tag.
    pub keys: Vec<(Protectable, Key)>,
}

/// Where a listener goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// Where an earlier connection left off.
    pub since: Option<Cursor>,
    /// How many of the last broadcasts to replay for a client without a cursor.
    pub last: Option<u64>,
    /// Whether to replay the whole inbox.
    pub unread: bool,
}

/// A place in the log, as a client remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The log's lifetime that `seq` belongs to.
    pub epoch: Box<str>,
    /// The last entry that the client has seen.
    pub seq: u64,
}

/// `send` or `broadcast`.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The service whose listeners are meant.
    pub tag: Tag,
    /// Whom it is for.
    pub to: Recipient,
    /// The sender's key for this pair.
    pub key: Option<Key>,
    /// What to deliver.
    pub message: Message,
    /// Makes a retry safe.
    pub mid: Option<Mid>,
    /// How long the message is worth keeping.
    pub ttl: Option<Duration>,
}

/// `read`: a person has read something.
#[derive(Debug, Clone)]
pub struct Read {
    /// Where.
    pub tag: Tag,
    /// What.
    pub mark: Mark,
    /// Who, for a sender that does not listen as that person.
    pub id: Option<Id>,
    /// The key of `set` on this tag, for such a sender.
    pub key: Option<Key>,
}

/// What has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Everything up to this seq.
    UpTo(u64),
    /// These and nothing else.
    Only(Box<[u64]>),
}

impl Mark {
    /// The highest seq that it names.
    #[must_use]
    pub fn last(&self) -> u64 {
        match self {
            Self::UpTo(seq) => *seq,
            Self::Only(seqs) => seqs.iter().copied().max().unwrap_or(0),
        }
    }
}

/// `inbox` or `drop`: something about one person.
#[derive(Debug, Clone)]
pub struct PersonRequest {
    /// Where.
    pub tag: Tag,
    /// Who.
    pub id: Id,
    /// The key for the pair.
    pub key: Option<Key>,
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Everyone who listens on the tag.
    Everyone,
    /// Who registered this ID under the tag, and nobody else.
    One(Id),
}

impl Publish {
    /// The action's name, as configured keys and replies use it.
    #[must_use]
    pub fn action(&self) -> Protectable {
        match self.to {
            Recipient::Everyone => Protectable::Broadcast,
            Recipient::One(_) => Protectable::Send,
        }
    }
}

/// Any JSON value, byte for byte as it came; raw newlines between tokens have become spaces, so
/// that a delivered frame is one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Box<str>);

impl Message {
    /// A message that a log has kept: it was checked when it came.
    #[must_use]
    pub fn kept(json: Box<str>) -> Self {
        Self(json)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people tell each other is not for logs either.
        write!(f, "{} bytes", self.0.len())
    }
}

/// A message's own name, chosen by its sender: 1–128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mid(Box<str>);

impl Mid {
    /// A name that a log has kept: it was checked when it came.
    #[must_use]
    pub fn kept(name: Box<str>) -> Self {
        Self(name)
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The client's mark on a request, echoed in its reply: a JSON number or string of at most 64
/// bytes, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reference(Option<Box<str>>);
