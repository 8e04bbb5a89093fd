use std::ops::ControlFlow;

use super::samples::client_frame;
use super::*;
use crate::limits;

fn record(event: &Event<'_>) -> String {
    match event {
        Event::Text(text) => format!("text {text}"),
        Event::Binary(bytes) => format!("binary {bytes:?}"),
        Event::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
        Event::Pong => "pong".into(),
        Event::Close(code) => format!("close {code:?}"),
    }
}

/// Decodes `bytes` in pieces of `size`.
fn decode_in_pieces(bytes: &[u8], size: usize) -> (Vec<String>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        let result = decoder.decode(Rules::SERVER, &mut piece.to_vec(), |event| {
            events.push(record(&event));
            ControlFlow::Continue(())
        });
        if let Err(violation) = result {
            return (events, Some(violation));
        }
    }
    (events, None)
}

fn violation(bytes: &[u8]) -> Violation {
    decode_in_pieces(bytes, bytes.len()).1.expect("a violation")
}

#[test]
fn pings_between_fragments() {
    let bytes = [
        client_frame(0x01, "Gl\u{fc}".as_bytes().split_last().unwrap().1),
        client_frame(0x89, b"p"),
        client_frame(0x00, &"\u{fc}".as_bytes()[1..]),
        client_frame(0x8a, b""),
        client_frame(0x80, b"ck"),
        client_frame(0x88, &1000u16.to_be_bytes()),
    ]
    .concat();
    for size in [1, 2, 3, 7, bytes.len()] {
        let (events, violation) = decode_in_pieces(&bytes, size);
        assert_eq!(violation, None);
        assert_eq!(events, ["ping p", "pong", "text Gl\u{fc}ck", "close Some(1000)"]);
    }
}

#[test]
fn what_rfc_6455_forbids() {
    assert_eq!(violation(&[0x81, 0x01, b'a']).code(), 1002); // unmasked
    assert_eq!(violation(&client_frame(0xc1, b"a")).code(), 1002); // reserved bit
    assert_eq!(violation(&client_frame(0x83, b"a")).code(), 1002); // reserved opcode
    assert_eq!(violation(&client_frame(0x80, b"a")).code(), 1002); // continues nothing
    assert_eq!(violation(&client_frame(0x09, b"")).code(), 1002); // fragmented ping
    assert_eq!(violation(&client_frame(0x89, &[0; 126])).code(), 1002); // long ping
    assert_eq!(violation(&client_frame(0x88, &[3])).code(), 1002); // half a close code
    assert_eq!(violation(&client_frame(0x88, &1005u16.to_be_bytes())).code(), 1002);
    assert_eq!(violation(&client_frame(0x88, &[3, 232, 0xff])).code(), 1007);
    assert_eq!(violation(&client_frame(0x82, b"a")).code(), 1003); // binary
    assert_eq!(violation(&client_frame(0x81, &[0xff])).code(), 1007); // not UTF-8
    let interrupted = [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat();
    assert_eq!(violation(&interrupted).code(), 1002);
}

/// Cases 6.4.1 and 6.4.2 of the Autobahn test suite: a peer that begins invalid text may never
/// finish the message.
#[test]
fn text_that_can_no_longer_become_utf_8_is_refused_at_once() {
    let begun = client_frame(0x01, b"\xce\xba\xf4");
    let (events, none) = decode_in_pieces(&begun, begun.len());
    assert_eq!((events.len(), none), (0, None));
    let hopeless = [begun.clone(), client_frame(0x00, b"\x90")].concat();
    assert_eq!(violation(&hopeless), Violation::NotUtf8);
    let hopeful = [begun, client_frame(0x00, b"\x8f\xbf"), client_frame(0x80, b"\xbf")].concat();
    let (events, none) = decode_in_pieces(&hopeful, 1);
    assert_eq!((events, none), (vec!["text \u{3ba}\u{10ffff}".to_owned()], None));
}

#[test]
fn binary_messages_where_they_are_taken() {
    let rules = Rules { binary: true, ..Rules::SERVER };
    let mut bytes = [client_frame(0x02, b"\xff"), client_frame(0x80, b"\xfe")].concat();
    let mut events = Vec::new();
    let mut decoder = Decoder::default();
    let result = decoder.decode(rules, &mut bytes, |event| {
        events.push(record(&event));
        ControlFlow::Continue(())
    });
    assert_eq!((result, events), (Ok(()), vec!["binary [255, 254]".to_owned()]));
}

#[test]
fn sizes_are_refused_by_the_header_alone() {
    let whole = client_frame(0x81, &vec![b'a'; limits::FRAME + 1]);
    assert_eq!(violation(&whole[..14]), Violation::TooLarge(limits::FRAME));
    let half = vec![b'a'; limits::FRAME / 2 + 1];
    let fragments = [client_frame(0x01, &half), client_frame(0x80, &half)].concat();
    assert_eq!(violation(&fragments[..fragments.len() - 1]), Violation::TooLarge(limits::FRAME));
    let endless = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(violation(&endless), Violation::TooLarge(limits::FRAME));
    // The length overflows when the bytes before it are added.
    let mut wrapping = client_frame(0x01, b"before");
    wrapping.extend([0x80, 0xff]);
    wrapping.extend((u64::MAX - 3).to_be_bytes());
    wrapping.extend([0; 4]);
    assert_eq!(violation(&wrapping), Violation::TooLarge(limits::FRAME));
    let mut wrapping = client_frame(0x01, &[b'a'; 200]);
    wrapping.extend([0x80, 0xff]);
    wrapping.extend((u64::MAX - 99).to_be_bytes());
    wrapping.extend([0; 4]);
    assert_eq!(violation(&wrapping), Violation::TooLarge(limits::FRAME));
    let (events, violation) =
        decode_in_pieces(&client_frame(0x81, &vec![b'a'; limits::FRAME]), 4096);
    assert_eq!((events.len(), violation), (1, None));
}

#[test]
fn a_break_keeps_the_rest() {
    let mut bytes = [client_frame(0x81, b"one"), client_frame(0x81, b"two")].concat();
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    let mut take_one = |decoder: &mut Decoder, input: &mut [u8]| {
        decoder
            .decode(Rules::SERVER, input, |event| {
                seen.push(record(&event));
                ControlFlow::Break(())
            })
            .unwrap();
    };
    take_one(&mut decoder, &mut bytes);
    assert!(decoder.has_rest());
    take_one(&mut decoder, &mut []);
    assert!(!decoder.has_rest());
    assert_eq!(seen, ["text one", "text two"]);
}

#[test]
fn an_idle_decoder_holds_no_buffer() {
    let mut decoder = Decoder::default();
    let bytes = client_frame(0x81, &[b'a'; 5000]);
    for piece in bytes.chunks(1000) {
        decoder.decode(Rules::SERVER, &mut piece.to_vec(), |_| ControlFlow::Continue(())).unwrap();
    }
    assert_eq!(decoder.held(), 0);
}

#[test]
fn frames_of_the_server() {
    assert_eq!(&text_frame("hi")[..], b"\x81\x02hi");
    assert_eq!(&text_frame(&"x".repeat(200))[..4], [0x81, 126, 0, 200]);
    assert_eq!(&close_frame(4000, "slow")[..], [&[0x88, 6, 0x0f, 0xa0], &b"slow"[..]].concat());
    assert!(close_frame(1002, &"\u{fc}".repeat(100)).len() <= 127);
}

#[test]
fn the_end_of_a_frame_in_a_joined_buffer() {
    let joined = [text_frame("one"), text_frame("three"), text_frame("x")].concat();
    let ends = [5, 12, 15];
    assert_eq!(end_of_frame_at(&joined, 0), 0);
    for offset in 1..=joined.len() {
        let expected = ends.into_iter().find(|end| *end >= offset).unwrap();
        assert_eq!(end_of_frame_at(&joined, offset), expected, "at {offset}");
    }
}
