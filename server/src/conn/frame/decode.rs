//! Decodes bytes into messages and control frames.

use std::io::Cursor;
use std::ops::ControlFlow;

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::event::{Event, Violation};
use super::fragments::{Fragments, message, text};
use crate::limits;

/// The largest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: u64 = 125;

/// The messages that the decoder accepts. RFC 6455 allows more.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether binary messages are accepted.
    pub binary: bool,
    /// The largest frame, and the largest message assembled of fragments, in bytes of payload.
    pub largest: usize,
}

impl Rules {
    /// The rules of the server.
    pub const SERVER: Self = Self { binary: false, largest: limits::FRAME };
}

/// Decodes bytes, which may arrive in pieces of any size, into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes that are not decoded yet: part of a frame, or the frames after an event at which
    /// `sink` returned `Break`.
    rest: Vec<u8>,
    /// The fragments of an unfinished message. In a box, because few connections need it.
    fragments: Option<Box<Fragments>>,
}

impl Decoder {
    /// Decodes the bytes that an earlier call left, then `input`, and passes each event to `sink`
    /// until `sink` returns `Break`. The bytes after that event are kept for the next call, whose
    /// input may be empty.
    ///
    /// `input` is unmasked in place.
    ///
    /// # Errors
    /// [`Violation`]. The events before it have reached `sink`. The decoder must not be used
    /// afterwards.
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
            // A copy, because these few bytes must not keep the memory of the large frame before
            // them.
            _ => rest[used..].to_vec(),
        };
        Ok(())
    }

    /// Whether undecoded bytes are left, which another call may decode, even with empty input.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether undecoded bytes are left or a message is unfinished.
    pub fn is_amid(&self) -> bool {
        self.has_rest() || self.fragments.is_some()
    }

    /// The memory that incomplete frames and messages take, in bytes.
    ///
    /// At most twice a frame of [`Rules::largest`] bytes, one read and a fragmented message of
    /// [`Rules::largest`] bytes together, because vectors grow by doubling. The caller must decode
    /// all that is left before it reads again.
    pub fn held(&self) -> usize {
        let fragments = self.fragments.as_ref().map_or(0, |fragments| fragments.payload.capacity());
        self.rest.capacity() + fragments
    }
}

/// Decodes whole frames until the sink returns `Break`. Returns how many bytes the frames took.
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

/// Parses the header of the next frame. Returns the header and where the payload starts and ends,
/// or `None` if the header is incomplete.
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

/// Checks the header of a frame before its payload has arrived.
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
            Err(Violation::Protocol("a continuation frame, but no message to continue"))
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
    // Most messages are a single frame, which needs no copy.
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
            _ => Err(Violation::Protocol("a close frame with an incomplete code")),
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
    // Eight bytes are unmasked at a time. The mask repeats after four.
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
