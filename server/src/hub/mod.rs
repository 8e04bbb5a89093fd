//! The hub applies the entries of the log and keeps the registry of listeners.
//!
//! The hub holds one lock, for a short time, while it registers a connection or applies an entry.
//! So every registration has an exact position in the log: the shard gets the registration after
//! all earlier entries and before all later ones. The hub knows no sockets and never waits for a
//! shard.

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
    /// The number of the last entry applied. It is written only while the lock of `state` is held;
    /// a reader that needs nothing else can read it without the lock.
    head: AtomicU64,
    state: Mutex<HubState>,
}

/// The limits of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegistrationLimits {
    /// The largest number of tags with at least one listener.
    pub tags: usize,
    /// The largest number of registrations on all tags together. It also limits the number of IDs.
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
    /// How many registrations there are on all tags.
    registrations: usize,
    /// The number of distinct IDs of each tag, summed over all tags.
    ids: usize,
    tags: HashMap<Tag, TagRegistry>,
    history: History,
    dedup: DedupWindow,
    waiters: Waiters,
}

/// The generation of the registry. `reset_to` removes all registrations and starts a new
/// generation. A registration of an older generation is gone already, so it must not be subtracted
/// from the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The result of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Whether the client gets all messages since its cursor; `None` without a cursor.
    pub recovered: Option<bool>,
    /// The seqs of the messages in the inbox; `None` if the tag has no inboxes.
    pub unread: Option<Vec<u64>>,
    /// The connection gets every message after this seq.
    pub from: u64,
    /// The head, if there is nothing to replay; the caller must then write the `live` event.
    /// Otherwise the shard writes that event after the replay.
    pub live: Option<u64>,
    /// The caller passes this value back when the registration ends.
    pub generation: Generation,
}

/// An earlier registration, which a new registration of the same connection and tag replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Earlier<'a> {
    pub registration: &'a Registration,
    pub from: u64,
    pub generation: Generation,
}

/// The unread messages of an inbox.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    /// The number of the last entry applied, for a cursor that continues after these messages.
    pub head: u64,
    /// The encoded messages, oldest first.
    pub frames: Vec<Bytes>,
}

/// The reason why the hub ends a registration and closes its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// The ID has too many newer connections.
    Replaced,
    /// The ID was logged out.
    Dropped,
}

impl Hub {
    /// Creates a hub that feeds these shards. The entries of the log through `evicted_through` are
    /// gone.
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

    /// Adopts new settings of the history. If the limits of a tag shrink, its excess messages are
    /// evicted when the next message on the tag is stored.
    pub(crate) fn adopt(&self, settings: Settings) {
        self.state.lock().history.adopt(settings);
    }

    /// Checks that the shards keep up. Callers ask before an append and before a registration.
    ///
    /// # Errors
    /// `unavailable` with the outcome `refused`, while the queue of a shard is full.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.shards.iter().all(|shard| shard.has_room()) {
            return Ok(());
        }
        Err(Refusal::unavailable(Outcome::Refused, "deliveries are behind; retry in a moment"))
    }

    /// Applies the next entry of the log: stores the message, counts the recipients and queues one
    /// encoded frame for every shard that has a recipient.
    ///
    /// # Errors
    /// `mid_conflict` if another message has the `mid` of the entry. The entry stays in the log
    /// nevertheless.
    pub(crate) fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended {
        // The frame is encoded before the lock is taken, so that registrations, reads and replays
        // do not wait for the encoding. The log may hold a lock of its own around this call.
        let frame = encode(seq, entry);
        let names = DedupKeys::of(entry);
        let target = entry.kind.target();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        debug_assert!(seq > self.head(), "entries are applied in order");
        self.move_to(state, seq);
        state.history.advance(entry.at);
        // The outcome must be equal on all servers, whether or not somebody has read the history.
        state.history.refresh(&entry.tag);
        let (seq, duplicate) = match state.dedup.judge(seq, entry.at, names) {
            Verdict::New => (seq, false),
            // The log contains this append twice. The first copy was applied, so its outcome is the
            // answer.
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

    /// Notes that the outbox of a connection is empty, so the connection can take more of a replay.
    pub(crate) fn drained(&self, connection: &Connection) {
        self.shards[connection.shard].drained(connection.number);
    }

    /// Returns when the shards have done everything that was queued for them.
    pub(crate) async fn delivered(&self) {
        for shard in &self.shards {
            shard.emptied().await;
        }
    }

    /// Takes the next messages of a replay: `budget` bytes or a little more.
    pub(crate) fn pull(&self, tag: &Tag, replay: &mut Replay, budget: usize, clock: u64) -> Pulled {
        self.state.lock().history.pull(tag, replay, budget, clock)
    }

    /// Whether an inbox contains any message that the mark names.
    pub(crate) fn marks_anything(&self, tag: &Tag, address: Address, mark: &Mark) -> bool {
        self.state.lock().history.has(tag, address, mark)
    }

    /// Sends the `read` event of a mark that changes no inbox to the person's connections on this
    /// server, except `origin`. Such a mark may name a broadcast, or the tag may have no inboxes.
    /// The event is dropped while the queue of a shard is full.
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

    /// Queues a delivery for every shard that has a recipient.
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
    /// The outcome of an entry that was applied; the counts are those of the present moment.
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

    /// Removes a registration. Returns whether it existed.
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

/// Encodes the frame for the recipients of an entry. For a logout the frame is empty and is not
/// sent.
fn encode(seq: u64, entry: &Entry) -> Bytes {
    let direct = entry.kind.target() != Target::Everyone;
    match &entry.kind {
        EntryKind::Broadcast(message) | EntryKind::Direct(_, message) => {
            frame::text_frame(&protocol::delivery(&entry.tag, seq, entry.at, message, direct))
        }
        // The mark must not cover messages that come later.
        EntryKind::Read(_, Mark::UpTo(last)) => {
            frame::text_frame(&protocol::read(&entry.tag, &Mark::UpTo(seq.min(*last))))
        }
        EntryKind::Read(_, mark) => frame::text_frame(&protocol::read(&entry.tag, mark)),
        EntryKind::Drop(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
