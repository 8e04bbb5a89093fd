//! Many listeners on one thread.
//!
//! The machine that listens is often the one that serves: whatever is spent here is missing
//! there. So there is one edge-triggered `epoll` and one buffer for all, and of a message no more
//! is read than its length and first bytes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::interrupt::Interrupt;
use super::member::{Member, Tally};
use super::message::Clock;
use super::target::Target;

/// Of so many listeners one looks at the messages' times. A prime, so that no program's way of
/// sharing listeners among threads falls together with it.
const SAMPLED: usize = 7;

/// Read at once: more than any socket's share of a burst.
const BUFFER: usize = 256 * 1024;

/// Events taken at once.
const EVENTS: usize = 1_024;

/// How often an interruption is looked for.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Time without any progress while listeners join.
const STUCK: Duration = Duration::from_secs(15);

/// Listeners, and what they have counted.
pub(crate) struct Crowd {
    target: Arc<Target>,
    interrupt: Interrupt,
    epoll: OwnedFd,
    members: Vec<Member>,
    tally: Tally,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
}

/// On what a listener listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Join {
    pub(crate) tag: String,
    /// Further fields of the action, each with a comma before it.
    pub(crate) more: String,
}

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// When the system has no `epoll` to give.
    pub(crate) fn new(
        target: Arc<Target>,
        clock: Clock,
        interrupt: Interrupt,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            target,
            interrupt,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            members: Vec::new(),
            tally: Tally::new(clock)?,
            buffer: vec![0; BUFFER],
            events: Vec::with_capacity(EVENTS),
        })
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Forgets the times so far, and those of all that was sent before now.
    pub(crate) fn measure_from(&mut self, now: u64) {
        self.tally.latencies.clear();
        self.tally.since = now;
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// What each listener has got.
    pub(crate) fn messages(&self) -> impl Iterator<Item = u64> {
        self.members.iter().map(Member::messages)
    }

    /// `count` more listeners, so many on their way `at_a_time`.
    ///
    /// # Errors
    /// When one cannot join.
    pub(crate) fn open(
        &mut self,
        count: usize,
        at_a_time: usize,
        join: impl Fn(usize) -> Join,
    ) -> anyhow::Result<()> {
        let wanted = self.members.len() + count;
        let (mut progress, mut progressed) = (self.tally.joined, Instant::now());
        while self.tally.joined < wanted {
            while self.members.len() < wanted && self.members.len() - self.tally.joined < at_a_time
            {
                self.add(&join(self.members.len()))?;
            }
            self.turn(LOOK_UP)?;
            if self.tally.joined != progress {
                (progress, progressed) = (self.tally.joined, Instant::now());
            } else if progressed.elapsed() > STUCK {
                bail!("{progress} of {wanted} listeners are registered, and no more come");
            }
        }
        Ok(())
    }

    fn add(&mut self, join: &Join) -> anyhow::Result<()> {
        let number = self.members.len();
        let wire = self.target.begin(number)?;
        let upgrade = self.target.upgrade(&join.tag);
        let action = self.target.join(&join.tag, &join.more);
        let member = Member::new(wire, upgrade, action, number.is_multiple_of(SAMPLED));
        let about = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &member, epoll::EventData::new_u64(number as u64), about)?;
        self.members.push(member);
        Ok(())
    }

    /// Listens until `enough` says so.
    ///
    /// # Errors
    /// When that is not so within `limit`, or a connection ends.
    pub(crate) fn listen(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&Tally) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while !enough(&self.tally) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} messages have come, and no more come", self.tally.messages);
            }
            self.turn(left.min(Duration::from_millis(5)))?;
        }
        Ok(())
    }

    /// Listens for a while, whatever comes.
    ///
    /// # Errors
    /// When a connection ends.
    pub(crate) fn linger(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left.min(LOOK_UP))?;
        }
    }

    /// Waits for something, `most` at most, and does it.
    fn turn(&mut self, most: Duration) -> anyhow::Result<()> {
        self.interrupt.check()?;
        let most = Timespec::try_from(most)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets"),
        }
        for event in self.events.drain(..) {
            let number = usize::try_from(event.data.u64())?;
            if let Some(member) = self.members.get_mut(number) {
                member
                    .go_on(&mut self.buffer, &mut self.tally)
                    .with_context(|| format!("listener {number}"))?;
            }
        }
        Ok(())
    }
}
