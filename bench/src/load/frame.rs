//! WebSocket frames (RFC 6455 section 5), as far as the load needs them.

use anyhow::{Result, ensure};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub(crate) const TEXT: OpCode = OpCode::Data(Data::Text);
pub(crate) const CLOSE: OpCode = OpCode::Control(Control::Close);
pub(crate) const PING: OpCode = OpCode::Control(Control::Ping);
pub(crate) const PONG: OpCode = OpCode::Control(Control::Pong);

/// A whole frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: OpCode,
    pub(crate) payload: &'a [u8],
}

/// Calls `handle` with every whole frame. Answers how many bytes they take; the rest is the beginning
/// of a frame.
///
/// # Errors
/// For frames that no server under test sends (fragments, masked ones, those of extensions), and those
/// of `handle`.
pub(crate) fn scan(input: &[u8], mut handle: impl FnMut(Frame<'_>) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((header, length, opcode)) = head(&input[used..])? {
        let Some(payload) = input[used..].get(header..header + length) else { break };
        handle(Frame { opcode: OpCode::from(opcode), payload })?;
        used += header + length;
    }
    Ok(used)
}

/// Length of the header and of the payload, and the opcode, if the header is whole. For every delivery
/// of every listener: [`FrameHeader::parse`] takes nine times as long.
fn head(input: &[u8]) -> Result<Option<(usize, usize, u8)>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    ensure!(
        first & 0xf0 == 0x80 && second & 0x80 == 0,
        "the server sent a fragment, a masked frame or an extension's"
    );
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

/// A frame from a client. The mask is zero, which changes no byte; a server unmasks it all the same.
pub(crate) fn client_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    frame(FrameHeader { opcode, mask: Some([0; 4]), ..FrameHeader::default() }, payload)
}

/// A frame from a server.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
