//! The queue between the hub and one shard, and the work in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::conn::connection::Connection;
use crate::entry::Target;
use crate::hub::Dismissal;
use crate::hub::history::Replay;
use crate::hub::registration::Registration;
use crate::hub::tally::{ShardProgress, Tally};
use crate::id::{Address, Tag};
use crate::limits;

/// One step for a shard, in the order of the log.
#[derive(Debug)]
pub(crate) enum Work {
    /// Replay what the connection missed, then deliver to it.
    Register {
        connection: Arc<Connection>,
        registration: Registration,
        /// The address of the earlier registration on the tag, which this one replaces.
        earlier: Option<Option<Address>>,
        /// Whether the earlier registration was handed everything that this one wants, or will be.
        continues_replay: bool,
        /// Whether the `live` event is written already, because there is nothing to replay.
        live: bool,
        replay: Box<Replay>,
    },
    /// Continue a replay, because the connection has taken its last piece.
    Resume { tag: Tag, connection: u64 },
    /// End a registration.
    Unregister { connection: u64, registration: Registration },
    /// Close a connection, because the hub ended its registration.
    Dismiss { tag: Tag, address: Address, connection: u64, why: Dismissal },
    /// Close all listeners of the tag, so that they reconnect: entries were lost.
    Dissolve { tag: Tag },
    /// Write a frame to its recipients.
    Deliver { tag: Tag, delivery: Delivery },
}

/// A frame and its recipients.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) seq: u64,
    pub(crate) target: Target,
    /// The connection that caused it, which is left out.
    pub(crate) except: Option<u64>,
    /// Whether the frame is a message, which the history may hold, rather than an event.
    pub(crate) kept: bool,
    pub(crate) frame: Bytes,
    /// When this process accepted the message.
    pub(crate) received: Option<Instant>,
}

impl Delivery {
    pub(crate) fn concerns(&self, connection: u64, address: Option<Address>) -> bool {
        let is_recipient = match self.target {
            Target::Everyone => true,
            Target::One(person) => address == Some(person),
        };
        is_recipient && self.except != Some(connection)
    }
}

impl Work {
    pub(crate) fn tag(&self) -> &Tag {
        match self {
            Self::Register { registration, .. } | Self::Unregister { registration, .. } => {
                &registration.tag
            }
            Self::Resume { tag, .. }
            | Self::Dismiss { tag, .. }
            | Self::Dissolve { tag }
            | Self::Deliver { tag, .. } => tag,
        }
    }

    /// The bytes of the frame, if there is one.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Deliver { delivery, .. } => delivery.frame.len(),
            _ => 0,
        }
    }
}

/// The queue between the hub and one shard.
///
/// A push never waits and never fails, because the hub has already applied the entry. The bound is
/// checked earlier: while [`DeliveryQueue::has_room`] is false, nothing is appended to the log and no
/// connection is registered. Work counts until it is done, not until it is taken.
#[derive(Debug, Default)]
pub(crate) struct DeliveryQueue {
    state: Mutex<QueuedWork>,
    filled: Notify,
    /// Work was done, and somebody waits for that.
    progress: Notify,
}

#[derive(Debug, Default)]
struct QueuedWork {
    work: VecDeque<Work>,
    /// Connections that can take more of a replay, each at most once, because it waits for one
    /// piece at a time.
    drained: Vec<u64>,
    /// Work that is not done, here and in the shard.
    undone: Load,
    /// Whether somebody waits until there is less of it.
    awaited: bool,
    tally: Tally,
}

/// An amount of work.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Load {
    pub(crate) fn of(work: &Work) -> Self {
        Self { items: 1, bytes: work.bytes() }
    }

    fn has_room(self) -> bool {
        self.items < limits::SHARD_QUEUE && self.bytes < limits::SHARD_QUEUE_BYTES
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.items += more.items;
        self.bytes += more.bytes;
    }
}

impl DeliveryQueue {
    /// Whether an entry may be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.state.lock().undone.has_room()
    }

    /// Ends when an entry may be appended.
    pub(crate) async fn until_free(&self) {
        self.until(|undone| undone.has_room()).await;
    }

    /// Ends when everything that was queued is done: its listeners have it, or it waits for their
    /// sockets.
    pub(crate) async fn emptied(&self) {
        self.until(|undone| undone.items == 0).await;
    }

    async fn until(&self, is_met: impl Fn(Load) -> bool) {
        loop {
            let progress = {
                let mut state = self.state.lock();
                if is_met(state.undone) {
                    return;
                }
                state.awaited = true;
                // Woken from its creation on.
                self.progress.notified()
            };
            progress.await;
        }
    }

    /// What the shard has done and what is queued for it.
    pub(crate) fn progress(&self) -> ShardProgress {
        let state = self.state.lock();
        let Load { items, bytes } = state.undone;
        ShardProgress { tally: state.tally.clone(), entries: items, bytes }
    }

    pub(crate) fn push(&self, work: Work) {
        let mut state = self.state.lock();
        state.undone.add(Load::of(&work));
        state.work.push_back(work);
        drop(state);
        self.filled.notify_one();
    }

    /// Notes that a connection can take more of a replay.
    pub(crate) fn drained(&self, connection: u64) {
        self.state.lock().drained.push(connection);
        self.filled.notify_one();
    }

    /// Moves the queued work into `batch`, which must be empty and whose memory is reused. Returns the
    /// connections that can take more of a replay.
    pub(crate) fn take(&self, batch: &mut VecDeque<Work>) -> Vec<u64> {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.work, batch);
        std::mem::take(&mut state.drained)
    }

    /// Counts work that the shard queues for itself.
    pub(crate) fn add(&self, work: &Work) {
        self.state.lock().undone.add(Load::of(work));
    }

    /// Notes that work is done, and moves the counts of `tally` into the queue.
    pub(crate) fn done(&self, load: Load, tally: &mut Tally) {
        let mut state = self.state.lock();
        state.undone.items -= load.items;
        state.undone.bytes -= load.bytes;
        state.tally.add(&std::mem::take(tally));
        // Those who wait want one or the other.
        let is_met = state.undone.items == 0 || state.undone.has_room();
        if is_met && std::mem::take(&mut state.awaited) {
            self.progress.notify_waiters();
        }
    }

    /// Waits until work may be queued. Cancel safe; for one waiting task.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
