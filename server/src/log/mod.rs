//! The log: the one order of everything that is published.

mod choose;
pub(crate) mod counters;
mod in_memory;
pub(crate) mod nats;
pub(crate) mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub(crate) use choose::Chosen;
pub(crate) use counters::Counts;
pub(crate) use in_memory::MemoryLog;

use crate::hub::Hub;
use crate::id::{Address, Tag};
pub(crate) use crate::protocol::Mark;
use crate::protocol::{Message, Mid, Outcome, Refusal};

/// What is appended: something that concerns one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The audience.
    pub tag: Tag,
    /// What happens there.
    pub body: EntryKind,
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
        let message = self.body.message().map_or(0, |message| message.as_json().len());
        let mark = match &self.body {
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

/// Where entries take effect: the hub, as far as a log knows it.
pub(crate) trait Sink: Send + Sync + fmt::Debug {
    /// Whether what follows a log keeps up; asked before an entry is appended.
    ///
    /// # Errors
    /// `unavailable`, refused.
    fn admit(&self) -> Result<(), Refusal>;

    /// Applies the log's next entry.
    ///
    /// # Errors
    /// `mid_conflict`; the entry has its place in the log all the same.
    fn apply(&self, seq: u64, entry: &Entry) -> Appended;
}

/// A sink of a log that others append to as well, and that may have lost entries when they are
/// asked for.
pub(crate) trait Replica: Sink {
    /// The last entry applied.
    fn head(&self) -> u64;

    /// Passes over a number that has no entry.
    fn skip(&self, seq: u64);

    /// Tells a person's connections of a read mark that changes nothing.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// Entries through `seq` cannot be had any more, and some of them were not applied: forgets
    /// everything, and sends every client away to come anew.
    fn reset_to(&self, seq: u64);
}

impl Sink for Hub {
    fn admit(&self) -> Result<(), Refusal> {
        Self::admit(self)
    }

    fn apply(&self, seq: u64, entry: &Entry) -> Appended {
        Self::apply(self, seq, entry)
    }
}

impl Replica for Hub {
    fn head(&self) -> u64 {
        Self::head(self)
    }

    fn skip(&self, seq: u64) {
        Self::skip(self, seq);
    }

    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark) {
        Self::tell_read(self, tag, address, mark, None);
    }

    fn reset_to(&self, seq: u64) {
        Self::reset_to(self, seq);
    }
}

/// Orders entries, keeps them as durably as it promises, and hands each to the hub, in order.
pub(crate) trait Log: Send + Sync + fmt::Debug {
    /// Takes `entry` its place in the order: entries appended one after the other by one caller
    /// stand in that order, whether or not the outcomes are awaited.
    fn append(&self, entry: Entry) -> Appending;

    /// The log's name, for people.
    fn name(&self) -> &'static str;

    /// What it has counted.
    fn counts(&self) -> &Counts;

    /// Whether everything that was appended has its answer.
    fn is_idle(&self) -> bool {
        true
    }

    /// What waits to be written; `None` if nothing ever waits.
    fn queued(&self) -> Option<Queued> {
        None
    }

    /// Whether other servers append to it too. Then this one may lag behind what its clients have
    /// seen elsewhere, and does not know who listens there.
    fn is_shared(&self) -> bool {
        false
    }

    /// The last entry that the log is known to have; 0 if it never has more than was applied.
    fn known(&self) -> u64 {
        0
    }

    /// Tells other servers, if there are any, of a read mark that is no entry since it changes
    /// nothing. It may get lost.
    fn tell_read(&self, _tag: &Tag, _address: Address, _mark: &Mark) {}

    /// How many other servers are alive; `None` if there are never any.
    fn peers(&self) -> Option<usize> {
        None
    }

    /// Why clients had better go elsewhere just now.
    fn not_ready(&self) -> Option<&'static str> {
        None
    }
}

/// What waits to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    /// How many entries.
    pub entries: usize,
    /// What they take in memory, roughly.
    pub bytes: usize,
}

/// An append under way. Dropping it cancels nothing: the entry may be delivered all the same.
#[derive(Debug)]
pub(crate) struct Appending(AppendState);

enum AppendState {
    Done(Appended),
    Waiting(oneshot::Receiver<Appended>),
    Later(BoxFuture<'static, Appended>),
}

impl fmt::Debug for AppendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Done",
            Self::Waiting(_) => "Waiting",
            Self::Later(_) => "Later",
        })
    }
}

impl Appending {
    /// An append that is over already.
    #[must_use]
    pub(crate) fn done(outcome: Appended) -> Self {
        Self(AppendState::Done(outcome))
    }

    /// An append whose outcome will be sent.
    #[must_use]
    pub(crate) fn waiting(outcome: oneshot::Receiver<Appended>) -> Self {
        Self(AppendState::Waiting(outcome))
    }

    /// An append that begins when something else is over.
    #[must_use]
    pub(crate) fn later(appending: impl Future<Output = Appended> + Send + 'static) -> Self {
        Self(AppendState::Later(Box::pin(appending)))
    }
}

impl Future for Appending {
    type Output = Appended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Appended> {
        match &mut self.0 {
            AppendState::Done(outcome) => Poll::Ready(outcome.clone()),
            AppendState::Later(appending) => appending.as_mut().poll(context),
            AppendState::Waiting(outcome) => {
                Poll::Ready(ready!(Pin::new(outcome).poll(context)).unwrap_or_else(|_| {
                    Err(Refusal::unavailable(
                        Outcome::Unknown,
                        "the log ended before it answered; retry with the same mid",
                    ))
                }))
            }
        }
    }
}
