//! Who listens on one tag, and who they are.

use std::collections::{HashMap, VecDeque};

use crate::entry::Target;
use crate::id::{Address, Tag};

/// One connection's listening on one tag, perhaps under an ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    /// What it listens to.
    pub tag: Tag,
    /// Who it is.
    pub address: Option<Address>,
}

/// The registrations of one tag.
#[derive(Debug)]
pub(in crate::hub) struct TagRegistry {
    registrations: usize,
    /// Since somebody has been listening.
    deliveries: u64,
    per_shard: Box<[u32]>,
    /// Oldest first.
    people: HashMap<Address, VecDeque<Seat>>,
}

/// One connection registered at an address.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct Seat {
    pub(in crate::hub) connection: u64,
    pub(in crate::hub) shard: usize,
}

impl TagRegistry {
    pub(in crate::hub) fn new(shards: usize) -> Self {
        let per_shard = vec![0; shards].into();
        Self { registrations: 0, deliveries: 0, per_shard, people: HashMap::new() }
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.registrations == 0
    }

    pub(in crate::hub) fn add(&mut self, seat: Seat, address: Option<Address>) {
        if let Some(address) = address {
            self.people.entry(address).or_default().push_back(seat);
        }
        self.registrations += 1;
        self.per_shard[seat.shard] += 1;
    }

    /// Answers whether it was there: it may have been dismissed before.
    pub(in crate::hub) fn remove(
        &mut self,
        connection: u64,
        shard: usize,
        address: Option<Address>,
    ) -> bool {
        if let Some(address) = address {
            let Some(seats) = self.people.get_mut(&address) else { return false };
            let place = seats.iter().position(|seat| seat.connection == connection);
            let Some(place) = place else { return false };
            seats.remove(place);
            if seats.is_empty() {
                self.people.remove(&address);
            }
        }
        self.registrations -= 1;
        self.per_shard[shard] -= 1;
        true
    }

    /// The oldest connection of an ID that has as many as `many`.
    pub(in crate::hub) fn oldest_of(&self, address: Address, many: usize) -> Option<Seat> {
        let seats = self.people.get(&address)?;
        (seats.len() >= many).then(|| seats.front().copied()).flatten()
    }

    /// How many registrations a message reaches.
    pub(in crate::hub) fn reached(&self, target: Target) -> u64 {
        match target {
            Target::Everyone => self.registrations as u64,
            Target::One(address) => self.people.get(&address).map_or(0, |seats| seats.len() as u64),
        }
    }

    /// Whether any of them is served by this shard.
    pub(in crate::hub) fn concerns(&self, shard: usize, target: Target) -> bool {
        match target {
            Target::Everyone => self.per_shard[shard] > 0,
            Target::One(address) => self
                .people
                .get(&address)
                .is_some_and(|seats| seats.iter().any(|seat| seat.shard == shard)),
        }
    }

    /// Counts an entry as handed to those whom it reaches, but not to `origin`, who needs no news
    /// of it and is one of them.
    pub(in crate::hub) fn note_delivery(&mut self, target: Target, origin: Option<u64>) {
        self.deliveries += self.reached(target).saturating_sub(origin.is_some().into());
    }

    pub(in crate::hub) fn registrations(&self) -> usize {
        self.registrations
    }

    pub(in crate::hub) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Different IDs.
    pub(in crate::hub) fn ids(&self) -> usize {
        self.people.len()
    }
}
