//! Many listeners on one thread.
//!
//! The machine that listens is often the one that serves: whatever is spent here is missing
//! there. So there is one edge-triggered `epoll` and one buffer for all, and of a message no more
//! is read than its length and first bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::interrupt::Interrupt;
use super::link::Link;
use super::member::{Member, Tally};
use super::message::Clock;
use super::poll::{LOOK_UP, Poll};
use super::target::Target;

/// Of so many listeners one looks at the messages' times. A prime, so that no program's way of
/// sharing listeners among threads falls together with it.
const SAMPLED: usize = 7;

/// Read at once: more than any socket's share of a burst.
const BUFFER: usize = 256 * 1024;

/// Time for everyone to come back, and pause of one client between two attempts.
const BACK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(250);

/// Connections begun before others get their turn.
const MANY: usize = 256;

/// Time without any progress while listeners join.
const STUCK: Duration = Duration::from_secs(15);

/// Listeners, and what they have counted.
pub(crate) struct Crowd {
    target: Arc<Target>,
    clock: Clock,
    poll: Poll,
    /// `None` is one that failed and will try again.
    members: Vec<Option<Member>>,
    tally: Tally,
    buffer: Vec<u8>,
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
            clock,
            poll: Poll::new(interrupt)?,
            members: Vec::new(),
            tally: Tally::new(clock)?,
            buffer: vec![0; BUFFER],
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
        self.members.iter().map(|member| member.as_ref().map_or(0, Member::messages))
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
                let number = self.members.len();
                let member = self.begin(number, &join(number))?;
                self.members.push(Some(member));
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

    fn begin(&self, number: usize, join: &Join) -> anyhow::Result<Member> {
        let wire = self.target.begin(number)?;
        let upgrade = self.target.upgrade(&join.tag);
        let action = self.target.join(&join.tag, &join.more);
        let link = Link::new(wire, Some(upgrade));
        let member = Member::new(link, action, number.is_multiple_of(SAMPLED));
        self.poll.add(&member, number)?;
        Ok(member)
    }

    /// All connections end, without a word, and what they counted is forgotten.
    ///
    /// # Errors
    /// When there is no memory to count in.
    pub(crate) fn leave(&mut self) -> anyhow::Result<()> {
        self.members.clear();
        self.tally = Tally::new(self.clock)?;
        Ok(())
    }

    /// `count` listeners at once, of an empty crowd. Who fails tries again, until all are there.
    /// Answers how often that was.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn come_back(
        &mut self,
        count: usize,
        join: impl Fn(usize) -> Join,
    ) -> anyhow::Result<usize> {
        let limit = Instant::now() + BACK;
        let mut retries = 0;
        // When and who.
        let mut failed: VecDeque<(Instant, usize)> = VecDeque::new();
        for number in 0..count {
            let member = self.begin(number, &join(number))?;
            self.members.push(Some(member));
            // The first would wait for the last, and a program that opens so many connections at
            // once does so in turns, too.
            if number.is_multiple_of(MANY) {
                self.turn_forgiving(Duration::ZERO, &mut failed)?;
            }
        }
        while self.tally.joined < count {
            while let Some((_, number)) = failed.pop_front_if(|(when, _)| when.elapsed() >= RETRY) {
                retries += 1;
                self.members[number] = Some(self.begin(number, &join(number))?);
            }
            self.turn_forgiving(Duration::from_millis(20), &mut failed)?;
            if Instant::now() > limit {
                bail!("only {} of {count} clients are back after {BACK:?}", self.tally.joined);
            }
        }
        Ok(retries)
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
        for number in self.poll.wait(most)? {
            if let Some(Some(member)) = self.members.get_mut(number) {
                member
                    .go_on(&mut self.buffer, &mut self.tally)
                    .with_context(|| format!("listener {number}"))?;
            }
        }
        Ok(())
    }

    /// As [`Crowd::turn`], but who fails before it has joined is only noted.
    fn turn_forgiving(
        &mut self,
        most: Duration,
        failed: &mut VecDeque<(Instant, usize)>,
    ) -> anyhow::Result<()> {
        for number in self.poll.wait(most)? {
            let Some(place) = self.members.get_mut(number) else { continue };
            let Some(member) = place else { continue };
            match member.go_on(&mut self.buffer, &mut self.tally) {
                Ok(()) => {}
                Err(error) if member.has_joined() => {
                    return Err(error.context(format!("listener {number}")));
                }
                Err(_turned_away) => {
                    *place = None;
                    failed.push_back((Instant::now(), number));
                }
            }
        }
        Ok(())
    }
}
