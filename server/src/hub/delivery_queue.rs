//! The queue between the hub and one shard, and the pieces of work in it.

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

/// One piece of work for a shard. The hub queues them in the order of the log.
#[derive(Debug)]
pub(crate) enum Work {
    /// Register a connection: replay the messages that it missed, then deliver new ones to it.
    Register {
        connection: Arc<Connection>,
        registration: Registration,
        /// The address of the earlier registration on the tag, if this registration replaces one.
        /// An anonymous earlier registration is `Some(None)`.
        earlier: Option<Option<Address>>,
        /// Whether the earlier registration covers every message that the new one wants.
        continues_replay: bool,
        /// Whether the `live` event was written already, because there is nothing to replay.
        live: bool,
        replay: Box<Replay>,
    },
    /// Continue a replay, because the socket has taken the previous piece.
    Resume { tag: Tag, connection: u64 },
    /// End a registration.
    Unregister { connection: u64, registration: Registration },
    /// Close a connection, because the hub ended its registration.
    Dismiss { tag: Tag, address: Address, connection: u64, why: Dismissal },
    /// Close all listeners of the tag, because entries were lost. The clients then reconnect.
    Dissolve { tag: Tag },
    /// Write a frame to its recipients.
    Deliver { tag: Tag, delivery: Delivery },
}

/// A frame and its recipients.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) seq: u64,
    pub(crate) target: Target,
    /// The number of the connection that caused the entry. That connection gets no frame.
    pub(crate) except: Option<u64>,
    /// Whether the frame is a message, which the history may hold. Otherwise it is an event.
    pub(crate) kept: bool,
    pub(crate) frame: Bytes,
    /// The time at which this process accepted the message.
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

    /// The length of the frame in bytes; 0 if the work has no frame.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Deliver { delivery, .. } => delivery.frame.len(),
            _ => 0,
        }
    }
}

/// The queue between the hub and one shard.
///
/// A push never waits and never fails, because the hub has already applied the entry. The limit is
/// checked earlier: while [`DeliveryQueue::has_room`] is false, nothing is appended to the log and
/// no connection is registered. Work that the shard has taken counts until it is done.
#[derive(Debug, Default)]
pub(crate) struct DeliveryQueue {
    state: Mutex<QueuedWork>,
    filled: Notify,
    /// Wakes the tasks that wait until work is done.
    progress: Notify,
}

#[derive(Debug, Default)]
struct QueuedWork {
    work: VecDeque<Work>,
    /// Connections that can take more of a replay. No connection is in this list twice, because
    /// each waits for one piece at a time.
    drained: Vec<u64>,
    /// The work that is not done, in this queue and in the shard.
    undone: Load,
    /// Whether a task waits until less work is undone.
    awaited: bool,
    tally: Tally,
}

/// An amount of work: the number of pieces, and the bytes of their frames.
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
    /// Whether the queue has room, so that an entry may be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.state.lock().undone.has_room()
    }

    /// Completes when the queue has room, so that an entry may be appended.
    pub(crate) async fn until_free(&self) {
        self.until(|undone| undone.has_room()).await;
    }

    /// Completes when all queued work is done: the frames are written, or they wait in outboxes.
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
                // A `Notified` need not be polled first: it is woken by every notification after
                // its creation.
                self.progress.notified()
            };
            progress.await;
        }
    }

    /// The work that the shard has done, and the work that is queued for it.
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

    /// Moves the queued work into `batch`, which must be empty and whose memory is reused. Returns
    /// the connections that can take more of a replay.
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
        // Each waiting task waits for one of these two conditions.
        let is_met = state.undone.items == 0 || state.undone.has_room();
        if is_met && std::mem::take(&mut state.awaited) {
            self.progress.notify_waiters();
        }
    }

    /// Waits until work may be queued. Cancel safe. Only one task may wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
