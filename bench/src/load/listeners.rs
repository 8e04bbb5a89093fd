//! Many listeners on one thread.
//!
//! The listeners often share their machine with the server, and what they spend is missing there. So
//! all of them have one edge-triggered `epoll` and one buffer, and of a message they read only the
//! length and the first bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::connection::Connection;
use super::listener::{Listener, Tally};
use super::message::Clock;
use super::poll::Poll;
use super::target::Target;

/// One in this many listeners records latencies. A prime, so that the sample does not coincide with
/// the way in which a server spreads listeners over its threads.
const SAMPLED: usize = 7;

/// Bytes read at once: more than any socket's share of a burst.
const BUFFER: usize = 256 * 1024;

/// A listener's pause between two attempts to join.
const RETRY: Duration = Duration::from_millis(250);

/// Connections begun before the events of others are handled, so that the first one does not wait for
/// the last one: a program that opens many connections at once does so in batches, too.
const BATCH: usize = 256;

/// The longest wait for events while listeners join.
const BETWEEN: Duration = Duration::from_millis(20);

/// Time without any progress while listeners join.
const STUCK: Duration = Duration::from_secs(15);

/// Listeners, and what they have counted.
pub(crate) struct Listeners {
    target: Arc<Target>,
    clock: Clock,
    poll: Poll,
    /// `None` is a listener that has failed and will connect again.
    list: Vec<Option<(Connection, Listener)>>,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Listeners {
    /// Without any listener yet.
    pub(crate) fn new(target: Arc<Target>, clock: Clock) -> Result<Self> {
        let (poll, tally) = (Poll::new()?, Tally::new(clock)?);
        Ok(Self { target, clock, poll, list: Vec::new(), tally, buffer: vec![0; BUFFER] })
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Forgets all latencies so far, and ignores those of messages sent before `now`.
    pub(crate) fn measure_from(&mut self, now: u64) {
        self.tally.latencies.clear();
        self.tally.since = now;
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The number of messages of each listener.
    pub(crate) fn messages(&self) -> impl Iterator<Item = u64> {
        self.list
            .iter()
            .map(|listener| listener.as_ref().map_or(0, |(_, listener)| listener.messages))
    }

    /// Adds `count` listeners, evenly over the tags, of which `at_a_time` connect at the same time.
    ///
    /// # Errors
    /// When one cannot join.
    pub(crate) fn open(
        &mut self,
        count: usize,
        at_a_time: usize,
        tags: &[impl AsRef<str>],
    ) -> Result<()> {
        self.join(count, at_a_time, tags, "", None)
    }

    /// Connects `count` listeners at once, after [`Listeners::disconnect`]. One that fails tries
    /// again until all have joined. Answers how many attempts failed.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn reconnect(&mut self, count: usize, tag: &str, more: &str) -> Result<usize> {
        let mut retries = Retries::default();
        self.join(count, count, &[tag], more, Some(&mut retries))?;
        Ok(retries.count)
    }

    /// `more` are further fields of the action that joins, each with a comma before it. Without
    /// `retries`, the first failure is an error.
    fn join(
        &mut self,
        count: usize,
        at_a_time: usize,
        tags: &[impl AsRef<str>],
        more: &str,
        mut retries: Option<&mut Retries>,
    ) -> Result<()> {
        let wanted = self.list.len() + count;
        let (mut joined, mut progress) = (self.tally.joined, Instant::now());
        while self.tally.joined < wanted {
            while let Some(number) = retries.as_mut().and_then(|retries| retries.next_due()) {
                self.list[number] = Some(self.connect(number, tags, more)?);
            }
            let due = wanted.min(self.tally.joined + at_a_time);
            let next = self.list.len();
            for number in next..due.min(next + BATCH) {
                let listener = self.connect(number, tags, more)?;
                self.list.push(Some(listener));
            }
            let wait = if self.list.len() < due { Duration::ZERO } else { BETWEEN };
            self.poll_once(wait, retries.as_deref_mut())?;
            if self.tally.joined != joined {
                (joined, progress) = (self.tally.joined, Instant::now());
            }
            ensure!(
                progress.elapsed() <= STUCK,
                "{joined} of {wanted} listeners are registered, and the others make no progress"
            );
        }
        Ok(())
    }

    fn connect(
        &self,
        number: usize,
        tags: &[impl AsRef<str>],
        more: &str,
    ) -> Result<(Connection, Listener)> {
        let tag = tags[number % tags.len()].as_ref();
        let connection = self.target.connect(&self.poll, number, Some(self.target.upgrade(tag)))?;
        let (join, is_sampled) = (self.target.join(tag, more), number.is_multiple_of(SAMPLED));
        Ok((connection, Listener { join, is_sampled, ..Listener::default() }))
    }

    /// Ends all connections without a close frame, and forgets what the listeners have counted.
    pub(crate) fn disconnect(&mut self) -> Result<()> {
        self.list.clear();
        self.tally = Tally::new(self.clock)?;
        Ok(())
    }

    /// Handles events until `is_enough`.
    ///
    /// # Errors
    /// When that takes longer than `limit`, or a connection ends.
    pub(crate) fn listen_until(
        &mut self,
        limit: Duration,
        mut is_enough: impl FnMut(&Tally) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !is_enough(&self.tally) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} messages have arrived, and no more arrive", self.tally.messages);
            }
            self.poll_once(left.min(Duration::from_millis(5)), None)?;
        }
        Ok(())
    }

    /// Handles events for `time`.
    ///
    /// # Errors
    /// When a connection ends.
    pub(crate) fn listen_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll_once(left, None)?;
        }
    }

    /// Waits for events, at most `limit`, and handles them. With `retries`, a listener that fails
    /// before it has joined is only noted there.
    fn poll_once(&mut self, limit: Duration, mut retries: Option<&mut Retries>) -> Result<()> {
        for number in self.poll.wait(limit)? {
            let Some(entry) = self.list.get_mut(number) else { continue };
            let Some((connection, listener)) = entry else { continue };
            let tally = &mut self.tally;
            let handled = connection
                .on_ready(&mut self.buffer, |out, input| listener.handle(out, input, tally));
            match (handled, &mut retries) {
                (Ok(()), _) => {}
                (Err(_), Some(retries)) if !listener.is_joined => {
                    *entry = None;
                    retries.failed.push_back((Instant::now(), number));
                }
                (Err(error), _) => return Err(error.context(format!("listener {number}"))),
            }
        }
        Ok(())
    }
}

/// Listeners that could not join, and will connect again.
#[derive(Default)]
struct Retries {
    failed: VecDeque<(Instant, usize)>,
    count: usize,
}

impl Retries {
    fn next_due(&mut self) -> Option<usize> {
        let (_, number) = self.failed.pop_front_if(|(when, _)| when.elapsed() >= RETRY)?;
        self.count += 1;
        Some(number)
    }
}
