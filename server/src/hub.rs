//! The registry of who listens to what, and the place where the log's entries take effect.
//!
//! Registering and applying happen in one short section each, so every registration stands at an
//! exact place in the log: its shard hears of it after all entries before it and before all
//! entries after it. The hub knows no sockets, and never waits for a shard.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::connection::Connection;
use crate::id::{Address, Tag};
use crate::log::{Appended, Applied, Entry, Target};
use crate::mids::{Mids, Verdict};
use crate::protocol::{self, ErrorCode, Outcome, Refusal};
use crate::shard::{ShardQueue, Work};
use crate::{frame, limits};

/// One connection's listening on one tag, perhaps under an ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What it listens to.
    pub tag: Tag,
    /// Who it is.
    pub address: Option<Address>,
}

/// Both lists, and the log's head as far as it has been applied.
#[derive(Debug)]
pub struct Hub {
    epoch: Box<str>,
    shards: Box<[Arc<ShardQueue>]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    head: u64,
    audiences: HashMap<Tag, Audience>,
    mids: Mids,
}

/// The registrations of one tag.
#[derive(Debug)]
struct Audience {
    registrations: u64,
    per_shard: Box<[u32]>,
    /// Oldest first.
    people: HashMap<Address, VecDeque<Seat>>,
}

/// One connection registered at an address.
#[derive(Debug, Clone, Copy)]
struct Seat {
    connection: u64,
    shard: usize,
}

impl Audience {
    /// How many registrations a message reaches.
    fn reached(&self, target: Target) -> u64 {
        match target {
            Target::Everyone => self.registrations,
            Target::One(address) => self.people.get(&address).map_or(0, |seats| seats.len() as u64),
        }
    }

    /// Whether any of them is served by this shard.
    fn concerns(&self, shard: usize, target: Target) -> bool {
        match target {
            Target::Everyone => self.per_shard[shard] > 0,
            Target::One(address) => self
                .people
                .get(&address)
                .is_some_and(|seats| seats.iter().any(|seat| seat.shard == shard)),
        }
    }
}

/// The counts of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagCounts {
    /// The tag.
    pub tag: Tag,
    /// Registrations in all.
    pub registrations: u64,
    /// Different IDs among them.
    pub ids: usize,
}

impl Hub {
    /// An empty registry that feeds these shards.
    #[must_use]
    pub fn new(epoch: Box<str>, shards: Vec<Arc<ShardQueue>>) -> Self {
        Self { epoch, shards: shards.into(), state: Mutex::default() }
    }

    /// The name of the log's lifetime.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether the shards keep up, to be asked before an entry is appended or anyone registered.
    ///
    /// # Errors
    /// `unavailable`, refused, while a shard's queue is full.
    pub fn admit(&self) -> Result<(), Refusal> {
        if self.shards.iter().all(|shard| shard.has_room()) {
            return Ok(());
        }
        Err(Refusal::unavailable(Outcome::Refused, "deliveries are behind; retry in a moment"))
    }

    /// Applies the log's next entry: counts whom it reaches and queues one encoded frame for
    /// every shard that serves any of them.
    ///
    /// # Errors
    /// `mid_conflict` if another message has its `mid`; it has its place in the log all the same.
    pub fn apply(&self, seq: u64, entry: &Entry) -> Appended {
        let direct = entry.target != Target::Everyone;
        let json = protocol::delivery(&entry.tag, seq, entry.at, &entry.message, direct);
        let frame = frame::text_frame(&json);
        let mut state = self.state.lock();
        debug_assert!(seq > state.head, "entries are applied in order");
        state.head = seq;
        let (seq, duplicate) = match state.mids.judge(seq, entry) {
            Verdict::New => (seq, false),
            Verdict::Duplicate(first) => (first, true),
            Verdict::Conflict => {
                return Err(Refusal::new(
                    ErrorCode::MidConflict,
                    "another message was sent under this mid; give each message its own".into(),
                ));
            }
        };
        let audience = state.audiences.get(&entry.tag);
        let clients = audience.map_or(0, |audience| audience.reached(entry.target));
        if let Some(audience) = audience
            && !duplicate
        {
            for (index, shard) in self.shards.iter().enumerate() {
                if audience.concerns(index, entry.target) {
                    shard.push(Work::Deliver {
                        tag: entry.tag.clone(),
                        target: entry.target,
                        frame: frame.clone(),
                    });
                }
            }
        }
        Ok(Applied { seq, clients, stored: false, duplicate })
    }

    /// Puts a connection on the tag's list and, with an address, on the ID's, in place of its
    /// `earlier` registration of the same tag. Answers the head at which it stands.
    ///
    /// One connection too many under an ID closes the oldest.
    pub fn register(
        &self,
        connection: &Arc<Connection>,
        new: &Registration,
        earlier: Option<&Registration>,
    ) -> u64 {
        let mut state = self.state.lock();
        if let Some(earlier) = earlier {
            self.remove(&mut state, connection, earlier);
        }
        let head = state.head;
        let audience = state.audiences.entry(new.tag.clone()).or_insert_with(|| Audience {
            registrations: 0,
            per_shard: vec![0; self.shards.len()].into(),
            people: HashMap::new(),
        });
        if let Some(address) = new.address {
            let seats = audience.people.entry(address).or_default();
            if seats.len() >= limits::CONNECTIONS_PER_ID
                && let Some(oldest) = seats.pop_front()
            {
                audience.registrations -= 1;
                audience.per_shard[oldest.shard] -= 1;
                self.shards[oldest.shard].push(Work::Replace {
                    tag: new.tag.clone(),
                    address,
                    connection: oldest.connection,
                });
            }
            seats.push_back(Seat { connection: connection.number(), shard: connection.shard() });
        }
        audience.registrations += 1;
        audience.per_shard[connection.shard()] += 1;
        self.shards[connection.shard()].push(Work::Register {
            connection: Arc::clone(connection),
            registration: new.clone(),
            head,
        });
        head
    }

    /// Takes a connection's registrations off the lists, at once for the counts, and in order
    /// for its shard.
    pub fn unregister<'a>(
        &self,
        connection: &Connection,
        registrations: impl IntoIterator<Item = &'a Registration>,
    ) {
        let mut state = self.state.lock();
        for registration in registrations {
            self.remove(&mut state, connection, registration);
        }
    }

    fn remove(&self, state: &mut State, connection: &Connection, gone: &Registration) {
        let Some(audience) = state.audiences.get_mut(&gone.tag) else { return };
        if let Some(address) = gone.address {
            let Some(seats) = audience.people.get_mut(&address) else { return };
            let place = seats.iter().position(|seat| seat.connection == connection.number());
            // Gone already if it was the oldest of too many.
            let Some(place) = place else { return };
            seats.remove(place);
            if seats.is_empty() {
                audience.people.remove(&address);
            }
        }
        audience.registrations -= 1;
        audience.per_shard[connection.shard()] -= 1;
        if audience.registrations == 0 {
            state.audiences.remove(&gone.tag);
        }
        self.shards[connection.shard()]
            .push(Work::Unregister { connection: connection.number(), registration: gone.clone() });
    }

    /// The last entry applied.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.state.lock().head
    }

    /// The counts of every tag that anyone listens on, sorted by tag.
    #[must_use]
    pub fn counts(&self) -> Vec<TagCounts> {
        let state = self.state.lock();
        let mut counts: Vec<_> = state
            .audiences
            .iter()
            .map(|(tag, audience)| TagCounts {
                tag: tag.clone(),
                registrations: audience.registrations,
                ids: audience.people.len(),
            })
            .collect();
        drop(state);
        counts.sort_by(|a, b| a.tag.cmp(&b.tag));
        counts
    }
}
