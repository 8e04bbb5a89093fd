//! The log: the one order of everything that is published.

pub(crate) mod counters;
mod in_memory;
pub(crate) mod nats;
pub(crate) mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub(crate) use counters::Counts;
pub(crate) use in_memory::MemoryLog;

use crate::entry::{AppendContext, Appended, Entry};
use crate::id::{Address, Tag};
use crate::protocol::{Mark, Outcome, Refusal};

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
    fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended;
}

/// A sink of a log that others append to as well, and that may have lost entries when they are
/// asked for.
pub(crate) trait Replica: Sink {
    /// The last entry applied.
    fn head(&self) -> u64;

    /// Ends when the entry `seq` was applied.
    fn applied(self: Arc<Self>, seq: u64) -> BoxFuture<'static, ()>;

    /// Passes over a number that has no entry.
    fn skip(&self, seq: u64);

    /// Tells a person's connections of a read mark that changes nothing.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// Entries through `seq` cannot be had any more, and some of them were not applied: forgets
    /// everything, and sends every client away to come anew.
    fn reset_to(&self, seq: u64);
}

/// Orders entries, keeps them as durably as it promises, and hands each to the hub, in order.
pub(crate) trait Log: Send + Sync + fmt::Debug {
    /// Takes `entry` its place in the order: entries appended one after the other by one caller
    /// stand in that order, whether or not the outcomes are awaited.
    fn append(&self, entry: Entry, context: AppendContext) -> Appending;

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

    /// The other servers that append to it, if there can be any.
    fn cluster(&self) -> Option<&dyn Cluster> {
        None
    }
}

/// What a shared log knows of the other servers that append to it. This server may lag behind what
/// its clients have seen at another.
pub(crate) trait Cluster {
    /// Ends when this server has applied the entry `seq`, or after two seconds. `None` if it has
    /// already.
    fn catch_up(&self, seq: u64) -> Option<BoxFuture<'static, ()>>;

    /// Whether this server can serve a client that has seen the entry `seq` elsewhere.
    ///
    /// # Errors
    /// `unavailable`, refused, while this server may lag behind that entry: it would report losses
    /// falsely, and deliver everything twice.
    fn admit(&self, seq: u64) -> Result<(), Refusal>;

    /// Sends the other servers a read mark that is no entry, because it changes nothing that is kept.
    /// It may get lost.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// How many other servers are alive.
    fn peers(&self) -> usize;

    /// Why clients should use another server at present.
    fn not_ready(&self) -> Option<&'static str>;
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
