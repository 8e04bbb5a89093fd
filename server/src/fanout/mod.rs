//! A shard delivers to its share of the connections.
//!
//! It takes what waits in its queue, sorts it by tag, and serves the tags in turn: each turn
//! makes a few registrations or one slice of a delivery, and then other tasks of the runtime get
//! theirs. So a tag with thousands of listeners delays no other by more than a slice.

mod batch;
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
use crate::conn::outbox::SLOW_CONSUMER;
use crate::hub::Hub;
use crate::hub::delivery_queue::{DeliveryQueue, Work};
use crate::hub::tally::Tally;
use crate::id::Tag;
use crate::limits;

/// Turns between two looks at who is to be pinged, while there is work: some milliseconds at most.
const TURNS: usize = 16;

/// Between looks at whether replays that wait for others may go on.
const LATER: Duration = Duration::from_millis(50);

/// Close code of a client that did not answer pings.
pub(crate) const NO_PONG: u16 = 4001;

/// Delivers what its queue brings until it is dropped.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Asked for what those who come back have missed, and for nothing else.
    hub: Arc<Hub>,
    queue: Arc<DeliveryQueue>,
    audiences: HashMap<Tag, TagListeners>,
    /// The tags that have work, next first; each stands here once.
    rotation: VecDeque<Tag>,
    members: HashMap<u64, Member>,
    wheel: Wheel,
    /// Connections whose replays wait until less waits for others.
    later: Vec<u64>,
    /// When that is looked at again.
    look_at: Instant,
    tally: Tally,
}

/// A connection with at least one registration: those are pinged, others never.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    registrations: usize,
    slot: usize,
    /// Visits since it was last heard.
    quiet: u8,
    /// The tags of which it is being handed what it has missed, and cannot take more just now.
    catching_up: Vec<Tag>,
    /// How far it had come with that, and when that was seen.
    progress: (u64, Instant),
}

impl Shard {
    /// A shard that pings its registered connections after `ping_interval` of silence.
    #[must_use]
    pub(crate) fn new(hub: Arc<Hub>, queue: Arc<DeliveryQueue>, ping_interval: Duration) -> Self {
        Self {
            hub,
            queue,
            audiences: HashMap::new(),
            rotation: VecDeque::new(),
            members: HashMap::new(),
            wheel: Wheel::new(ping_interval, Instant::now()),
            later: Vec::new(),
            look_at: Instant::now(),
            tally: Tally::default(),
        }
    }

    /// Serves for ever; dropping the future ends the shard.
    pub(crate) async fn run(mut self) {
        let mut batch = VecDeque::new();
        let mut turns = 0_usize;
        loop {
            for number in self.queue.take(&mut batch) {
                self.go_on(number);
            }
            for work in batch.drain(..) {
                self.sort_in(work);
            }
            // The clock is not asked for every turn: those due can wait for some.
            if turns.is_multiple_of(TURNS) {
                self.ping_those_due();
                self.look_after_the_later();
            }
            turns = turns.wrapping_add(1);
            if self.serve_next_tag() {
                tokio::task::yield_now().await;
                continue;
            }
            turns = 0;
            let next_tick = match self.later.is_empty() {
                true => self.wheel.next_tick(),
                false => self.wheel.next_tick().min(self.look_at),
            };
            tokio::select! {
                () = self.queue.filled() => {}
                () = sleep_until(next_tick), if !self.members.is_empty() => {}
            }
        }
    }

    fn sort_in(&mut self, work: Work) {
        let tag = work.tag();
        let audience = match self.audiences.get_mut(tag) {
            Some(audience) => audience,
            None => {
                self.audiences.entry(tag.clone()).or_insert_with(|| TagListeners::new(tag.clone()))
            }
        };
        if !audience.has_work() {
            self.rotation.push_back(tag.clone());
        }
        audience.queue(work);
    }

    /// A connection can take more of what it has missed.
    fn go_on(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        for tag in std::mem::take(&mut member.catching_up) {
            let work = Work::Resume { tag, connection: number };
            self.queue.add(&work);
            self.sort_in(work);
        }
    }

    /// One turn for the tag that has waited longest. Answers whether any tag had work.
    fn serve_next_tag(&mut self) -> bool {
        let Some(tag) = self.rotation.pop_front() else { return false };
        let Some(audience) = self.audiences.get_mut(&tag) else { return true };
        let mut changes = Vec::new();
        let done = audience.serve(&self.hub, &mut changes, &mut self.tally);
        self.queue.done(done, &mut self.tally);
        if audience.has_work() {
            self.rotation.push_back(tag.clone());
        } else if audience.is_empty() {
            self.audiences.remove(&tag);
        }
        for change in changes {
            match change {
                Change::Joined(connection) => self.joined(connection),
                Change::Left(number) => self.left(number),
                Change::CatchingUp { number, later } => {
                    self.catching_up(number, &tag);
                    if later {
                        self.later.push(number);
                    }
                }
            }
        }
        true
    }

    fn joined(&mut self, connection: Arc<Connection>) {
        let number = connection.number();
        if self.members.is_empty() {
            // Nobody was there to be visited for a while: do not catch up on those turns.
            self.wheel.restart(Instant::now());
        }
        let wheel = &mut self.wheel;
        let member = self.members.entry(number).or_insert_with(|| Member {
            connection,
            registrations: 0,
            slot: wheel.add(number),
            quiet: 0,
            catching_up: Vec::new(),
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
            member.progress = (member.connection.outbox().flushed(), Instant::now());
        }
        if !member.catching_up.contains(tag) {
            member.catching_up.push(tag.clone());
        }
    }

    /// Goes on with the replays that wait for others' sockets to take something.
    fn look_after_the_later(&mut self) {
        if self.later.is_empty() || Instant::now() < self.look_at {
            return;
        }
        self.look_at = Instant::now() + LATER;
        for number in std::mem::take(&mut self.later) {
            self.go_on(number);
        }
    }

    fn ping_those_due(&mut self) {
        let now = Instant::now();
        for number in self.wheel.due(now) {
            let Some(member) = self.members.get_mut(&number) else { continue };
            let outbox = member.connection.outbox();
            let mut heard = member.connection.take_heard();
            if !member.catching_up.is_empty() {
                let flushed = outbox.flushed();
                if flushed != member.progress.0 {
                    member.progress = (flushed, now);
                    // The answer to a ping may have to wait for all that is before the ping.
                    heard = true;
                } else if now - member.progress.1 >= limits::REPLAY_STALL {
                    outbox.shed_and_close(SLOW_CONSUMER, "takes nothing of its replay; come back");
                }
            }
            match ping_wheel::visit(&mut member.quiet, heard) {
                Visit::Fine => {}
                Visit::Ping => {
                    outbox.push(&PING);
                }
                Visit::Dead => outbox.shed_and_close(NO_PONG, "no answer to pings; come back"),
            }
        }
    }
}

/// What serving a tag changed in who is registered at all.
#[derive(Debug)]
enum Change {
    Joined(Arc<Connection>),
    Left(u64),
    /// It cannot take more of what it has missed just now; `later` if that is because of others.
    CatchingUp {
        number: u64,
        later: bool,
    },
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
