//! The hub applies the entries of the log and keeps the registry of listeners.
//!
//! Registering and applying each hold one lock for a short time, so every registration has an exact
//! position in the log: its shard gets it after all entries before that position and before all
//! entries behind it. The hub knows no sockets and never waits for a shard.

pub(crate) mod dedup;
pub(crate) mod delivery_queue;
pub(crate) mod history;
mod position;
mod registration;
mod registry;
mod stats;
pub(crate) mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::Mutex;

use position::Waiters;
pub(crate) use registration::Registration;
use registry::{PersonListener, TagRegistry};
pub(crate) use stats::{TagCounts, Totals};

use crate::conn::connection::Connection;
use crate::conn::frame;
use crate::entry::{AppendContext, Appended, Applied, Entry, EntryKind, Target};
use crate::hub::dedup::{DedupKeys, DedupWindow, Verdict};
use crate::hub::delivery_queue::{Delivery, DeliveryQueue, Work};
use crate::hub::history::ring::StoredMessage;
use crate::hub::history::{History, Pulled, Replay, Settings};
use crate::id::{Address, Tag};
use crate::limits;
use crate::log::Sink;
use crate::protocol::Mark;
use crate::protocol::{self, ErrorCode, Outcome, Refusal};

/// The registry, the message history, the idempotency window, and the number of the last entry
/// applied.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) epoch: Box<str>,
    shards: Box<[Arc<DeliveryQueue>]>,
    limits: RegistrationLimits,
    /// The last entry applied. Written with the lock held only; readers that need nothing else do not
    /// take it.
    head: AtomicU64,
    state: Mutex<HubState>,
}

/// The limits of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegistrationLimits {
    /// Tags with at least one listener.
    pub tags: usize,
    /// Registrations on all tags together, which also bounds the IDs.
    pub registrations: usize,
}

impl Default for RegistrationLimits {
    fn default() -> Self {
        Self { tags: limits::TAGS, registrations: limits::REGISTRATIONS }
    }
}

#[derive(Debug)]
struct HubState {
    generation: Generation,
    /// Registrations on all tags.
    registrations: usize,
    /// Distinct IDs on each tag, over all tags.
    ids: usize,
    tags: HashMap<Tag, TagRegistry>,
    history: History,
    dedup: DedupWindow,
    waiters: Waiters,
}

/// Generation of the registry. `reset_to` starts a new one; a registration of an older generation is
/// already gone and must not be subtracted again (anonymous ones are only a count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The result of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Whether all messages since the client's cursor follow; `None` without a cursor.
    pub recovered: Option<bool>,
    /// The seqs in its inbox; `None` if the tag has no inboxes.
    pub unread: Option<Vec<u64>>,
    /// The connection is handed every message above this seq.
    pub from: u64,
    /// The head, if there is nothing to replay: the caller then writes the `live` event. Otherwise the
    /// shard writes it after the replay.
    pub live: Option<u64>,
    /// To be passed back when the registration ends.
    pub generation: Generation,
}

/// A registration that a new one of the same connection and tag replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Earlier<'a> {
    pub registration: &'a Registration,
    pub from: u64,
    pub generation: Generation,
}

/// The unread messages of an inbox.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    /// The last entry applied: the seq of a cursor that follows them.
    pub head: u64,
    /// The encoded messages, oldest first.
    pub frames: Vec<Bytes>,
}

/// Why a registration is ended and its connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// Its ID has too many newer connections.
    Replaced,
    /// Its ID was logged out.
    Dropped,
}

impl Hub {
    /// A hub that feeds these shards, for a log whose entries through `evicted_through` were evicted.
    pub(crate) fn new(
        epoch: Box<str>,
        shards: Vec<Arc<DeliveryQueue>>,
        settings: Settings,
        limits: RegistrationLimits,
        evicted_through: u64,
    ) -> Self {
        let state = HubState {
            generation: Generation::default(),
            tags: HashMap::new(),
            registrations: 0,
            ids: 0,
            history: History::new(settings, evicted_through),
            dedup: DedupWindow::default(),
            waiters: Waiters::default(),
        };
        let head = AtomicU64::new(evicted_through);
        Self { epoch, shards: shards.into(), limits, head, state: Mutex::new(state) }
    }

    /// Adopts new settings of the history. A tag that may keep less than before evicts the rest with
    /// its next message.
    pub(crate) fn adopt(&self, settings: Settings) {
        self.state.lock().history.adopt(settings);
    }

    /// Checks that the shards keep up, before an entry is appended or a connection registered.
    ///
    /// # Errors
    /// `unavailable`, refused, while the queue of a shard is full.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.shards.iter().all(|shard| shard.has_room()) {
            return Ok(());
        }
        Err(Refusal::unavailable(Outcome::Refused, "deliveries are behind; retry in a moment"))
    }

    /// Applies the next entry of the log: stores its message, counts the recipients and queues one
    /// encoded frame for every shard that serves any of them.
    ///
    /// # Errors
    /// `mid_conflict` if another message has its `mid`; the entry stays in the log all the same.
    pub(crate) fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended {
        // Encoded before the lock is taken, so that registrations, reads and replays do not wait
        // for it. The log may hold a lock of its own around this call.
        let frame = encode(seq, entry);
        let names = DedupKeys::of(entry);
        let target = entry.kind.target();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        debug_assert!(seq > self.head(), "entries are applied in order");
        self.move_to(state, seq);
        state.history.advance(entry.at);
        // The reply below must not depend on whether anybody has read the history before.
        state.history.refresh(&entry.tag);
        let (seq, duplicate) = match state.dedup.judge(seq, entry.at, names) {
            Verdict::New => (seq, false),
            // The log contains this append twice. The first copy was applied, so the outcome is the
            // same.
            Verdict::Replayed(first) => return Ok(state.applied(first, entry, false)),
            Verdict::Duplicate(first) => return Ok(state.applied(first, entry, true)),
            Verdict::Conflict => {
                return Err(Refusal::new(
                    ErrorCode::MidConflict,
                    "another message was sent with this mid; give each message its own".into(),
                ));
            }
        };
        match &entry.kind {
            EntryKind::Broadcast(_) | EntryKind::Direct(..) => {
                let (at, expires, frame) = (entry.at, entry.expires, frame.clone());
                state.history.push(&entry.tag, target, StoredMessage { seq, at, expires, frame });
            }
            EntryKind::Read(address, mark) => state.history.read(&entry.tag, *address, mark),
            EntryKind::Drop(address) => {
                state.history.read(&entry.tag, *address, &Mark::UpTo(seq));
                let clients = self.dismiss_all(state, &entry.tag, *address);
                let (stored, partial) = (false, false);
                return Ok(Applied { seq, clients, stored, duplicate, partial });
            }
        }
        let applied = state.applied(seq, entry, duplicate);
        if let Some(listeners) = state.tags.get_mut(&entry.tag) {
            let delivery = Delivery {
                seq,
                target,
                except: context.origin,
                kept: entry.kind.message().is_some(),
                frame,
                received: context.received,
            };
            self.deliver(listeners, &entry.tag, &delivery);
        }
        Ok(applied)
    }

    /// Notes that the outbox of a connection is empty, so that it can take more of a replay.
    pub(crate) fn drained(&self, connection: &Connection) {
        self.shards[connection.shard].drained(connection.number);
    }

    /// Returns when the shards have done everything that was queued for them.
    pub(crate) async fn delivered(&self) {
        for shard in &self.shards {
            shard.emptied().await;
        }
    }

    /// The next messages of a replay: `budget` bytes or a little more.
    pub(crate) fn pull(&self, tag: &Tag, replay: &mut Replay, budget: usize, clock: u64) -> Pulled {
        self.state.lock().history.pull(tag, replay, budget, clock)
    }

    /// Whether an inbox contains any message that the mark names.
    pub(crate) fn marks_anything(&self, tag: &Tag, address: Address, mark: &Mark) -> bool {
        self.state.lock().history.has(tag, address, mark)
    }

    /// Sends the `read` event to the person's connections here, except `origin`, for a mark that
    /// changes no inbox: they may show a broadcast, or the tag may have no inboxes. Dropped while a
    /// shard's queue is full.
    pub(crate) fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark, origin: Option<u64>) {
        if self.admit().is_err() {
            return;
        }
        let (target, frame) = (Target::One(address), frame::text_frame(&protocol::read(tag, mark)));
        let mut state = self.state.lock();
        let Some(listeners) = state.tags.get_mut(tag) else { return };
        let (seq, except, kept, received) = (self.head(), origin, false, None);
        let delivery = Delivery { seq, target, except, kept, frame, received };
        self.deliver(listeners, tag, &delivery);
    }

    /// Queues a delivery for every shard that serves any of its recipients.
    fn deliver(&self, listeners: &mut TagRegistry, tag: &Tag, delivery: &Delivery) {
        listeners.note_delivery(delivery.target, delivery.except);
        for (index, shard) in self.shards.iter().enumerate() {
            if listeners.concerns(index, delivery.target) {
                shard.push(Work::Deliver { tag: tag.clone(), delivery: delivery.clone() });
            }
        }
    }

    /// The unread messages of one person.
    pub(crate) fn unread(&self, tag: &Tag, address: Address, clock: u64) -> Unread {
        let state = self.state.lock();
        let frames = state.history.unread(tag, address, clock).map(|message| message.frame.clone());
        Unread { frames: frames.collect(), head: self.head() }
    }

    fn dismiss_all(&self, state: &mut HubState, tag: &Tag, address: Address) -> u64 {
        let dismissed = state.change(tag, |listeners| {
            let mut clients = 0;
            while let Some(oldest) = listeners.oldest_of(address, 1) {
                listeners.remove(oldest.connection, oldest.shard, Some(address));
                self.dismiss(tag, address, oldest, Dismissal::Dropped);
                clients += 1;
            }
            clients
        });
        dismissed.unwrap_or(0)
    }

    fn dismiss(&self, tag: &Tag, address: Address, listener: PersonListener, why: Dismissal) {
        let (tag, connection) = (tag.clone(), listener.connection);
        self.shards[listener.shard].push(Work::Dismiss { tag, address, connection, why });
    }
}

impl Sink for Hub {
    fn admit(&self) -> Result<(), Refusal> {
        Self::admit(self)
    }

    fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended {
        Self::apply(self, seq, entry, context)
    }
}

impl HubState {
    /// The outcome of an entry that was applied, as of now.
    fn applied(&self, seq: u64, entry: &Entry, duplicate: bool) -> Applied {
        let target = entry.kind.target();
        let listeners = self.tags.get(&entry.tag);
        Applied {
            seq,
            clients: listeners.map_or(0, |listeners| listeners.reached(target)),
            stored: match target {
                Target::Everyone => false,
                Target::One(address) => self.history.is_unread(&entry.tag, address, seq),
            },
            duplicate,
            partial: false,
        }
    }

    /// Returns whether the registration existed.
    fn remove(
        &mut self,
        connection: u64,
        shard: usize,
        gone: &Registration,
        generation: Generation,
    ) -> bool {
        if generation != self.generation {
            return false;
        }
        let removed =
            self.change(&gone.tag, |listeners| listeners.remove(connection, shard, gone.address));
        removed.unwrap_or(false)
    }

    /// Changes the registry of a tag, if it has listeners, and updates the sums over all tags.
    fn change<T>(&mut self, tag: &Tag, change: impl FnOnce(&mut TagRegistry) -> T) -> Option<T> {
        let listeners = self.tags.get_mut(tag)?;
        let ids = listeners.ids();
        let registrations = listeners.registrations;
        let result = change(listeners);
        self.ids = self.ids + listeners.ids() - ids;
        self.registrations = self.registrations + listeners.registrations - registrations;
        if listeners.is_empty() {
            self.tags.remove(tag);
        }
        Some(result)
    }
}

/// The frame for the recipients of an entry.
fn encode(seq: u64, entry: &Entry) -> Bytes {
    let direct = entry.kind.target() != Target::Everyone;
    match &entry.kind {
        EntryKind::Broadcast(message) | EntryKind::Direct(_, message) => {
            frame::text_frame(&protocol::delivery(&entry.tag, seq, entry.at, message, direct))
        }
        // A later message was not read.
        EntryKind::Read(_, Mark::UpTo(last)) => {
            frame::text_frame(&protocol::read(&entry.tag, &Mark::UpTo(seq.min(*last))))
        }
        EntryKind::Read(_, mark) => frame::text_frame(&protocol::read(&entry.tag, mark)),
        EntryKind::Drop(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
