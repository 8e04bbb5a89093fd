//! A shard delivers to its share of the connections.
//!
//! It takes what waits in its queue, sorts it by tag, and serves the tags in turn: each turn
//! makes a few registrations or one slice of a delivery, and then other tasks of the runtime get
//! theirs. So a tag with thousands of listeners delays no other by more than a slice.

mod audience;
mod queue;
mod wheel;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use audience::Audience;
pub use queue::{ShardQueue, Work};
use wheel::{Visit, Wheel};

use crate::connection::Connection;
use crate::frame::PING;
use crate::id::Tag;

/// Close code of a client that did not answer pings.
pub const NO_PONG: u16 = 4001;
/// Close code of the oldest connection under an ID when there are too many.
pub const REPLACED: u16 = 4005;

/// Delivers what its queue brings until it is dropped.
#[derive(Debug)]
pub struct Shard {
    queue: Arc<ShardQueue>,
    audiences: HashMap<Tag, Audience>,
    /// The tags that have work, next first; each stands here once.
    rotation: VecDeque<Tag>,
    members: HashMap<u64, Member>,
    wheel: Wheel,
}

/// A connection with at least one registration: those are pinged, others never.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    registrations: usize,
    slot: usize,
    /// Visits since it was last heard.
    quiet: u8,
}

impl Shard {
    /// A shard that pings its registered connections after `ping_interval` of silence.
    #[must_use]
    pub fn new(queue: Arc<ShardQueue>, ping_interval: Duration) -> Self {
        Self {
            queue,
            audiences: HashMap::new(),
            rotation: VecDeque::new(),
            members: HashMap::new(),
            wheel: Wheel::new(ping_interval, Instant::now()),
        }
    }

    /// Serves for ever; dropping the future ends the shard.
    pub async fn run(mut self) {
        let mut batch = VecDeque::new();
        loop {
            self.queue.take(&mut batch);
            for work in batch.drain(..) {
                self.sort_in(work);
            }
            self.ping_those_due();
            if self.serve_next_tag() {
                tokio::task::yield_now().await;
                continue;
            }
            let next_tick = self.wheel.next_tick();
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
            None => self.audiences.entry(tag.clone()).or_default(),
        };
        if !audience.has_work() {
            self.rotation.push_back(tag.clone());
        }
        audience.queue(work);
    }

    /// One turn for the tag that has waited longest. Answers whether any tag had work.
    fn serve_next_tag(&mut self) -> bool {
        let Some(tag) = self.rotation.pop_front() else { return false };
        let Some(audience) = self.audiences.get_mut(&tag) else { return true };
        let mut changes = Vec::new();
        let done = audience.serve(&mut changes);
        self.queue.done(done);
        if audience.has_work() {
            self.rotation.push_back(tag);
        } else if audience.is_empty() {
            self.audiences.remove(&tag);
        }
        for change in changes {
            match change {
                Change::Joined(connection) => self.joined(connection),
                Change::Left(number) => self.left(number),
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

    fn ping_those_due(&mut self) {
        for number in self.wheel.due(Instant::now()) {
            let Some(member) = self.members.get_mut(&number) else { continue };
            let outbox = member.connection.outbox();
            match wheel::visit(&mut member.quiet, member.connection.take_heard()) {
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
}

#[cfg(test)]
mod tests;
