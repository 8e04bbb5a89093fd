//! One listener: connecting, upgrading, joining, counting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::frame::{CLOSE, Frame, PING, PONG, TEXT, client_frame, scan};
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
    /// Listeners that have been told that they know everything up to now.
    pub(crate) live: usize,
    /// Messages that arrived.
    pub(crate) messages: u64,
    /// Nanoseconds from sending to arrival, of sampled listeners.
    pub(crate) latencies: Histogram<u64>,
    /// Messages sent before this are not in `latencies`.
    pub(crate) since: u64,
}

impl Tally {
    pub(crate) fn new(clock: Clock) -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_max(LONGEST, 3)?;
        Ok(Self { clock, joined: 0, live: 0, messages: 0, latencies, since: 0 })
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    wire: Wire,
    stage: Stage,
    /// Requests for the next stages.
    upgrade: Vec<u8>,
    join: Option<Vec<u8>>,
    /// The beginning of what has not come completely.
    rest: Vec<u8>,
    /// Whether its messages' times are looked at.
    sampled: bool,
    messages: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Joining,
    Joined,
}

impl Member {
    /// `join` follows the upgrade, unless that is all that it takes.
    pub(crate) fn new(wire: Wire, upgrade: Vec<u8>, join: Option<Vec<u8>>, sampled: bool) -> Self {
        Self {
            wire,
            stage: Stage::Connecting,
            upgrade,
            join,
            rest: Vec::new(),
            sampled,
            messages: 0,
        }
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Goes on after something has changed with its socket. `buffer` is anyone's.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(crate) fn go_on(&mut self, buffer: &mut [u8], tally: &mut Tally) -> anyhow::Result<()> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.wire.stream().take_error()? {
                return Err(error).context("connecting");
            }
            let upgrade = std::mem::take(&mut self.upgrade);
            self.stage = Stage::Upgrading;
            match self.wire.write(&upgrade) {
                // Told of something before the connection was there.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.upgrade = upgrade;
                    self.stage = Stage::Connecting;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.upgrade = upgrade;
                    self.stage = Stage::Connecting;
                    return Ok(());
                }
                outcome => outcome.context("sending the request")?,
            }
        }
        loop {
            let before = self.rest.len();
            ensure!(before < buffer.len(), "a message is too long");
            buffer[..before].copy_from_slice(&self.rest);
            let count = match self.wire.read(&mut buffer[before..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading"),
            };
            let there = before + count;
            let used = self.take(&buffer[..there], tally)?;
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..there]);
            if there < buffer.len() && !self.wire.is_secret() {
                // A socket that gives less than it is asked for is empty, and tells when it is
                // not any more.
                return Ok(());
            }
        }
    }

    /// Answers how much of `input` is done with.
    fn take(&mut self, input: &[u8], tally: &mut Tally) -> anyhow::Result<usize> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head) = head(input)? else { return Ok(0) };
            used = head;
            self.stage = Stage::Joining;
            if let Some(join) = self.join.take() {
                self.wire.write(&join).context("registering")?;
            }
        }
        let now = if self.sampled { tally.clock.now() } else { 0 };
        let Self { wire, stage, sampled, messages, .. } = self;
        used += scan(&input[used..], |frame| match frame {
            Frame { opcode: TEXT, payload } => match Kind::of(payload) {
                Kind::Message => {
                    *messages += 1;
                    tally.messages += 1;
                    if *sampled
                        && let Some(sent) = message::sent(payload)
                        && sent >= tally.since
                    {
                        tally.latencies.saturating_record(now.saturating_sub(sent));
                    }
                    Ok(())
                }
                Kind::Reply => {
                    if *stage == Stage::Joining {
                        *stage = Stage::Joined;
                        tally.joined += 1;
                    }
                    Ok(())
                }
                Kind::Live => {
                    tally.live += 1;
                    Ok(())
                }
                Kind::Other => bail!("the server said: {}", String::from_utf8_lossy(payload)),
            },
            Frame { opcode: PING, payload } => {
                wire.write(&client_frame(PONG, payload)).context("answering a ping")
            }
            Frame { opcode: PONG, .. } => Ok(()),
            Frame { opcode: CLOSE, payload } => bail!("the server closed: {}", closed(payload)),
            Frame { opcode, .. } => bail!("the server sent a frame of kind {opcode}"),
        })?;
        Ok(used)
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
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

/// The length of the answer to the upgrade, once it is whole.
fn head(input: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    if !input.starts_with(b"HTTP/1.1 101 ") {
        let line = input.split(|byte| *byte == b'\r').next().unwrap_or_default();
        bail!("the server answered {}", String::from_utf8_lossy(line));
    }
    Ok(Some(end + 4))
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
    fn an_upgrade_ends_with_an_empty_line() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(head(answer).unwrap(), Some(answer.len()));
        assert_eq!(head(&answer[..answer.len() - 1]).unwrap(), None);
        let refused = head(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the server answered HTTP/1.1 403 Forbidden");
    }

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        let is_message = |text: &str| matches!(Kind::of(text.as_bytes()), Kind::Message);
        assert!(is_message("{\"t\":1}") && is_message("{\"tag\":\"a\",\"seq\":1}"));
        assert!(matches!(Kind::of(b"{\"ok\":\"set\"}"), Kind::Reply));
        assert!(matches!(Kind::of(b"{\"event\":\"live\",\"tag\":\"a\"}"), Kind::Live));
        assert!(matches!(Kind::of(b"{\"error\":\"denied\"}"), Kind::Other));
    }
}
