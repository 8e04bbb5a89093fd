//! The registry of one tag: who listens on it, and on which shard.

use std::collections::{HashMap, VecDeque};

use crate::entry::Target;
use crate::id::Address;

/// The registrations of one tag.
#[derive(Debug)]
pub(in crate::hub) struct TagRegistry {
    pub(in crate::hub) registrations: usize,
    /// The number of deliveries since the tag got its first listener.
    pub(in crate::hub) deliveries: u64,
    per_shard: Box<[u32]>,
    /// The connections under each ID, oldest first.
    people: HashMap<Address, VecDeque<PersonListener>>,
}

/// A connection that is registered under an ID.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct PersonListener {
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

    pub(in crate::hub) fn add(&mut self, listener: PersonListener, address: Option<Address>) {
        if let Some(address) = address {
            self.people.entry(address).or_default().push_back(listener);
        }
        self.registrations += 1;
        self.per_shard[listener.shard] += 1;
    }

    /// Removes a registration. Returns whether it existed, because the hub may have ended it
    /// before.
    pub(in crate::hub) fn remove(
        &mut self,
        connection: u64,
        shard: usize,
        address: Option<Address>,
    ) -> bool {
        if let Some(address) = address {
            let Some(listeners) = self.people.get_mut(&address) else { return false };
            let index = listeners.iter().position(|listener| listener.connection == connection);
            let Some(index) = index else { return false };
            listeners.remove(index);
            if listeners.is_empty() {
                self.people.remove(&address);
            }
        }
        self.registrations -= 1;
        self.per_shard[shard] -= 1;
        true
    }

    /// The oldest connection of an ID, if the ID has at least `many` connections.
    pub(in crate::hub) fn oldest_of(
        &self,
        address: Address,
        many: usize,
    ) -> Option<PersonListener> {
        let listeners = self.people.get(&address)?;
        (listeners.len() >= many).then(|| listeners.front().copied()).flatten()
    }

    /// How many registrations an entry with this target reaches.
    pub(in crate::hub) fn reached(&self, target: Target) -> u64 {
        match target {
            Target::Everyone => self.registrations as u64,
            Target::One(address) => {
                self.people.get(&address).map_or(0, |listeners| listeners.len() as u64)
            }
        }
    }

    /// Whether the shard serves any recipient of an entry with this target.
    pub(in crate::hub) fn concerns(&self, shard: usize, target: Target) -> bool {
        match target {
            Target::Everyone => self.per_shard[shard] > 0,
            Target::One(address) => self
                .people
                .get(&address)
                .is_some_and(|listeners| listeners.iter().any(|listener| listener.shard == shard)),
        }
    }

    /// Counts the deliveries of an entry. `origin` would be a recipient, but it is left out.
    pub(in crate::hub) fn note_delivery(&mut self, target: Target, origin: Option<u64>) {
        self.deliveries += self.reached(target).saturating_sub(origin.is_some().into());
    }

    /// How many distinct IDs are registered on the tag.
    pub(in crate::hub) fn ids(&self) -> usize {
        self.people.len()
    }
}
