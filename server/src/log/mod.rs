//! The log puts everything that is published in one order.

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

/// The receiver of the log's entries: the part of the hub that a log calls.
pub(crate) trait Sink: Send + Sync + fmt::Debug {
    /// Checks that deliveries keep up. The log asks before it appends an entry.
    ///
    /// # Errors
    /// `unavailable` with the outcome `refused`, while deliveries are behind.
    fn admit(&self) -> Result<(), Refusal>;

    /// Applies the log's next entry.
    ///
    /// # Errors
    /// `mid_conflict` if another message has the `mid` of the entry. The entry stays in the log
    /// nevertheless.
    fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended;
}

/// The sink of a log to which other servers also append. Such a log may trim entries before this
/// server has read them.
pub(crate) trait Replica: Sink {
    /// The number of the last entry applied.
    fn head(&self) -> u64;

    /// Completes when the entry `seq` was applied.
    fn applied(self: Arc<Self>, seq: u64) -> BoxFuture<'static, ()>;

    /// Completes when [`Sink::admit`] succeeds.
    fn admits(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// Skips the number `seq`, which has no entry.
    fn skip(&self, seq: u64);

    /// Delivers a read mark to the connections of a person, although it changes no inbox.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// Forgets everything and disconnects every client, so that they register again. The entries
    /// through `seq` are gone, and some of them were not applied.
    fn reset_to(&self, seq: u64);
}

/// A log orders entries, stores them, and passes each to its sink, in order.
pub(crate) trait Log: Send + Sync + fmt::Debug {
    /// Appends `entry`. The entries of one caller are in the order of its calls, even if it does
    /// not await the outcomes.
    fn append(&self, entry: Entry, context: AppendContext) -> Appending;

    /// The log's name in `/status`.
    fn name(&self) -> &'static str;

    /// The log's counters.
    fn counts(&self) -> &Counts;

    /// Completes when every append has its answer.
    fn answered(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    /// How many entries wait to be written; `None` if entries never wait in this log.
    fn queued(&self) -> Option<Queued> {
        None
    }

    /// The other servers that append to the log; `None` if there can be no others.
    fn cluster(&self) -> Option<&dyn Cluster> {
        None
    }
}

/// What a shared log knows about the other servers that append to it. This server may lag behind
/// the entries that its clients have seen at another server.
pub(crate) trait Cluster {
    /// Completes when this server has applied the entry `seq`, or after two seconds. `None` if the
    /// entry was applied already.
    fn catch_up(&self, seq: u64) -> Option<BoxFuture<'static, ()>>;

    /// Checks whether this server can serve a client that has seen the entry `seq` at another
    /// server.
    ///
    /// # Errors
    /// `unavailable` with the outcome `refused`, while this server may lag behind that entry. It
    /// would otherwise report false losses and deliver messages twice.
    fn admit(&self, seq: u64) -> Result<(), Refusal>;

    /// Sends a read mark to the other servers without appending it, because it changes no inbox.
    /// The mark may get lost.
    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark);

    /// The number of other servers that are alive.
    fn peers(&self) -> usize;

    /// The reason why clients should use another server at present; `None` if this server is ready.
    fn not_ready(&self) -> Option<&'static str>;
}

/// The entries that wait to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    /// The number of entries.
    pub entries: usize,
    /// The approximate size of the entries in memory, in bytes.
    pub bytes: usize,
}

impl Queued {
    /// Whether another entry of this size in bytes may wait.
    fn has_room(self, bytes: usize) -> bool {
        self.entries < limits::LOG_QUEUE && self.bytes + bytes <= limits::LOG_QUEUE_BYTES
    }
}

/// An append under way. Dropping this future does not cancel the append: the entry may still be
/// delivered.
pub(crate) enum Appending {
    /// The append has ended with this outcome.
    Done(Appended),
    /// The outcome of the append will be sent through this channel.
    Waiting(oneshot::Receiver<Appended>),
    /// The append begins when this future is polled.
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
