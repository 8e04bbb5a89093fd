//! Who comes and who goes.

mod tag;

use std::sync::Arc;

pub(crate) use tag::Registration;
pub(super) use tag::{Seat, TagRegistry};

use super::{Dismissal, Earlier, Generation, Hub, Registered};
use crate::conn::connection::Connection;
use crate::hub::delivery_queue::Work;
use crate::hub::history::{Begun, Start};
use crate::id::Tag;
use crate::protocol::{Cursor, Outcome, Refusal, Resume};

impl Hub {
    /// Whether there is room for one more registration on this tag.
    ///
    /// # Errors
    /// `unavailable`, refused.
    pub(crate) fn admit_registration(&self, tag: &Tag) -> Result<(), Refusal> {
        let state = self.state.lock();
        let why = if state.registrations >= self.room.registrations {
            "this server has as many registrations as it may; come back later"
        } else if state.audiences.len() >= self.room.tags && !state.audiences.contains_key(tag) {
            "this server has as many tags as it may; come back later"
        } else {
            return Ok(());
        };
        Err(Refusal::unavailable(Outcome::Refused, why))
    }

    /// Puts a connection on the tag's list and, with an address, on the ID's, in place of its
    /// `earlier` registration of the same tag.
    ///
    /// One connection too many under an ID closes the oldest.
    pub(crate) fn register(
        &self,
        connection: &Arc<Connection>,
        new: &Registration,
        earlier: Option<Earlier<'_>>,
        resume: &Resume,
        clock: u64,
    ) -> Registered {
        let (number, shard) = (connection.number(), connection.shard());
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // Sent away in between, it comes anew.
        let earlier = earlier.filter(|earlier| {
            state.remove(number, shard, earlier.registration, earlier.generation)
        });
        let head = self.head();
        let start = self.start(resume, head);
        let Begun { recovered, evicted_through, replay } =
            state.history.begin(&new.tag, new.address, head, start, clock);
        let mut recovered = resume.since.as_ref().map(|_| recovered.unwrap_or(false));
        let mut from = start.since.unwrap_or(head);
        // What the earlier one is handed is handed to the same client.
        let same = earlier
            .filter(|earlier| earlier.registration.address == new.address && earlier.from <= from);
        if let Some(earlier) = same {
            from = earlier.from;
            recovered = resume.since.as_ref().map(|_| start.since.is_some());
        } else if recovered == Some(false) {
            from = from.max(evicted_through);
        }
        let inbox = new.address.filter(|_| state.history.has_inboxes(&new.tag));
        let unread = inbox.map(|address| {
            state.history.unread(&new.tag, address, clock).map(|message| message.seq).collect()
        });
        // An earlier registration may have something under way.
        let live = earlier.is_none() && replay.is_empty();
        let shards = self.shards.len();
        state.audiences.entry(new.tag.clone()).or_insert_with(|| TagRegistry::new(shards));
        state.change(&new.tag, |audience| {
            if let Some(address) = new.address
                && let Some(oldest) = audience.oldest_of(address, Self::SEATS)
            {
                audience.remove(oldest.connection, oldest.shard, Some(address));
                self.dismiss(&new.tag, address, oldest, Dismissal::Replaced);
            }
            audience.add(Seat { connection: number, shard }, new.address);
        });
        self.shards[shard].push(Work::Register {
            connection: Arc::clone(connection),
            registration: new.clone(),
            earlier: earlier.map(|earlier| earlier.registration.address),
            continues_replay: same.is_some(),
            live,
            replay: Box::new(replay),
        });
        let live = live.then_some(head);
        Registered { recovered, unread, from, live, generation: state.generation }
    }

    /// Takes a connection's registrations off the generation, at once for the counts, and in order
    /// for its shard.
    pub(crate) fn unregister<'a>(
        &self,
        connection: &Connection,
        registrations: impl IntoIterator<Item = (&'a Registration, Generation)>,
    ) {
        let mut state = self.state.lock();
        let (connection, shard) = (connection.number(), connection.shard());
        for (registration, generation) in registrations {
            if state.remove(connection, shard, registration, generation) {
                let registration = registration.clone();
                self.shards[shard].push(Work::Unregister { connection, registration });
            }
        }
    }

    /// Where a client goes on from. A cursor of another lifetime, or beyond this one's head, is
    /// none.
    fn start(&self, resume: &Resume, head: u64) -> Start {
        let known = |since: &&Cursor| since.epoch == self.epoch && since.seq <= head;
        Start {
            since: resume.since.as_ref().filter(known).map(|since| since.seq),
            last: resume.last,
            unread: resume.unread,
        }
    }
}
