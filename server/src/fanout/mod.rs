//! A shard delivers messages to its share of the connections.
//!
//! A shard takes the work from its queue, sorts it by tag, and serves the tags in turn. Each turn
//! makes a few registrations or one slice of a delivery, and then other tasks of the runtime run.
//! So a tag with thousands of listeners delays any other tag by one slice at most.

mod join;
mod ping_wheel;
mod replay;
mod tag_listeners;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use ping_wheel::{Visit, Wheel};
use tag_listeners::TagListeners;

use crate::conn::connection::Connection;
use crate::conn::frame::PING;
use crate::conn::outbox::{Backlog, SLOW_CONSUMER};
use crate::hub::Hub;
use crate::hub::delivery_queue::{DeliveryQueue, Work};
use crate::hub::tally::Tally;
use crate::id::Tag;
use crate::limits;

/// How many turns pass between two checks of the ping wheel while there is work. 16 turns take a
/// few milliseconds at most.
const TURNS: usize = 16;

/// How many stalled replays continue at one check. Together they add at most 4 MiB to the backlog:
/// each adds one piece of 64 KiB (`REPLAY_PIECE`).
const RESUMED: usize = 64;

/// The WebSocket close code for a client that did not answer pings.
pub(crate) const NO_PONG: u16 = 4001;

/// Does the work in its queue until the shard is dropped.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The hub, from which replays are pulled.
    hub: Arc<Hub>,
    queue: Arc<DeliveryQueue>,
    tags: HashMap<Tag, TagListeners>,
    /// The tags that have work, in the order in which they are served. No tag is in this list
    /// twice.
    rotation: VecDeque<Tag>,
    members: HashMap<u64, Member>,
    wheel: Wheel,
    /// Connections whose replays wait because the backlog is full. The one that waits longest is
    /// first.
    stalled: VecDeque<u64>,
    tally: Tally,
}

/// A connection with at least one registration. Only connections with a registration are pinged.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    registrations: usize,
    slot: usize,
    /// How many visits of the ping wheel found that the client had sent nothing.
    quiet: u8,
    /// The tags whose replay waits until the connection can take more.
    catching_up: Vec<Tag>,
    /// Whether the connection is in `Shard::stalled`, once for all its tags.
    is_stalled: bool,
    /// The number of bytes flushed up to the last check, and the time at which this number last
    /// grew.
    progress: (u64, Instant),
}

impl Shard {
    /// `ping_interval` is how long a registered connection may be silent before it is pinged.
    pub(crate) fn new(hub: Arc<Hub>, queue: Arc<DeliveryQueue>, ping_interval: Duration) -> Self {
        Self {
            hub,
            queue,
            tags: HashMap::new(),
            rotation: VecDeque::new(),
            members: HashMap::new(),
            wheel: Wheel::new(ping_interval, Instant::now()),
            stalled: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// Runs until the future is dropped.
    pub(crate) async fn run(mut self) {
        let mut batch = VecDeque::new();
        let mut turns = 0_usize;
        loop {
            for number in self.queue.take(&mut batch) {
                self.resume(number);
            }
            for work in batch.drain(..) {
                self.sort_in(work);
            }
            // The checks run only every few turns, because reading the clock costs time.
            if turns.is_multiple_of(TURNS) {
                self.ping_due();
                self.retry_stalled();
            }
            turns = turns.wrapping_add(1);
            if self.serve_next_tag() {
                tokio::task::yield_now().await;
                continue;
            }
            turns = 0;
            let backlog = self.stalled_on();
            tokio::select! {
                () = self.queue.filled() => {}
                () = sleep_until(self.wheel.next_tick), if !self.members.is_empty() => {}
                () = freed(backlog.as_deref()), if backlog.is_some() => {}
            }
        }
    }

    fn sort_in(&mut self, work: Work) {
        let tag = work.tag();
        let listeners = match self.tags.get_mut(tag) {
            Some(listeners) => listeners,
            None => self.tags.entry(tag.clone()).or_insert_with(|| TagListeners::new(tag.clone())),
        };
        if !listeners.has_work() {
            self.rotation.push_back(tag.clone());
        }
        listeners.queue(work);
    }

    /// Continues the waiting replays of a connection that can take more.
    fn resume(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        for tag in std::mem::take(&mut member.catching_up) {
            let work = Work::Resume { tag, connection: number };
            self.queue.add(&work);
            self.sort_in(work);
        }
    }

    /// Serves one turn of the tag that has waited longest. Returns whether any tag had work.
    fn serve_next_tag(&mut self) -> bool {
        let Some(tag) = self.rotation.pop_front() else { return false };
        let Some(listeners) = self.tags.get_mut(&tag) else { return true };
        let mut changes = Vec::new();
        let done = listeners.serve(&self.hub, &mut changes, &mut self.tally);
        self.queue.done(done, &mut self.tally);
        if listeners.has_work() {
            self.rotation.push_back(tag.clone());
        } else if listeners.is_empty() {
            self.tags.remove(&tag);
        }
        for change in changes {
            match change {
                Change::Joined(connection) => self.joined(connection),
                Change::Left(number) => self.left(number),
                Change::CatchingUp { number, stalled } => {
                    self.catching_up(number, &tag);
                    if stalled
                        && let Some(member) = self.members.get_mut(&number)
                        && !std::mem::replace(&mut member.is_stalled, true)
                    {
                        self.stalled.push_back(number);
                    }
                }
            }
        }
        true
    }

    fn joined(&mut self, connection: Arc<Connection>) {
        let number = connection.number;
        if self.members.is_empty() {
            // The wheel stood still while the shard had no members, so the missed turns are
            // skipped.
            self.wheel.restart(Instant::now());
        }
        let wheel = &mut self.wheel;
        let member = self.members.entry(number).or_insert_with(|| Member {
            connection,
            registrations: 0,
            slot: wheel.add(number),
            quiet: 0,
            catching_up: Vec::new(),
            is_stalled: false,
            progress: (0, Instant::now()),
        });
        member.registrations += 1;
    }

    fn left(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        member.registrations -= 1;
        if member.registrations == 0 {
            self.wheel.remove(number, member.slot);
            self.members.remove(&number);
        }
    }

    fn catching_up(&mut self, number: u64, tag: &Tag) {
        let Some(member) = self.members.get_mut(&number) else { return };
        if member.catching_up.is_empty() {
            member.progress = (member.connection.outbox.flushed(), Instant::now());
        }
        if !member.catching_up.contains(tag) {
            member.catching_up.push(tag.clone());
        }
    }

    /// Continues some of the replays that wait for room in the backlog, once the backlog has room.
    /// If all continued at once, most would find the backlog full again, and each would cost a
    /// turn.
    fn retry_stalled(&mut self) {
        for _ in 0..RESUMED {
            if !self.stalled_on().is_some_and(|backlog| backlog.has_room_for_replay()) {
                return;
            }
            let Some(number) = self.stalled.pop_front() else { return };
            if let Some(member) = self.members.get_mut(&number) {
                member.is_stalled = false;
            }
            self.resume(number);
        }
    }

    /// The backlog for which stalled replays wait. Connections that have left are removed from
    /// `stalled`.
    fn stalled_on(&mut self) -> Option<Arc<Backlog>> {
        while let Some(number) = self.stalled.front() {
            if let Some(member) = self.members.get(number) {
                return Some(member.connection.outbox.backlog());
            }
            self.stalled.pop_front();
        }
        None
    }

    fn ping_due(&mut self) {
        let now = Instant::now();
        for number in self.wheel.due(now) {
            let Some(member) = self.members.get_mut(&number) else { continue };
            let outbox = &member.connection.outbox;
            let mut heard = member.connection.take_heard();
            if !member.catching_up.is_empty() {
                let flushed = outbox.flushed();
                if flushed != member.progress.0 {
                    member.progress = (flushed, now);
                    // A ping may still wait behind the replay, so the pong comes late.
                    heard = true;
                } else if now - member.progress.1 >= limits::REPLAY_STALL {
                    outbox.shed_and_close(
                        SLOW_CONSUMER,
                        "does not read the messages it missed; reconnect",
                    );
                }
            }
            match ping_wheel::visit(&mut member.quiet, heard) {
                Visit::Fine => {}
                Visit::Ping => {
                    outbox.push(&PING);
                }
                Visit::Dead => outbox.shed_and_close(NO_PONG, "no answer to pings; reconnect"),
            }
        }
    }
}

async fn freed(backlog: Option<&Backlog>) {
    if let Some(backlog) = backlog {
        backlog.freed().await;
    }
}

/// How serving a tag changed the members of the shard.
#[derive(Debug)]
enum Change {
    Joined(Arc<Connection>),
    Left(u64),
    /// The replay waits until the outbox is empty or, if `stalled`, until the backlog has room.
    CatchingUp {
        number: u64,
        stalled: bool,
    },
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
