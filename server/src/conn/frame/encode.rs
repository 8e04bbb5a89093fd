//! Encodes frames. Also finds the text in an encoded frame, and where a frame ends in a buffer.

use std::io::Cursor;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Encodes a text frame. The frames of a server are not masked, so all connections get the same
/// bytes.
pub(crate) fn text_frame(text: &str) -> Bytes {
    encode(OpCode::Data(Data::Text), true, text.as_bytes())
}

/// Encodes a data frame. The first frame of a message has its type, the others have
/// [`Data::Continue`].
pub fn data_frame(data: Data, is_final: bool, payload: &[u8]) -> Bytes {
    encode(OpCode::Data(data), is_final, payload)
}

/// The text of an encoded text frame.
pub(crate) fn text_of(frame: &[u8]) -> &str {
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

/// Adds `"seen":true` to an encoded delivery, for a client that has seen the message before.
pub(crate) fn as_seen(frame: &[u8]) -> Bytes {
    let text = text_of(frame);
    text_frame(&format!("{},\"seen\":true}}", text.strip_suffix('}').unwrap_or(text)))
}

pub(crate) const PING: Bytes = Bytes::from_static(&[0x89, 0]);

pub(crate) fn pong_frame(payload: &[u8]) -> Bytes {
    encode(OpCode::Control(Control::Pong), true, payload)
}

/// Encodes a close frame. The reason is cut to 123 bytes: a control frame holds 125 (RFC 6455
/// section 5.5), and the code takes two.
pub(crate) fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut cut = reason.len().min(123);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let payload = [&code.to_be_bytes()[..], &reason.as_bytes()[..cut]].concat();
    encode(OpCode::Control(Control::Close), true, &payload)
}

/// Encodes a close frame without a code, which answers a close frame without a code.
pub(crate) fn empty_close_frame() -> Bytes {
    encode(OpCode::Control(Control::Close), true, &[])
}

fn encode(opcode: OpCode, is_final: bool, payload: &[u8]) -> Bytes {
    let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
    let length = payload.len() as u64;
    let mut frame = Vec::with_capacity(header.len(length) + payload.len());
    // Writing into a `Vec` cannot fail.
    let _ = header.format(length, &mut frame);
    frame.extend_from_slice(payload);
    frame.into()
}

/// The first end of a frame at or after `offset`, in a buffer of whole server frames.
pub(crate) fn end_of_frame_at(frames: &[u8], offset: usize) -> usize {
    let mut end = 0;
    while end < offset {
        let mut cursor = Cursor::new(&frames[end..]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                end += header.len(length) + usize::try_from(length).unwrap_or(usize::MAX);
            }
            // The buffer does not consist of whole frames. Nothing is cut off, because that might
            // cut a frame.
            _ => return frames.len(),
        }
    }
    end.min(frames.len())
}
