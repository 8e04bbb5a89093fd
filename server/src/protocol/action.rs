//! The actions of clients, parsed and checked.

use std::fmt;
use std::time::Duration;

use crate::id::{Id, Tag};
use crate::protocol::key::{Key, Protectable};

/// A request of a client.
#[derive(Debug, Clone)]
pub enum Action {
    /// Listen on a tag.
    Set(Box<Set>),
    /// Stop listening on a tag.
    Unset(Tag),
    /// Send to one ID, or broadcast to a tag.
    Publish(Box<Publish>),
    /// Mark messages of a person as read.
    Read(Box<Read>),
    /// List a person's unread messages.
    Inbox(Box<PersonRequest>),
    /// Log a person out.
    Drop(Box<PersonRequest>),
    /// Check that the server answers.
    Ping,
}

impl Action {
    /// The key in the action itself, if it has one.
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
    pub tag: Tag,
    pub id: Option<Id>,
    /// Which messages to replay first.
    pub resume: Resume,
    /// The key for `set` on this tag.
    pub key: Option<Key>,
    /// Keys for later actions of this connection on the tag.
    pub keys: Vec<(Protectable, Key)>,
}

/// Which messages a listener gets first, before new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// The cursor of an earlier connection.
    pub since: Option<Cursor>,
    /// How many of the last broadcasts to replay to a client without a cursor.
    pub last: Option<u64>,
    /// Whether to replay the whole inbox.
    pub unread: bool,
}

/// A position in the log, as a client remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The epoch of the log that `seq` belongs to.
    pub epoch: Box<str>,
    /// The seq of the last entry that the client has seen.
    pub seq: u64,
}

/// `send` or `broadcast`: a message for one person or for everyone on a tag.
#[derive(Debug, Clone)]
pub struct Publish {
    pub tag: Tag,
    pub to: Recipient,
    pub key: Option<Key>,
    pub message: Message,
    /// The idempotency key, which makes a retry safe.
    pub mid: Option<Mid>,
    /// How long the message is stored at most.
    pub ttl: Option<Duration>,
}

/// `read`: a person has read messages.
#[derive(Debug, Clone)]
pub struct Read {
    pub tag: Tag,
    pub mark: Mark,
    /// The person, over HTTP. Absent over a WebSocket, which has the ID of its registration.
    pub id: Option<Id>,
    /// The key for `set` on this tag, over HTTP only.
    pub key: Option<Key>,
}

/// Which messages were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// All messages up to this seq.
    UpTo(u64),
    /// Only the messages with these seqs.
    Only(Box<[u64]>),
}

impl Mark {
    /// The highest seq in the mark.
    pub fn last(&self) -> u64 {
        match self {
            Self::UpTo(seq) => *seq,
            Self::Only(seqs) => seqs.iter().copied().max().unwrap_or(0),
        }
    }
}

/// `inbox` or `drop`: a request that concerns one person.
#[derive(Debug, Clone)]
pub struct PersonRequest {
    pub tag: Tag,
    pub id: Id,
    pub key: Option<Key>,
}

/// The recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Everyone who listens on the tag.
    Everyone,
    /// The connections that are registered under this ID and the tag.
    One(Id),
}

impl Publish {
    /// The name of the action, for keys and replies.
    pub(crate) fn action(&self) -> Protectable {
        match self.to {
            Recipient::Everyone => Protectable::Broadcast,
            Recipient::One(_) => Protectable::Send,
        }
    }
}

/// Any JSON value, byte for byte as the sender wrote it, except that newlines between tokens became
/// spaces, so that a delivered frame is one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(pub(super) Box<str>);

impl Message {
    /// Creates a message from the text in a log, which was checked before it was appended.
    pub(crate) fn kept(json: Box<str>) -> Self {
        Self(json)
    }

    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages are private: log lines show their size only.
        write!(f, "{} bytes", self.0.len())
    }
}

/// The idempotency key of a message, chosen by its sender: 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mid(pub(super) Box<str>);

impl Mid {
    /// Creates a `mid` from the text in a log, which was checked before it was appended.
    pub(crate) fn kept(name: Box<str>) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The `ref` of a request, which its reply repeats: a JSON number or string of at most 64 bytes, as
/// the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reference(pub(super) Option<Box<str>>);
