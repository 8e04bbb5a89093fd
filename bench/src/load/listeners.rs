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
use super::poll::{LONGEST_WAIT, Poll};
use super::target::Target;
use crate::interrupt::Interrupt;

/// One in this many listeners records latencies. A prime, so that the sample does not coincide with
/// the way in which a server spreads listeners over its threads.
const SAMPLED: usize = 7;

/// Bytes read at once: more than any socket's share of a burst.
const BUFFER: usize = 256 * 1024;

/// Time for all listeners to reconnect, and a listener's pause between two attempts.
const RECONNECTED: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(250);

/// Connections begun before the events of others are handled.
const BATCH: usize = 256;

/// Time without any progress while listeners join.
const STUCK: Duration = Duration::from_secs(15);

/// Listeners, and what they have counted.
pub(crate) struct Listeners {
    target: Arc<Target>,
    clock: Clock,
    poll: Poll,
    /// `None` is a listener that has failed and will connect again.
    list: Vec<Option<Listener>>,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Listeners {
    /// Without any listener yet.
    pub(crate) fn new(target: Arc<Target>, clock: Clock, interrupt: Interrupt) -> Result<Self> {
        let (poll, tally) = (Poll::new(interrupt)?, Tally::new(clock)?);
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
        self.list.iter().map(|listener| listener.as_ref().map_or(0, Listener::messages))
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
        let wanted = self.list.len() + count;
        let (mut joined, mut progress) = (self.tally.joined, Instant::now());
        while self.tally.joined < wanted {
            while self.list.len() < wanted.min(self.tally.joined + at_a_time) {
                let number = self.list.len();
                let listener = self.connect(number, tags[number % tags.len()].as_ref(), "")?;
                self.list.push(Some(listener));
            }
            self.poll_once(LONGEST_WAIT)?;
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

    /// `more` are further fields of the action that joins, each with a comma before it.
    fn connect(&self, number: usize, tag: &str, more: &str) -> Result<Listener> {
        let upgrade = self.target.upgrade(tag);
        let connection = Connection::new(self.target.begin(number)?, Some(upgrade));
        let action = self.target.join(tag, more);
        self.poll.add(connection.stream(), number)?;
        Ok(Listener::new(connection, action, number.is_multiple_of(SAMPLED)))
    }

    /// Ends all connections without a close frame, and forgets what the listeners have counted.
    pub(crate) fn disconnect(&mut self) -> Result<()> {
        self.list.clear();
        self.tally = Tally::new(self.clock)?;
        Ok(())
    }

    /// Connects `count` listeners at once, after [`Listeners::disconnect`]. One that fails tries
    /// again until all have joined. Answers how many attempts failed.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn reconnect(&mut self, count: usize, tag: &str, more: &str) -> Result<usize> {
        let limit = Instant::now() + RECONNECTED;
        let mut retries = 0;
        let mut failed: VecDeque<(Instant, usize)> = VecDeque::new();
        for number in 0..count {
            let listener = self.connect(number, tag, more)?;
            self.list.push(Some(listener));
            // Otherwise the first one would wait for the last one. A program that opens this many
            // connections at once does so in batches, too.
            if number.is_multiple_of(BATCH) {
                self.poll_and_note_failed(Duration::ZERO, &mut failed)?;
            }
        }
        while self.tally.joined < count {
            while let Some((_, number)) = failed.pop_front_if(|(when, _)| when.elapsed() >= RETRY) {
                retries += 1;
                self.list[number] = Some(self.connect(number, tag, more)?);
            }
            self.poll_and_note_failed(Duration::from_millis(20), &mut failed)?;
            ensure!(
                Instant::now() <= limit,
                "only {} of {count} clients are back after {RECONNECTED:?}",
                self.tally.joined
            );
        }
        Ok(retries)
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
            self.poll_once(left.min(Duration::from_millis(5)))?;
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
            self.poll_once(left)?;
        }
    }

    /// Waits for events, at most `limit`, and handles them.
    fn poll_once(&mut self, limit: Duration) -> Result<()> {
        for number in self.poll.wait(limit)? {
            if let Some(Some(listener)) = self.list.get_mut(number) {
                let handled = listener.on_ready(&mut self.buffer, &mut self.tally);
                handled.map_err(|error| error.context(format!("listener {number}")))?;
            }
        }
        Ok(())
    }

    /// As [`Listeners::poll_once`], but a listener that fails before it has joined is only noted.
    fn poll_and_note_failed(
        &mut self,
        limit: Duration,
        failed: &mut VecDeque<(Instant, usize)>,
    ) -> Result<()> {
        for number in self.poll.wait(limit)? {
            let Some(Some(listener)) = self.list.get_mut(number) else { continue };
            if let Err(error) = listener.on_ready(&mut self.buffer, &mut self.tally) {
                if listener.is_joined() {
                    return Err(error.context(format!("listener {number}")));
                }
                self.list[number] = None;
                failed.push_back((Instant::now(), number));
            }
        }
        Ok(())
    }
}
