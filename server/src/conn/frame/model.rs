//! Decodes bytes with our decoder and with tungstenite's socket, and compares the results.
//! `fuzz/fuzz_targets/frames.rs` uses this file too.

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

use super::{Decoder, Event, Rules};

/// The longest frame header in bytes (RFC 6455 section 5.2).
const HEAD: usize = 14;

/// The result of decoding some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Messages, pings and pongs.
    pub(crate) messages: Vec<Message>,
    /// The close code with which decoding ended, if it ended early. 1005, which is never sent,
    /// stands for a close frame without a code.
    pub(crate) end: Option<u16>,
}

/// Decodes `pieces` with our decoder, and asserts that its memory is bounded.
pub(crate) fn decode<'a>(rules: Rules, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::default();
    let (mut messages, mut end) = (Vec::new(), None);
    for piece in pieces {
        let result = decoder.decode(rules, &mut piece.to_vec(), |event| {
            match event {
                Event::Text(text) => messages.push(Message::text(text)),
                Event::Binary(bytes) => messages.push(Message::binary(bytes.to_vec())),
                Event::Ping(payload) => messages.push(Message::Ping(payload.to_vec().into())),
                Event::Pong => messages.push(Message::Pong(Vec::new().into())),
                Event::Close(code) => end = Some(code.unwrap_or(1005)),
            }
            match end {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        });
        // Vectors grow by doubling, so the capacity may be twice what was needed.
        let (frame, fragments) = (rules.largest + HEAD + piece.len(), rules.largest);
        assert!(decoder.held() <= 2 * (frame + fragments), "{} bytes", decoder.held());
        end = end.or(result.err().map(|violation| violation.code()));
        if end.is_some() {
            break;
        }
    }
    Outcome { messages, end }
}

/// Decodes `bytes` with tungstenite.
pub(crate) fn model(largest: usize, bytes: &[u8]) -> Outcome {
    let config =
        WebSocketConfig::default().max_frame_size(Some(largest)).max_message_size(Some(largest));
    let mut socket = WebSocket::from_raw_socket(
        BytesPeer(Cursor::new(bytes.to_vec())),
        Role::Server,
        Some(config),
    );
    let mut messages = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(Message::Close(frame)) => break Some(frame.map_or(1005, |frame| frame.code.into())),
            Ok(Message::Pong(_)) => messages.push(Message::Pong(Vec::new().into())),
            Ok(message) => messages.push(message),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break None,
            Err(Error::Protocol(_)) => break Some(1002),
            Err(Error::Utf8(_)) => break Some(1007),
            Err(Error::Capacity(_)) => break Some(1009),
            Err(other) => panic!("{other}"),
        }
    };
    Outcome { messages, end }
}

/// Whether both results agree. Our decoder may refuse a frame by its header where tungstenite waits
/// for the payload. Of several faults the two may report different ones.
pub(crate) fn agree(decoded: &Outcome, model: &Outcome) -> bool {
    decoded.messages == model.messages
        && match (decoded.end, model.end) {
            (Some(1002 | 1009), None) | (Some(1002), Some(1009)) => true,
            (decoded, model) => decoded == model,
        }
}

/// A peer that sends these bytes and ignores what it receives.
struct BytesPeer(Cursor<Vec<u8>>);

impl Read for BytesPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for BytesPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
