//! One listener: joining, counting.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::frame::{CLOSE, Frame, PING, PONG, TEXT, client_frame, scan};
use super::link::{Link, News};
use super::message::{self, Clock};
use super::wire::Wire;

/// The longest latency that is told from a longer one, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// What all listeners of a crowd count together.
#[derive(Debug)]
pub(crate) struct Tally {
    clock: Clock,
    /// Listeners that are registered.
    pub(crate) joined: usize,
    /// Times that a listener was told that it knows everything up to now.
    pub(crate) live: usize,
    /// Messages that arrived.
    pub(crate) messages: u64,
    /// Nanoseconds from sending to arrival, of sampled listeners.
    pub(crate) latencies: Histogram<u64>,
    /// Messages sent before this are not in `latencies`.
    pub(crate) since: u64,
    /// What the first listener was answered, and what it was told when it was up to date.
    pub(crate) first_reply: Option<String>,
    pub(crate) first_live: Option<String>,
}

impl Tally {
    pub(crate) fn new(clock: Clock) -> anyhow::Result<Self> {
        Ok(Self {
            clock,
            joined: 0,
            live: 0,
            messages: 0,
            latencies: histogram()?,
            since: 0,
            first_reply: None,
            first_live: None,
        })
    }
}

/// For latencies in nanoseconds.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LONGEST, 3)?)
}

#[derive(Debug)]
pub(crate) struct Member {
    link: Link,
    state: State,
}

#[derive(Debug)]
struct State {
    /// What registers, unless the path did.
    join: Option<Vec<u8>>,
    joined: bool,
    /// Whether its messages' times are looked at.
    sampled: bool,
    messages: u64,
}

impl Member {
    pub(crate) fn new(link: Link, join: Option<Vec<u8>>, sampled: bool) -> Self {
        Self { link, state: State { join, joined: false, sampled, messages: 0 } }
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.state.joined
    }

    pub(crate) fn messages(&self) -> u64 {
        self.state.messages
    }

    /// Goes on after something has changed with its socket. `buffer` is anyone's.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(crate) fn go_on(&mut self, buffer: &mut [u8], tally: &mut Tally) -> anyhow::Result<()> {
        let Self { link, state } = self;
        link.go_on(buffer, |wire, news| state.take(wire, news, tally))
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl State {
    fn take(
        &mut self,
        wire: &mut Wire,
        news: News<'_>,
        tally: &mut Tally,
    ) -> anyhow::Result<usize> {
        let input = match news {
            News::Open => {
                if let Some(join) = self.join.take() {
                    wire.write(&join).context("registering")?;
                }
                return Ok(0);
            }
            News::Bytes(input) => input,
        };
        let now = if self.sampled { tally.clock.now() } else { 0 };
        scan(input, |frame| match frame {
            Frame { opcode: TEXT, payload } => self.text(payload, now, tally),
            Frame { opcode: PING, payload } => {
                wire.write(&client_frame(PONG, payload)).context("answering a ping")
            }
            Frame { opcode: PONG, .. } => Ok(()),
            Frame { opcode: CLOSE, payload } => bail!("the server closed: {}", closed(payload)),
            Frame { opcode, .. } => bail!("the server sent a frame of kind {opcode}"),
        })
    }

    fn text(&mut self, payload: &[u8], now: u64, tally: &mut Tally) -> anyhow::Result<()> {
        match Kind::of(payload) {
            Kind::Message => {
                self.messages += 1;
                tally.messages += 1;
                if self.sampled
                    && let Some(sent) = message::sent(payload)
                    && sent >= tally.since
                {
                    tally.latencies.saturating_record(now.saturating_sub(sent));
                }
            }
            Kind::Reply => {
                tally.first_reply.get_or_insert_with(|| text(payload));
                if !self.joined {
                    self.joined = true;
                    tally.joined += 1;
                }
            }
            Kind::Live => {
                tally.first_live.get_or_insert_with(|| text(payload));
                tally.live += 1;
            }
            Kind::Other => bail!("the server said: {}", text(payload)),
        }
        Ok(())
    }
}

/// What a server says, told by its first bytes: parsing it would be what is measured.
enum Kind {
    Message,
    Reply,
    Live,
    Other,
}

impl Kind {
    fn of(payload: &[u8]) -> Self {
        match payload {
            // A message as it was sent, or with its tag in front.
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
        let is_message = |text: &str| matches!(Kind::of(text.as_bytes()), Kind::Message);
        assert!(is_message("{\"t\":1}") && is_message("{\"tag\":\"a\",\"seq\":1}"));
        assert!(matches!(Kind::of(b"{\"ok\":\"set\"}"), Kind::Reply));
        assert!(matches!(Kind::of(b"{\"event\":\"live\",\"tag\":\"a\"}"), Kind::Live));
        assert!(matches!(Kind::of(b"{\"error\":\"denied\"}"), Kind::Other));
    }

    #[test]
    fn a_close_is_told_with_its_reason() {
        assert_eq!(closed(&[0x0f, 0xa0, b's', b'l', b'o', b'w']), "4000 slow");
        assert_eq!(closed(&[]), "without a reason");
    }
}
