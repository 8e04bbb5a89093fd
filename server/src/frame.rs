//! WebSocket frames (RFC 6455 section 5): a decoder that keeps bytes only of what is incomplete,
//! and the encoding of what the server sends.
//!
//! tungstenite parses the headers. Its own socket type is not used, because it keeps a read and a
//! write buffer for every connection, while here an idle connection holds no buffer at all.

use std::io::Cursor;
use std::ops::ControlFlow;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::limits;

/// Control frames carry at most this many bytes (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: u64 = 125;

/// A whole message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message, assembled of its fragments.
    Text(&'a str),
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
    /// A frame, or the message assembled of fragments, is larger than [`limits::FRAME`].
    #[error("a frame or message larger than {} bytes", limits::FRAME)]
    TooLarge,
}

impl Violation {
    /// The close code of RFC 6455 section 7.4.1.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// Turns bytes, cut anywhere, into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes not yet decoded: part of a frame, or frames after the one that stopped `decode`.
    rest: Vec<u8>,
    /// The fragments so far of an unfinished message; `None` between messages.
    fragments: Option<Vec<u8>>,
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
        input: &mut [u8],
        mut sink: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        if self.rest.is_empty() {
            let used = decode_frames(&mut self.fragments, input, &mut sink)?;
            self.rest.extend_from_slice(&input[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(input);
            let used = decode_frames(&mut self.fragments, &mut rest, &mut sink)?;
            if used < rest.len() {
                rest.drain(..used);
                self.rest = rest;
            }
        }
        Ok(())
    }

    /// Whether bytes are left that another call, even with empty input, might decode.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }
}

/// Decodes whole frames and returns how many bytes they took.
fn decode_frames(
    fragments: &mut Option<Vec<u8>>,
    input: &mut [u8],
    sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<usize, Violation> {
    let mut used = 0;
    while let Some((header, start, end)) = next_frame(&input[used..])? {
        check_header(&header, end - start, fragments.as_ref().map_or(0, Vec::len))?;
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
fn next_frame(input: &[u8]) -> Result<Option<(FrameHeader, usize, usize)>, Violation> {
    let mut cursor = Cursor::new(input);
    match FrameHeader::parse(&mut cursor) {
        Ok(None) => Ok(None),
        Ok(Some((header, length))) => {
            let start = usize::try_from(cursor.position()).map_err(|_| Violation::TooLarge)?;
            let length = usize::try_from(length).map_err(|_| Violation::TooLarge)?;
            let end = start.checked_add(length).ok_or(Violation::TooLarge)?;
            Ok(Some((header, start, end)))
        }
        Err(Error::Protocol(ProtocolError::InvalidOpcode(_))) => {
            Err(Violation::Protocol("a frame with a reserved opcode"))
        }
        Err(_) => Err(Violation::Protocol("a malformed frame header")),
    }
}

/// What can be refused before the payload has come.
fn check_header(header: &FrameHeader, length: usize, assembled: usize) -> Result<(), Violation> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Protocol("a reserved bit is set, but no extension was agreed on"));
    }
    if header.mask.is_none() {
        return Err(Violation::Protocol("a client's frames must be masked"));
    }
    match header.opcode {
        OpCode::Control(_) if !header.is_final => {
            Err(Violation::Protocol("a fragmented control frame"))
        }
        OpCode::Control(_) if length as u64 > CONTROL_PAYLOAD => {
            Err(Violation::Protocol("a control frame of more than 125 bytes"))
        }
        OpCode::Data(Data::Binary) => Err(Violation::Binary),
        OpCode::Data(_) if length > limits::FRAME.saturating_sub(assembled) => {
            Err(Violation::TooLarge)
        }
        _ => Ok(()),
    }
}

fn handle(
    fragments: &mut Option<Vec<u8>>,
    header: &FrameHeader,
    payload: &[u8],
    sink: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    match header.opcode {
        OpCode::Control(Control::Ping) => Ok(sink(Event::Ping(payload))),
        OpCode::Control(Control::Pong) => Ok(sink(Event::Pong)),
        OpCode::Control(_) => Ok(sink(Event::Close(close_code(payload)?))),
        OpCode::Data(Data::Continue) => {
            let Some(message) = fragments else {
                return Err(Violation::Protocol("a continuation of nothing"));
            };
            message.extend_from_slice(payload);
            if !header.is_final {
                return Ok(ControlFlow::Continue(()));
            }
            let message = fragments.take().unwrap_or_default();
            text(&message).map(|text| sink(Event::Text(text)))
        }
        OpCode::Data(_) if fragments.is_some() => {
            Err(Violation::Protocol("a new message before the end of the last one"))
        }
        OpCode::Data(_) if header.is_final => text(payload).map(|text| sink(Event::Text(text))),
        OpCode::Data(_) => {
            *fragments = Some(payload.to_vec());
            Ok(ControlFlow::Continue(()))
        }
    }
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)
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

/// A text frame. A server's frames are not masked, so one encoding serves every connection.
#[must_use]
pub fn text_frame(text: &str) -> Bytes {
    encode(OpCode::Data(Data::Text), text.as_bytes())
}

/// The text of an encoded text frame.
#[must_use]
pub fn text_of(frame: &[u8]) -> &str {
    let mut cursor = Cursor::new(frame);
    let header = FrameHeader::parse(&mut cursor);
    let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
    match header {
        Ok(Some(_)) => {
            std::str::from_utf8(frame.get(start..).unwrap_or_default()).unwrap_or_default()
        }
        _ => "",
    }
}

/// An encoded delivery for a client that has seen it before.
#[must_use]
pub fn as_seen(frame: &[u8]) -> Bytes {
    let text = text_of(frame);
    text_frame(&format!("{},\"seen\":true}}", text.strip_suffix('}').unwrap_or(text)))
}

/// An empty ping.
pub const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// The answer to a ping.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    encode(OpCode::Control(Control::Pong), payload)
}

/// A close frame with a code and a reason of at most 123 bytes; longer ones are cut.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut cut = reason.len().min(123);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let payload = [&code.to_be_bytes()[..], &reason.as_bytes()[..cut]].concat();
    encode(OpCode::Control(Control::Close), &payload)
}

/// An empty close frame, the echo of an empty one.
#[must_use]
pub fn empty_close_frame() -> Bytes {
    encode(OpCode::Control(Control::Close), &[])
}

fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let length = payload.len() as u64;
    let mut frame = Vec::with_capacity(header.len(length) + payload.len());
    // Writing into a Vec cannot fail.
    let _ = header.format(length, &mut frame);
    frame.extend_from_slice(payload);
    frame.into()
}

/// Where the frame that contains byte `offset` ends, in a buffer of whole server frames that
/// starts with one. An offset between two frames belongs to neither: the answer is `offset`.
#[must_use]
pub fn end_of_frame_at(frames: &[u8], offset: usize) -> usize {
    let mut end = 0;
    while end < offset {
        let mut cursor = Cursor::new(&frames[end..]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                end += header.len(length) + usize::try_from(length).unwrap_or(usize::MAX);
            }
            // Not whole frames: keep everything rather than cut inside one.
            _ => return frames.len(),
        }
    }
    end.min(frames.len())
}

#[cfg(test)]
mod tests;
