//! What the hub hands to a shard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::conn::connection::Connection;
use crate::entry::Target;
use crate::hub::history::Replay;
use crate::hub::tally::{ShardProgress, Tally};
use crate::hub::{Dismissal, Registration};
use crate::id::{Address, Tag};
use crate::limits;

/// One thing for a shard to do, in the order of the log.
#[derive(Debug)]
pub(crate) enum Work {
    /// Hand over what was missed, then deliver from here on.
    Register {
        /// Who listens.
        connection: Arc<Connection>,
        /// To what.
        registration: Registration,
        /// The address of its earlier registration of the same tag, which this one replaces.
        earlier: Option<Option<Address>>,
        /// Whether that one was handed everything that this one wants, or is about to be.
        continues_replay: bool,
        /// Whether it has been told that it is live: nothing was missed.
        live: bool,
        /// What comes first.
        replay: Box<Replay>,
    },
    /// Go on with a replay: the connection has taken its last piece.
    Resume {
        /// The tag of its registration.
        tag: Tag,
        /// Which one.
        connection: u64,
    },
    /// Deliver no more.
    Unregister {
        /// Who listened.
        connection: u64,
        /// To what.
        registration: Registration,
    },
    /// Close a connection whose registration was ended for it.
    Dismiss {
        /// The tag of its registration.
        tag: Tag,
        /// Its address there.
        address: Address,
        /// Which one.
        connection: u64,
        /// Why.
        why: Dismissal,
    },
    /// Send everyone away to come anew: what they are to be handed is not known any more.
    Dissolve {
        /// The audience.
        tag: Tag,
    },
    /// Write a frame to those it is for.
    Deliver {
        /// The audience.
        tag: Tag,
        /// Its number in the log.
        seq: u64,
        /// Everyone in it, or one person.
        target: Target,
        /// The connection that needs no news of it.
        except: Option<u64>,
        /// Whether it is a message, which may be kept, and no mere event.
        kept: bool,
        /// The encoded frame.
        frame: Bytes,
        /// When this process accepted it.
        received: Option<Instant>,
    },
}

impl Work {
    /// The tag that it concerns.
    #[must_use]
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

    /// The bytes of its frame, if it has one.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Deliver { frame, .. } => frame.len(),
            _ => 0,
        }
    }
}

/// The queue between the hub and one shard.
///
/// Pushing never waits and never fails, because what the hub has decided must happen. The bound
/// is kept before: while [`DeliveryQueue::has_room`] says no, nothing is appended to the log and
/// nobody is registered. Work counts until it is done, not until it is taken; the ends of
/// registrations are bounded by these.
#[derive(Debug, Default)]
pub(crate) struct DeliveryQueue {
    state: Mutex<QueuedWork>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct QueuedWork {
    work: VecDeque<Work>,
    /// Connections that can take more of a replay; each at most once, as it asks for one piece at
    /// a time.
    drained: Vec<u64>,
    /// Not done yet, here and in the shard.
    undone: Load,
    tally: Tally,
}

/// An amount of work.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Load {
    /// That of one thing to do.
    pub(crate) fn of(work: &Work) -> Self {
        Self { items: 1, bytes: work.bytes() }
    }

    /// Counts more.
    pub(crate) fn add(&mut self, more: Self) {
        self.items += more.items;
        self.bytes += more.bytes;
    }
}

impl DeliveryQueue {
    /// Whether an entry may be appended.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        let Load { items, bytes } = state.undone;
        items < limits::SHARD_QUEUE && bytes < limits::SHARD_QUEUE_BYTES
    }

    /// Whether everything that was queued is done: whoever is to get it has it, or it waits for their
    /// sockets.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().undone.items == 0
    }

    /// What the shard has done, and what waits for it.
    #[must_use]
    pub(crate) fn progress(&self) -> ShardProgress {
        let state = self.state.lock();
        let Load { items, bytes } = state.undone;
        ShardProgress { tally: state.tally.clone(), entries: items, bytes }
    }

    /// Queues one more thing to do.
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

    /// Moves everything that waits into `batch`, which must be empty; its memory is reused.
    /// Answers the connections that can take more.
    pub(crate) fn take(&self, batch: &mut VecDeque<Work>) -> Vec<u64> {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.work, batch);
        std::mem::take(&mut state.drained)
    }

    /// Counts work that a shard gives itself.
    pub(crate) fn add(&self, work: &Work) {
        self.state.lock().undone.add(Load::of(work));
    }

    /// Notes that so much of what was taken is done, and what that came to, which is counted from
    /// the beginning again.
    pub(crate) fn done(&self, load: Load, tally: &mut Tally) {
        let mut state = self.state.lock();
        state.undone.items -= load.items;
        state.undone.bytes -= load.bytes;
        state.tally.add(&std::mem::take(tally));
    }

    /// Ends when something may wait. Cancel safe; for one waiting task.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
