//! The formats on a connection: WebSocket frames (RFC 6455 section 5) and HTTP responses, as far as
//! the load needs them, the messages, and the answers to them.

use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use tokio_tungstenite::tungstenite::handshake::client;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishMethod {
    /// A WebSocket that stays open
    #[value(name = "ws")]
    WebSocket,
    /// `POST /messages` over connections that stay open
    Post,
}

/// What the complete answers at the beginning of the received bytes contain.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The number of messages that the server has accepted.
    pub(crate) accepted: usize,
    /// The length of the complete answers in bytes.
    pub(crate) used: usize,
    /// Pong frames that have to be sent to the server.
    pub(crate) pongs: Vec<u8>,
}

/// Reads the complete answers at the beginning of `input`.
///
/// # Errors
/// When a message was not accepted.
pub(crate) fn answers(method: PublishMethod, input: &[u8]) -> Result<Answers> {
    match method {
        PublishMethod::WebSocket => replies(input),
        PublishMethod::Post => responses(input),
    }
}

fn replies(input: &[u8]) -> Result<Answers> {
    let mut answers = Answers::default();
    answers.used = scan(input, |frame| match frame {
        Frame { opcode: TEXT, payload } if payload.starts_with(b"{\"ok\":") => {
            answers.accepted += 1;
            Ok(())
        }
        Frame { opcode: PING, payload } => {
            answers.pongs.extend(client_frame(PONG, payload));
            Ok(())
        }
        Frame { opcode: TEXT | CLOSE, payload } => {
            bail!("the server said: {}", String::from_utf8_lossy(payload))
        }
        _ => Ok(()),
    })?;
    Ok(answers)
}

fn responses(input: &[u8]) -> Result<Answers> {
    let mut answers = Answers::default();
    while let Some(response) = response(&input[answers.used..])? {
        let body = &input[answers.used + response.head..answers.used + response.length];
        let (status, text) = (response.status, String::from_utf8_lossy(body));
        ensure!((200..300).contains(&status), "the server answered {status}: {text}");
        answers.accepted += 1;
        answers.used += response.length;
    }
    Ok(answers)
}

pub(crate) const TEXT: OpCode = OpCode::Data(Data::Text);
pub(crate) const CLOSE: OpCode = OpCode::Control(Control::Close);
pub(crate) const PING: OpCode = OpCode::Control(Control::Ping);
pub(crate) const PONG: OpCode = OpCode::Control(Control::Pong);

/// A complete frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: OpCode,
    pub(crate) payload: &'a [u8],
}

/// Calls `handle` with every whole frame. Returns how many bytes they take; the rest is the beginning
/// of a frame.
///
/// # Errors
/// When a frame is a fragment, masked or part of an extension, which no server under test sends,
/// and when `handle` fails.
pub(crate) fn scan(input: &[u8], mut handle: impl FnMut(Frame<'_>) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((header, length, opcode)) = head(&input[used..])? {
        let Some(payload) = input[used..].get(header..header + length) else { break };
        handle(Frame { opcode: OpCode::from(opcode), payload })?;
        used += header + length;
    }
    Ok(used)
}

/// Returns the lengths of the header and of the payload, and the opcode, if the header is complete.
/// Each listener calls this function for each delivery, so it is written by hand:
/// [`FrameHeader::parse`] takes nine times as long.
fn head(input: &[u8]) -> Result<Option<(usize, usize, u8)>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    let is_plain = first & 0xf0 == 0x80 && second & 0x80 == 0;
    ensure!(is_plain, "the server sent a fragment, a masked frame or an extension's");
    let (header, length) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (10, usize::try_from(length)?)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, usize::from(short)),
    };
    Ok(Some((header, length, first & 0x0f)))
}

/// Returns a frame from a client. The mask is zero, so the payload stays as it is, but a server
/// still has to unmask it.
pub(crate) fn client_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    frame(FrameHeader { opcode, mask: Some([0; 4]), ..FrameHeader::default() }, payload)
}

/// Returns a text frame from a server.
pub(crate) fn server_frame(payload: &[u8]) -> Vec<u8> {
    frame(FrameHeader { opcode: TEXT, ..FrameHeader::default() }, payload)
}

fn frame(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let mut frame = Vec::with_capacity(header.len(length) + payload.len());
    // Writing to a vector cannot fail.
    let _ = header.format(length, &mut frame);
    frame.extend(payload);
    frame
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The length of head and body together in bytes.
    pub(crate) length: usize,
    pub(crate) head: usize,
}

/// Returns the first response in `input`, or `None` until it has arrived completely.
///
/// # Errors
/// When `input` is not a response, or the response is chunked. Servers use chunks for large bodies
/// only.
pub(crate) fn response(input: &[u8]) -> Result<Option<Response>> {
    let parsed = client::Response::try_parse(input).context("an answer that is not HTTP/1.1")?;
    let Some((head, response)) = parsed else { return Ok(None) };
    let headers = response.headers();
    ensure!(!headers.contains_key("transfer-encoding"), "an answer in chunks");
    let body = headers.get("content-length").map_or(Ok("0"), |length| length.to_str())?;
    let length = head + body.parse::<usize>().context("an answer's length")?;
    let status = response.status().as_u16();
    Ok((input.len() >= length).then_some(Response { status, length, head }))
}

/// The length of the shortest message in bytes.
pub(crate) const SHORTEST: usize = BEGINNING.len() + DIGITS + PADDING.len() + END.len();

const BEGINNING: &str = "{\"t\":";
const PADDING: &str = ",\"pad\":\"";
const END: &str = "\"}";

/// Times are counted from this number, so that all of them have the same number of digits.
const ZERO: u64 = 1_000_000_000_000_000_000;
const DIGITS: usize = 19;

/// The time at which the load began.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the nanoseconds since the clock was first read. Only this process can compare these
/// times.
pub(crate) fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The longest latency that is recorded exactly, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(pub(crate) Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("the bounds are valid"))
    }
}

impl Latencies {
    /// Records the time from `sent` to `now`.
    pub(crate) fn record(&mut self, sent: u64, now: u64) {
        self.0.saturating_record(now.saturating_sub(sent));
    }

    /// Returns the median, the 99th percentile and the maximum.
    pub(crate) fn quantiles(&self) -> [u64; 3] {
        [0.5, 0.99, 1.0].map(|quantile| self.0.value_at_quantile(quantile))
    }
}

/// Returns a message of `size` bytes, or the shortest message if that is longer.
pub(crate) fn message(sent: u64, size: usize) -> String {
    let mut message = format!("{BEGINNING}{}{PADDING}", ZERO + sent);
    for _ in SHORTEST..size {
        message.push('a');
    }
    message.push_str(END);
    message
}

/// Returns the time at which a message was sent. The message may begin anywhere in `payload`.
pub(crate) fn sent(payload: &[u8]) -> Option<u64> {
    let start =
        payload.windows(BEGINNING.len()).position(|window| window == BEGINNING.as_bytes())?
            + BEGINNING.len();
    let digits = std::str::from_utf8(payload.get(start..start + DIGITS)?).ok()?;
    digits.parse::<u64>().ok()?.checked_sub(ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_count() {
        let reply = server_frame(br#"{"ok":"broadcast","seq":7}"#);
        let input = [reply.as_slice(), &reply, &reply[..5]].concat();
        let got = answers(PublishMethod::WebSocket, &input).unwrap();
        assert_eq!((got.accepted, got.used), (2, 2 * reply.len()));

        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let input = [response.as_slice(), response, b"HTTP/1.1 2"].concat();
        let got = answers(PublishMethod::Post, &input).unwrap();
        assert_eq!((got.accepted, got.used), (2, 2 * response.len()));
    }

    #[test]
    fn refusals_are_errors() {
        let refused = server_frame(br#"{"error":"denied"}"#);
        let error = answers(PublishMethod::WebSocket, &refused).unwrap_err();
        assert_eq!(error.to_string(), r#"the server said: {"error":"denied"}"#);
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\n";
        let error = answers(PublishMethod::Post, refused).unwrap_err();
        assert_eq!(error.to_string(), "the server answered 403: no!\n");
    }

    fn lengths(input: &[u8]) -> (usize, Vec<usize>) {
        let mut lengths = Vec::new();
        let used = scan(input, |frame| {
            lengths.push(frame.payload.len());
            Ok(())
        });
        (used.unwrap(), lengths)
    }

    #[test]
    fn frames_of_every_length_are_found() {
        let payloads = [0, 1, 125, 126, 65_535, 65_536].map(|length| vec![b'x'; length]);
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| server_frame(payload)).collect();
        assert_eq!(lengths(&stream), (stream.len(), vec![0, 1, 125, 126, 65_535, 65_536]));
    }

    #[test]
    fn the_beginning_of_a_frame_waits_for_its_rest() {
        let frame = server_frame(&[b'x'; 300]);
        for cut in 0..frame.len() {
            assert_eq!(lengths(&frame[..cut]), (0, vec![]));
        }
        let two = [frame.clone(), frame[..9].to_vec()].concat();
        assert_eq!(lengths(&two), (frame.len(), vec![300]));
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        let nothing = |_: Frame<'_>| Ok(());
        assert!(scan(&client_frame(TEXT, b"masked"), nothing).is_err());
        assert!(scan(&[0x01, 0x00], nothing).is_err());
        assert!(scan(&[0xc1, 0x00], nothing).is_err());
    }

    #[test]
    fn answers_end_where_their_length_says() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let two = [one.as_slice(), b"HTTP/1.1 201"].concat();
        assert_eq!(
            response(&two).unwrap(),
            Some(Response { status: 200, length: one.len(), head: one.len() - 5 })
        );
        assert_eq!(response(&one[..one.len() - 1]).unwrap(), None);
        assert_eq!(response(&one[..20]).unwrap(), None);
        assert!(response(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_message_tells_when_it_was_sent() {
        let text = message(42, 125);
        assert_eq!(text.len(), 125);
        let delivery = format!("{{\"tag\":\"bench\",\"seq\":7,\"at\":1,\"message\":{text}}}");
        assert_eq!(sent(delivery.as_bytes()), Some(42));
        assert_eq!(sent(text.as_bytes()), Some(42));
        assert_eq!(message(0, 0).len(), SHORTEST);
        assert_eq!(sent(b"{\"ok\":\"set\"}"), None);
        assert_eq!(sent(b"{\"t\":1000"), None);
    }
}
