//! WebSocket frames (RFC 6455 section 5), as far as the load needs them.

use anyhow::{Result, bail};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A whole frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
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
        handle(Frame { opcode, payload })?;
        used += header + length;
    }
    Ok(used)
}

/// Length of the header and of the payload, and the opcode, if the header is whole.
fn head(input: &[u8]) -> Result<Option<(usize, usize, u8)>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        bail!("the server sent a fragment, a masked frame or an extension's");
    }
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
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, payload.len(), MASKED);
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A frame from a server.
pub(crate) fn server_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(TEXT, payload.len(), 0);
    frame.extend(payload);
    frame
}

const MASKED: u8 = 0x80;

fn header(opcode: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
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
