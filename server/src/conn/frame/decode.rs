//! From bytes to messages.

use std::io::Cursor;
use std::ops::ControlFlow;

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::fragments::{Fragments, message, text};
use crate::limits;

/// Control frames carry at most this many bytes (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: u64 = 125;

/// What is taken of that which RFC 6455 allows.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether binary messages are taken.
    pub binary: bool,
    /// The largest frame, and the largest message assembled of fragments, in bytes of payload.
    pub largest: usize,
}

impl Rules {
    /// The server's own.
    pub const SERVER: Self = Self { binary: false, largest: limits::FRAME };
}

/// A whole message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message, assembled of its fragments.
    Text(&'a str),
    /// A binary message, likewise; only where [`Rules::binary`] is set.
    Binary(&'a [u8]),
    /// A ping with its payload, to be sent back.
    Ping(&'a [u8]),
    /// A pong: the peer lives.
    Pong,
    /// The peer closes, with this code if it gave one.
    Close(Option<u16>),
}

/// The peer broke the protocol; the connection is to be closed with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 does not allow it.
    #[error("{0}")]
    Protocol(&'static str),
    /// Only text is taken.
    #[error("binary frames are not taken")]
    Binary,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A frame, or the message assembled of fragments, is larger than this ([`Rules::largest`]).
    #[error("a frame or message larger than {0} bytes")]
    TooLarge(usize),
}

impl Violation {
    /// The close code of RFC 6455 section 7.4.1.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLarge(_) => 1009,
        }
    }
}

/// Turns bytes, cut anywhere, into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes not yet decoded: part of a frame, or frames after the one that stopped `decode`.
    rest: Vec<u8>,
    /// What came of an unfinished message; `None` between messages. Behind a pointer, because
    /// hardly any connection ever needs it.
    fragments: Option<Box<Fragments>>,
}

impl Decoder {
    /// Decodes `input`, after what an earlier call left, and hands each event to `sink` until
    /// that breaks. What is left over is kept for the next call, whose input may be empty.
    ///
    /// `input` is unmasked in place.
    ///
    /// # Errors
    /// [`Violation`]; events before it have been handed over, and nothing may be decoded after.
    pub fn decode(
        &mut self,
        rules: Rules,
        input: &mut [u8],
        mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        if self.rest.is_empty() {
            let used = decode_frames(rules, &mut self.fragments, input, &mut sink)?;
            self.rest.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(input);
        let used = decode_frames(rules, &mut self.fragments, &mut rest, &mut sink)?;
        self.rest = match used {
            0 => rest,
            // A copy: the few bytes after a large frame must not keep its room.
            _ => rest[used..].to_vec(),
        };
        Ok(())
    }

    /// Whether bytes are left that another call, even with empty input, might decode.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether the peer has begun something that it has not finished, or that was not looked at yet.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        self.has_rest() || self.fragments.is_some()
    }

    /// The memory that it holds for what is incomplete, in bytes.
    ///
    /// For part of a frame at most twice the largest frame and one read, for fragments twice
    /// [`Rules::largest`], because vectors grow by doubling; provided that everything left over is
    /// decoded before more is read.
    #[must_use]
    pub fn held(&self) -> usize {
        let fragments = self.fragments.as_ref().map_or(0, |fragments| fragments.payload.capacity());
        self.rest.capacity() + fragments
    }
}

/// Decodes whole frames and returns how many bytes they took.
fn decode_frames(
    rules: Rules,
    fragments: &mut Option<Box<Fragments>>,
    input: &mut [u8],
    sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<usize, Violation> {
    let mut used = 0;
    while let Some((header, start, end)) = next_frame(rules, &input[used..])? {
        check_header(rules, &header, end - start, fragments.as_deref())?;
        if input.len() - used < end {
            break;
        }
        let payload = &mut input[used + start..used + end];
        unmask(payload, header.mask.unwrap_or_default());
        used += end;
        if handle(fragments, &header, payload, sink)?.is_break() {
            break;
        }
    }
    Ok(used)
}

/// The next frame's header and where its payload starts and ends; `None` if the header is not
/// complete yet.
fn next_frame(
    rules: Rules,
    input: &[u8],
) -> Result<Option<(FrameHeader, usize, usize)>, Violation> {
    let mut cursor = Cursor::new(input);
    match FrameHeader::parse(&mut cursor) {
        Ok(None) => Ok(None),
        Ok(Some((header, length))) => {
            let too_large = Violation::TooLarge(rules.largest);
            let start = usize::try_from(cursor.position()).map_err(|_| too_large)?;
            let length = usize::try_from(length).map_err(|_| too_large)?;
            let end = start.checked_add(length).ok_or(too_large)?;
            Ok(Some((header, start, end)))
        }
        Err(Error::Protocol(ProtocolError::InvalidOpcode(_))) => {
            Err(Violation::Protocol("a frame with a reserved opcode"))
        }
        Err(_) => Err(Violation::Protocol("a malformed frame header")),
    }
}

/// What can be refused before the payload has come.
fn check_header(
    rules: Rules,
    header: &FrameHeader,
    length: usize,
    fragments: Option<&Fragments>,
) -> Result<(), Violation> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Protocol("a reserved bit is set, but no extension was agreed on"));
    }
    if header.mask.is_none() {
        return Err(Violation::Protocol("a client's frames must be masked"));
    }
    match (header.opcode, fragments) {
        (OpCode::Control(_), _) if !header.is_final => {
            Err(Violation::Protocol("a fragmented control frame"))
        }
        (OpCode::Control(_), _) if length as u64 > CONTROL_PAYLOAD => {
            Err(Violation::Protocol("a control frame of more than 125 bytes"))
        }
        (OpCode::Control(_), _) => Ok(()),
        (OpCode::Data(Data::Continue), None) => {
            Err(Violation::Protocol("a continuation of nothing"))
        }
        (OpCode::Data(Data::Text | Data::Binary), Some(_)) => {
            Err(Violation::Protocol("a new message before the end of the last one"))
        }
        (OpCode::Data(Data::Binary), None) if !rules.binary => Err(Violation::Binary),
        (OpCode::Data(_), _) => {
            let assembled = fragments.map_or(0, |fragments| fragments.payload.len());
            match length > rules.largest.saturating_sub(assembled) {
                true => Err(Violation::TooLarge(rules.largest)),
                false => Ok(()),
            }
        }
    }
}

fn handle(
    fragments: &mut Option<Box<Fragments>>,
    header: &FrameHeader,
    payload: &[u8],
    sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    let is_binary = match header.opcode {
        OpCode::Control(Control::Ping) => return Ok(sink(Event::Ping(payload))),
        OpCode::Control(Control::Pong) => return Ok(sink(Event::Pong)),
        OpCode::Control(_) => return Ok(sink(Event::Close(close_code(payload)?))),
        OpCode::Data(data) => matches!(data, Data::Binary),
    };
    // Without a copy, as most messages come.
    if fragments.is_none() && header.is_final {
        return Ok(sink(message(is_binary, payload)?));
    }
    let begun = fragments.get_or_insert_with(|| Fragments::new(is_binary).into());
    begun.append(payload)?;
    if !header.is_final {
        return Ok(ControlFlow::Continue(()));
    }
    match fragments.take() {
        Some(whole) => Ok(sink(message(whole.is_binary, &whole.payload)?)),
        None => Ok(ControlFlow::Continue(())),
    }
}

/// The code of a close frame, checked as RFC 6455 sections 5.5.1 and 7.4 demand.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Violation::Protocol("a close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    text(reason)?;
    match CloseCode::from(code).is_allowed() {
        true => Ok(Some(code)),
        false => Err(Violation::Protocol("a close code that may not be sent")),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time; the mask repeats every four.
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
