//! The registry of who listens to what, and the place where the log's entries take effect.
//!
//! Registering and applying happen in one short section each, so every registration stands at an
//! exact place in the log: its shard hears of it after all entries before it and before all
//! entries after it. The hub knows no sockets, and never waits for a shard.

pub(crate) mod dedup;
pub(crate) mod delivery_queue;
pub(crate) mod history;
mod position;
mod registry;
mod replica;
mod stats;
pub(crate) mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::Mutex;

use position::Waiters;
pub(crate) use registry::Registration;
use registry::{Seat, TagRegistry};
pub(crate) use stats::{TagCounts, Totals};

use crate::conn::connection::Connection;
use crate::conn::frame;
use crate::entry::{AppendContext, Appended, Applied, Entry, EntryKind, Target};
use crate::hub::dedup::{DedupKeys, DedupWindow, Verdict};
use crate::hub::delivery_queue::{DeliveryQueue, Work};
use crate::hub::history::ring::StoredMessage;
use crate::hub::history::{History, Pulled, Replay, Settings};
use crate::id::{Address, Tag};
use crate::limits;
use crate::protocol::Mark;
use crate::protocol::{self, ErrorCode, Outcome, Refusal};

/// Both generation, what is kept for those who are away, and the log's head as far as it has been
/// applied.
#[derive(Debug)]
pub(crate) struct Hub {
    epoch: Box<str>,
    shards: Box<[Arc<DeliveryQueue>]>,
    room: RegistrationLimits,
    /// The last entry applied. Changed under the lock only, but read without it by those who look at
    /// nothing else.
    head: AtomicU64,
    state: Mutex<HubState>,
}

/// How much may be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegistrationLimits {
    /// Tags that anyone listens on.
    pub tags: usize,
    /// Registrations on all tags together, and so the most IDs.
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
    /// On all tags.
    registrations: usize,
    /// Different ones on each tag, of all tags.
    ids: usize,
    audiences: HashMap<Tag, TagRegistry>,
    history: History,
    dedup: DedupWindow,
    waiters: Waiters,
}

/// Which generation a registration is on: everyone was taken off those before, when entries were lost. A
/// registration without an ID is a mere count, so nothing else tells that it is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// A registration as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Whether everything since the client's cursor follows; `None` if it gave none.
    pub recovered: Option<bool>,
    /// The seqs in its inbox; `None` where there is no inbox.
    pub unread: Option<Vec<u64>>,
    /// It is handed everything above this seq that is or was kept.
    pub from: u64,
    /// The log's head, if nothing was missed and nothing is to be handed over before the client is
    /// told that it is live. Otherwise the shard tells.
    pub live: Option<u64>,
    /// Where it is, to be told when it ends.
    pub generation: Generation,
}

/// A registration that another one of the same connection and tag replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Earlier<'a> {
    /// What it was.
    pub registration: &'a Registration,
    /// As in [`Registered`].
    pub from: u64,
    /// Likewise.
    pub generation: Generation,
}

/// An inbox as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    /// The last entry applied: what a cursor may go on from.
    pub head: u64,
    /// The encoded messages, oldest first.
    pub frames: Vec<Bytes>,
}

/// Why a connection is sent away from a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// Its ID has too many others.
    Replaced,
    /// Its ID has logged out.
    Dropped,
}

impl Hub {
    /// The most connections under one ID; one more closes the oldest.
    const SEATS: usize = limits::CONNECTIONS_PER_ID;

    /// An empty registry that feeds these shards and keeps what `settings` say, of a log whose
    /// entries through `evicted_through` are not there any more.
    #[must_use]
    pub(crate) fn new(
        epoch: Box<str>,
        shards: Vec<Arc<DeliveryQueue>>,
        settings: Settings,
        room: RegistrationLimits,
        evicted_through: u64,
    ) -> Self {
        let state = HubState {
            generation: Generation::default(),
            audiences: HashMap::new(),
            registrations: 0,
            ids: 0,
            history: History::new(settings, evicted_through),
            dedup: DedupWindow::default(),
            waiters: Waiters::default(),
        };
        let head = AtomicU64::new(evicted_through);
        Self { epoch, shards: shards.into(), room, head, state: Mutex::new(state) }
    }

    /// Keeps what `settings` say from now on. What is kept of a tag that may keep less goes with
    /// its next message.
    pub(crate) fn adopt(&self, settings: Settings) {
        self.state.lock().history.adopt(settings);
    }

    /// The name of the log's lifetime.
    #[must_use]
    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether the shards keep up, to be asked before an entry is appended or anyone registered.
    ///
    /// # Errors
    /// `unavailable`, refused, while a shard's queue is full.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.shards.iter().all(|shard| shard.has_room()) {
            return Ok(());
        }
        Err(Refusal::unavailable(Outcome::Refused, "deliveries are behind; retry in a moment"))
    }

    /// Applies the log's next entry: keeps what is to be kept, counts whom it reaches and queues
    /// one encoded frame for every shard that serves any of them.
    ///
    /// # Errors
    /// `mid_conflict` if another message has its `mid`; it has its place in the log all the same.
    pub(crate) fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended {
        // Without this lock, so that whoever registers, reads or replays meanwhile does not wait for
        // it. The log that orders entries may hold a lock of its own around all of this.
        let frame = encode(seq, entry);
        let names = DedupKeys::of(entry);
        let target = entry.kind.target();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        debug_assert!(seq > self.head(), "entries are applied in order");
        self.move_to(state, seq);
        state.history.advance(entry.at);
        // What is answered below must not depend on whether anybody has looked before.
        state.history.refresh(&entry.tag);
        let (seq, duplicate) = match state.dedup.judge(seq, entry.at, names) {
            Verdict::New => (seq, false),
            // Its first copy was applied and answered for.
            Verdict::Replayed(first) => return Ok(state.applied(first, entry, false)),
            Verdict::Duplicate(first) => return Ok(state.applied(first, entry, true)),
            Verdict::Conflict => {
                return Err(Refusal::new(
                    ErrorCode::MidConflict,
                    "another message was sent under this mid; give each message its own".into(),
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
        if let Some(audience) = state.audiences.get_mut(&entry.tag) {
            audience.note_delivery(target, context.origin);
            for (index, shard) in self.shards.iter().enumerate() {
                if audience.concerns(index, target) {
                    shard.push(Work::Deliver {
                        tag: entry.tag.clone(),
                        seq,
                        target,
                        except: context.origin,
                        kept: entry.kind.message().is_some(),
                        received: context.received,
                        frame: frame.clone(),
                    });
                }
            }
        }
        Ok(applied)
    }

    /// Notes that a connection has taken all that was written for it and can take more of a
    /// replay.
    pub(crate) fn drained(&self, connection: &Connection) {
        self.shards[connection.shard()].drained(connection.number());
    }

    /// Whether no shard has anything to do.
    #[must_use]
    pub(crate) fn has_delivered(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_idle())
    }

    /// The next messages of a replay, `room` bytes of them or a little more.
    pub(crate) fn pull(&self, tag: &Tag, replay: &mut Replay, room: usize, clock: u64) -> Pulled {
        self.state.lock().history.pull(tag, replay, room, clock)
    }

    /// Whether an inbox has any of what this marks.
    #[must_use]
    pub(crate) fn marks_anything(&self, tag: &Tag, address: Address, mark: &Mark) -> bool {
        self.state.lock().history.has(tag, address, mark)
    }

    /// Tells a person's connections here, but for `origin`, of a read mark that changes nothing which
    /// is kept: what they show may be a broadcast, or of a tag without inboxes.
    /// Gets lost while deliveries are behind.
    pub(crate) fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark, origin: Option<u64>) {
        if self.admit().is_err() {
            return;
        }
        let (target, frame) = (Target::One(address), frame::text_frame(&protocol::read(tag, mark)));
        let mut state = self.state.lock();
        let Some(audience) = state.audiences.get_mut(tag) else { return };
        audience.note_delivery(target, origin);
        for (index, shard) in self.shards.iter().enumerate() {
            if audience.concerns(index, target) {
                shard.push(Work::Deliver {
                    tag: tag.clone(),
                    seq: self.head(),
                    target,
                    except: origin,
                    kept: false,
                    received: None,
                    frame: frame.clone(),
                });
            }
        }
    }

    /// One person's unread messages.
    #[must_use]
    pub(crate) fn unread(&self, tag: &Tag, address: Address, clock: u64) -> Unread {
        let state = self.state.lock();
        let frames = state.history.unread(tag, address, clock).map(|message| message.frame.clone());
        Unread { frames: frames.collect(), head: self.head() }
    }

    fn dismiss_all(&self, state: &mut HubState, tag: &Tag, address: Address) -> u64 {
        let dismissed = state.change(tag, |audience| {
            let mut clients = 0;
            while let Some(oldest) = audience.oldest_of(address, 1) {
                audience.remove(oldest.connection, oldest.shard, Some(address));
                self.dismiss(tag, address, oldest, Dismissal::Dropped);
                clients += 1;
            }
            clients
        });
        dismissed.unwrap_or(0)
    }

    fn dismiss(&self, tag: &Tag, address: Address, seat: Seat, why: Dismissal) {
        let (tag, connection) = (tag.clone(), seat.connection);
        self.shards[seat.shard].push(Work::Dismiss { tag, address, connection, why });
    }
}

impl HubState {
    /// What is told of an entry that was applied, as things are now.
    fn applied(&self, seq: u64, entry: &Entry, duplicate: bool) -> Applied {
        let target = entry.kind.target();
        let audience = self.audiences.get(&entry.tag);
        Applied {
            seq,
            clients: audience.map_or(0, |audience| audience.reached(target)),
            stored: match target {
                Target::Everyone => false,
                Target::One(address) => self.history.is_unread(&entry.tag, address, seq),
            },
            duplicate,
            partial: false,
        }
    }

    /// Answers whether it was there.
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
            self.change(&gone.tag, |audience| audience.remove(connection, shard, gone.address));
        removed.unwrap_or(false)
    }

    /// Changes who listens on a tag that somebody listens on, and the sums over all tags with it.
    fn change<T>(&mut self, tag: &Tag, change: impl FnOnce(&mut TagRegistry) -> T) -> Option<T> {
        let audience = self.audiences.get_mut(tag)?;
        let ids = audience.ids();
        let registrations = audience.registrations();
        let result = change(audience);
        self.ids = self.ids + audience.ids() - ids;
        self.registrations = self.registrations + audience.registrations() - registrations;
        if audience.is_empty() {
            self.audiences.remove(tag);
        }
        Some(result)
    }
}

/// What those get whom an entry concerns.
fn encode(seq: u64, entry: &Entry) -> Bytes {
    let direct = entry.kind.target() != Target::Everyone;
    match &entry.kind {
        EntryKind::Broadcast(message) | EntryKind::Direct(_, message) => {
            frame::text_frame(&protocol::delivery(&entry.tag, seq, entry.at, message, direct))
        }
        // What is yet to come was not read.
        EntryKind::Read(_, Mark::UpTo(last)) => {
            frame::text_frame(&protocol::read(&entry.tag, &Mark::UpTo(seq.min(*last))))
        }
        EntryKind::Read(_, mark) => frame::text_frame(&protocol::read(&entry.tag, mark)),
        EntryKind::Drop(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
