//! Many listeners on one thread.
//!
//! The listeners often share their machine with the server, so CPU that they use is missing there.
//! Therefore all of them share one edge-triggered `epoll` and one buffer, and they read only the
//! length and the first bytes of a message.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::connection::{Connection, Poll};
use super::target::Target;
use super::wire::{CLOSE, Frame, Latencies, PING, PONG, TEXT, client_frame, now, scan, sent};

/// One in this many listeners records latencies. The number is a prime, so that the sample does not
/// coincide with the way in which a server spreads listeners over its threads.
const SAMPLED: usize = 7;

/// The number of bytes that are read at once, which is more than one socket receives in a burst.
const BUFFER: usize = 256 * 1024;

/// A listener's pause between two attempts to join.
const RETRY: Duration = Duration::from_millis(250);

/// The number of connections that are begun before events are handled. The first one then does not
/// have to wait for the last one. Programs that open many connections at once also do so in
/// batches.
const BATCH: usize = 256;

/// The longest wait for events while listeners join.
const BETWEEN: Duration = Duration::from_millis(20);

/// How long listeners may make no progress while they join.
const STUCK: Duration = Duration::from_secs(15);

/// Listeners, and their counts.
pub(crate) struct Listeners {
    target: Arc<Target>,
    tags: Arc<[String]>,
    /// Further fields of the action `set`, each with a comma before it.
    more: String,
    poll: Poll,
    /// The listeners. `None` stands for one that has failed and will connect again.
    pub(crate) list: Vec<Option<(Connection, Listener)>>,
    pub(crate) tally: Tally,
    buffer: Vec<u8>,
}

impl Listeners {
    /// Returns a load without any listener yet.
    pub(crate) fn new(target: &Arc<Target>, tags: Arc<[String]>) -> Result<Self> {
        let (poll, tally) = (Poll::new()?, Tally::default());
        let (target, more) = (Arc::clone(target), String::new());
        Ok(Self { target, tags, more, poll, list: Vec::new(), tally, buffer: vec![0; BUFFER] })
    }

    /// Forgets all latencies so far, and ignores the latencies of messages sent before `now`.
    pub(crate) fn measure_from(&mut self, now: u64) {
        self.tally.latencies.0.clear();
        self.tally.since = now;
    }

    /// Returns the number of messages that each listener has received.
    pub(crate) fn messages(&self) -> impl Iterator<Item = u64> {
        self.list
            .iter()
            .map(|listener| listener.as_ref().map_or(0, |(_, listener)| listener.messages))
    }

    /// Adds `count` listeners and spreads them evenly over the tags. At most `at_a_time` of them
    /// connect at the same time.
    ///
    /// # Errors
    /// When a listener cannot join.
    pub(crate) fn open(&mut self, count: usize, at_a_time: usize) -> Result<()> {
        self.join(count, at_a_time, None)
    }

    /// Connects `count` listeners at once, after [`Listeners::disconnect`]. One that fails tries
    /// again until all have joined. Returns how many attempts failed.
    ///
    /// # Errors
    /// When no listener makes progress for too long.
    pub(crate) fn reconnect(&mut self, count: usize, more: String) -> Result<usize> {
        let mut retries = Retries::default();
        self.more = more;
        self.join(count, count, Some(&mut retries))?;
        Ok(retries.count)
    }

    /// Connects the listeners. Without `retries`, the first failure is an error.
    fn join(
        &mut self,
        count: usize,
        at_a_time: usize,
        mut retries: Option<&mut Retries>,
    ) -> Result<()> {
        let wanted = self.list.len() + count;
        let (mut joined, mut progress) = (self.tally.joined, Instant::now());
        while self.tally.joined < wanted {
            while let Some(number) = retries.as_mut().and_then(|retries| retries.next_due()) {
                self.list[number] = Some(self.connect(number)?);
            }
            let due = wanted.min(self.tally.joined + at_a_time);
            let next = self.list.len();
            for number in next..due.min(next + BATCH) {
                let listener = self.connect(number)?;
                self.list.push(Some(listener));
            }
            let wait = if self.list.len() < due { Duration::ZERO } else { BETWEEN };
            self.poll_once(wait, retries.as_deref_mut())?;
            if self.tally.joined != joined {
                (joined, progress) = (self.tally.joined, Instant::now());
            }
            ensure!(progress.elapsed() <= STUCK, "only {joined} of {wanted} listeners registered");
        }
        Ok(())
    }

    fn connect(&self, number: usize) -> Result<(Connection, Listener)> {
        let tag = &self.tags[number % self.tags.len()];
        let connection = self.target.connect(&self.poll, number, Some(self.target.upgrade(tag)))?;
        let (join, is_sampled) =
            (self.target.join(tag, &self.more), number.is_multiple_of(SAMPLED));
        Ok((connection, Listener { join, is_sampled, ..Listener::default() }))
    }

    /// Ends all connections without a close frame, and forgets what the listeners have counted.
    pub(crate) fn disconnect(&mut self) {
        self.list.clear();
        self.tally = Tally::default();
    }

    /// Handles events until `is_enough` returns `true`.
    ///
    /// # Errors
    /// When `is_enough` is still `false` after `limit`, or a connection ends.
    pub(crate) fn listen_until(
        &mut self,
        limit: Duration,
        mut is_enough: impl FnMut(&Tally) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !is_enough(&self.tally) {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no more than {} messages arrive", self.tally.messages);
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
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.poll_once(left, None)?;
        }
        Ok(())
    }

    /// Waits for events, at most `limit`, and handles them. With `retries`, a listener that fails
    /// before it has joined is only noted in `retries`.
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

/// The counts of all listeners together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The number of listeners that have joined.
    pub(crate) joined: usize,
    /// The number of `live` events. With this event the server says that a listener has all
    /// messages so far.
    pub(crate) live: usize,
    /// The number of messages that arrived.
    pub(crate) messages: u64,
    /// Nanoseconds from sending to arrival at the sampled listeners.
    pub(crate) latencies: Latencies,
    /// The time from which on sent messages count in `latencies`, in nanoseconds.
    pub(crate) since: u64,
    /// The first reply and the first `live` event that any listener received.
    pub(crate) first_reply: Option<String>,
    pub(crate) first_live: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// The frame that registers the listener, which is sent once. It is `None` if the path of the
    /// request registers the listener.
    pub(crate) join: Option<Vec<u8>>,
    pub(crate) is_joined: bool,
    /// Whether the listener records the latency of its messages.
    pub(crate) is_sampled: bool,
    pub(crate) messages: u64,
}

impl Listener {
    /// Handles what has arrived, and appends what is to be sent. Returns how many bytes it has
    /// consumed.
    ///
    /// # Errors
    /// When the server refuses the listener, or closes the connection.
    fn handle(&mut self, out: &mut Vec<u8>, input: &[u8], tally: &mut Tally) -> Result<usize> {
        out.extend(self.join.take().into_iter().flatten());
        let now = if self.is_sampled { now() } else { 0 };
        scan(input, |frame| {
            match frame {
                Frame { opcode: TEXT, payload } => self.text(payload, now, tally)?,
                Frame { opcode: PING, payload } => out.extend(client_frame(PONG, payload)),
                Frame { opcode: PONG, .. } => {}
                Frame { opcode: CLOSE, payload } => bail!("the server closed: {}", closed(payload)),
                Frame { opcode, .. } => bail!("the server sent a frame of kind {opcode}"),
            }
            Ok(())
        })
    }

    fn text(&mut self, payload: &[u8], now: u64, tally: &mut Tally) -> Result<()> {
        match Incoming::of(payload) {
            Incoming::Message => {
                self.messages += 1;
                tally.messages += 1;
                if self.is_sampled
                    && let Some(sent_at) = sent(payload)
                    && sent_at >= tally.since
                {
                    tally.latencies.record(sent_at, now);
                }
            }
            Incoming::Reply => {
                tally.first_reply.get_or_insert_with(|| text(payload));
                if !self.is_joined {
                    self.is_joined = true;
                    tally.joined += 1;
                }
            }
            Incoming::Live => {
                tally.first_live.get_or_insert_with(|| text(payload));
                tally.live += 1;
            }
            Incoming::Other => bail!("the server said: {}", text(payload)),
        }
        Ok(())
    }
}

/// The kind of a frame that the server has sent. Only the first bytes decide it, because parsing
/// the whole frame would cost more CPU than the measured server uses.
enum Incoming {
    Message,
    Reply,
    Live,
    Other,
}

impl Incoming {
    fn of(payload: &[u8]) -> Self {
        match payload {
            // A message begins with the field `t`, or with the field `tag` that some servers put in
            // front.
            [b'{', b'"', b't', ..] => Self::Message,
            [b'{', b'"', b'o', b'k', ..] => Self::Reply,
            _ if payload.starts_with(b"{\"event\":\"live\"") => Self::Live,
            _ => Self::Other,
        }
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

fn closed(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(reason))
        }
        _ => "without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        let is_message = |text: &str| matches!(Incoming::of(text.as_bytes()), Incoming::Message);
        assert!(is_message("{\"t\":1}") && is_message("{\"tag\":\"a\",\"seq\":1}"));
        assert!(matches!(Incoming::of(b"{\"ok\":\"set\"}"), Incoming::Reply));
        assert!(matches!(Incoming::of(b"{\"event\":\"live\",\"tag\":\"a\"}"), Incoming::Live));
        assert!(matches!(Incoming::of(b"{\"error\":\"denied\"}"), Incoming::Other));
    }

    #[test]
    fn a_close_is_told_with_its_reason() {
        assert_eq!(closed(&[0x0f, 0xa0, b's', b'l', b'o', b'w']), "4000 slow");
        assert_eq!(closed(&[]), "without a reason");
    }
}
