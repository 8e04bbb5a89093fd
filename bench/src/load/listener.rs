//! One listener: it joins a tag and counts its messages.

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use super::frame::{CLOSE, Frame, PING, PONG, TEXT, client_frame, scan};
use super::message::{self, Clock};

/// What all listeners count together.
#[derive(Debug)]
pub(crate) struct Tally {
    clock: Clock,
    /// Listeners that are registered.
    pub(crate) joined: usize,
    /// Events `live`, by which the server says that a listener has all messages so far.
    pub(crate) live: usize,
    /// Messages that arrived.
    pub(crate) messages: u64,
    /// Nanoseconds from sending to arrival at the sampled listeners.
    pub(crate) latencies: Histogram<u64>,
    /// Messages sent before this are not in `latencies`.
    pub(crate) since: u64,
    /// The first reply and the first event `live` of any listener.
    pub(crate) first_reply: Option<String>,
    pub(crate) first_live: Option<String>,
}

impl Tally {
    pub(crate) fn new(clock: Clock) -> Result<Self> {
        Ok(Self {
            clock,
            joined: 0,
            live: 0,
            messages: 0,
            latencies: message::latencies()?,
            since: 0,
            first_reply: None,
            first_live: None,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// The frame that registers the listener, unless the path of the request did. It is sent once.
    pub(crate) join: Option<Vec<u8>>,
    pub(crate) is_joined: bool,
    /// Whether it records the latency of its messages.
    pub(crate) is_sampled: bool,
    pub(crate) messages: u64,
}

impl Listener {
    /// Handles what has arrived, and appends what is to be sent. Answers how many bytes it has
    /// consumed.
    ///
    /// # Errors
    /// When the server refuses it, or closes the connection.
    pub(crate) fn handle(
        &mut self,
        out: &mut Vec<u8>,
        input: &[u8],
        tally: &mut Tally,
    ) -> Result<usize> {
        out.extend(self.join.take().into_iter().flatten());
        let now = if self.is_sampled { tally.clock.now() } else { 0 };
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
                    && let Some(sent) = message::sent(payload)
                    && sent >= tally.since
                {
                    tally.latencies.saturating_record(now.saturating_sub(sent));
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

/// What a server has sent. The first bytes decide: parsing all of it would cost more than the server
/// that is measured.
enum Incoming {
    Message,
    Reply,
    Live,
    Other,
}

impl Incoming {
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
