//! Registers and unregisters connections.

mod tag;

use std::sync::Arc;

pub(super) use tag::{PersonListener, TagRegistry};

use super::{Dismissal, Earlier, Generation, Hub, Registered, Registration};
use crate::conn::connection::Connection;
use crate::hub::delivery_queue::Work;
use crate::hub::history::{Begun, Start};
use crate::id::Tag;
use crate::limits;
use crate::protocol::{Cursor, Outcome, Refusal, Resume};

impl Hub {
    /// Checks that one more registration on this tag is within the limits.
    ///
    /// # Errors
    /// `unavailable` with the outcome `refused`, if a limit is reached.
    pub(crate) fn admit_registration(&self, tag: &Tag) -> Result<(), Refusal> {
        let state = self.state.lock();
        let why = if state.registrations >= self.limits.registrations {
            "this server has reached its limit of registrations; retry later"
        } else if state.tags.len() >= self.limits.tags && !state.tags.contains_key(tag) {
            "this server has reached its limit of tags; retry later"
        } else {
            return Ok(());
        };
        Err(Refusal::unavailable(Outcome::Refused, why))
    }

    /// Registers a connection on a tag, with or without an ID. The new registration replaces the
    /// `earlier` one of the connection on the tag. If the ID then has too many connections, the
    /// oldest is closed.
    pub(crate) fn register(
        &self,
        connection: &Arc<Connection>,
        new: &Registration,
        earlier: Option<Earlier<'_>>,
        resume: &Resume,
        clock: u64,
    ) -> Registered {
        let (number, shard) = (connection.number, connection.shard);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // If the hub has ended the earlier registration already, there is nothing to replace.
        let earlier = earlier.filter(|earlier| {
            state.remove(number, shard, earlier.registration, earlier.generation)
        });
        let head = self.head();
        let start = self.start(resume, head);
        let Begun { recovered, evicted_through, replay } =
            state.history.begin(&new.tag, new.address, head, start, clock);
        let mut recovered = resume.since.as_ref().map(|_| recovered.unwrap_or(false));
        let mut from = start.since.unwrap_or(head);
        // The client also gets the messages that the earlier registration was promised.
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
        // Messages of the earlier registration may still be on their way.
        let live = earlier.is_none() && replay.is_empty();
        let shards = self.shards.len();
        state.tags.entry(new.tag.clone()).or_insert_with(|| TagRegistry::new(shards));
        state.change(&new.tag, |listeners| {
            if let Some(address) = new.address
                && let Some(oldest) = listeners.oldest_of(address, limits::CONNECTIONS_PER_ID)
            {
                listeners.remove(oldest.connection, oldest.shard, Some(address));
                self.dismiss(&new.tag, address, oldest, Dismissal::Replaced);
            }
            listeners.add(PersonListener { connection: number, shard }, new.address);
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

    /// Ends registrations of a connection: at once in the registry, and in the shard when the shard
    /// reaches this work in its queue.
    pub(crate) fn unregister<'a>(
        &self,
        connection: &Connection,
        registrations: impl IntoIterator<Item = (&'a Registration, Generation)>,
    ) {
        let mut state = self.state.lock();
        let (connection, shard) = (connection.number, connection.shard);
        for (registration, generation) in registrations {
            if state.remove(connection, shard, registration, generation) {
                let registration = registration.clone();
                self.shards[shard].push(Work::Unregister { connection, registration });
            }
        }
    }

    /// The point at which the replay starts. A cursor with another epoch or beyond the head is
    /// ignored.
    fn start(&self, resume: &Resume, head: u64) -> Start {
        let known = |since: &&Cursor| since.epoch == self.epoch && since.seq <= head;
        Start {
            since: resume.since.as_ref().filter(known).map(|since| since.seq),
            last: resume.last,
            unread: resume.unread,
        }
    }
}
