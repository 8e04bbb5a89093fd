//! The log: the order of everything that is published.

mod answer;
pub(crate) mod counters;
mod in_memory;
pub(crate) mod nats;
pub(crate) mod sqlite;

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub(crate) use counters::Counts;
pub(crate) use in_memory::MemoryLog;

use crate::entry::{AppendContext, Appended, Entry};
use crate::id::{Address, Tag};
use crate::limits;
use crate::protocol::{Mark, Outcome, Refusal};

/// Where entries take effect: the part of the hub that a log calls.
pub(crate) trait Sink: Send + Sync + fmt::Debug {
    /// Whether deliveries keep up. The log asks before it appends an entry.
    ///
    /// # Errors
    /// `unavailable`, refused, while they do not.
    fn admit(&self) -> Result<(), Refusal>;

    /// Applies the log's next entry.
    ///
    /// # Errors
    /// `mid_conflict`; the entry stands in the log all the same.
    fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended;
}

/// The sink of a log that other servers append to, and that may have trimmed entries before they
/// are read.
pub(crate) trait Replica: Sink {
    /// The last entry applied.
    fn head(&self) -> u64;

    /// Ends when the entry `seq` was applied.
    fn applied(self: Arc<Self>, seq: u64) -> BoxFuture<'static, ()>;

    /// Ends when [`Sink::admit`] does not refuse.
    fn admits(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// Skips a number that has no entry.
    fn skip(&self, seq: u64);

    /// Delivers a read mark to the connections of a person, although it changes no inbox.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// Entries through `seq` are gone, and some of them were not applied: forgets everything, and
    /// disconnects every client, so that it registers again.
    fn reset_to(&self, seq: u64);
}

/// Orders entries, stores them, and hands each to its sink, in order.
pub(crate) trait Log: Send + Sync + fmt::Debug {
    /// Appends `entry`. The entries of one caller stand in the order of its calls, whether or not it
    /// awaits the outcomes.
    fn append(&self, entry: Entry, context: AppendContext) -> Appending;

    /// The log's name in `/status`.
    fn name(&self) -> &'static str;

    /// Its counters.
    fn counts(&self) -> &Counts;

    /// Ends when every append has its answer.
    fn answered(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    /// The entries that wait to be written; `None` if entries never wait.
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

/// Entries that wait to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    /// How many entries.
    pub entries: usize,
    /// Roughly their bytes in memory.
    pub bytes: usize,
}

impl Queued {
    /// Whether another entry of that many bytes may wait.
    fn has_room(self, bytes: usize) -> bool {
        self.entries < limits::LOG_QUEUE && self.bytes + bytes <= limits::LOG_QUEUE_BYTES
    }
}

/// An append under way. Dropping it does not cancel the append: the entry may still be delivered.
pub(crate) enum Appending {
    /// It has this outcome.
    Done(Appended),
    /// Its outcome will be sent.
    Waiting(oneshot::Receiver<Appended>),
    /// It begins within this future.
    Later(BoxFuture<'static, Appended>),
}

impl Future for Appending {
    type Output = Appended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Appended> {
        match &mut *self {
            Self::Done(outcome) => Poll::Ready(outcome.clone()),
            Self::Later(appending) => appending.as_mut().poll(context),
            Self::Waiting(outcome) => {
                Poll::Ready(task::ready!(Pin::new(outcome).poll(context)).unwrap_or_else(|_| {
                    Err(Refusal::unavailable(
                        Outcome::Unknown,
                        "the log ended before it answered; retry with the same mid",
                    ))
                }))
            }
        }
    }
}
