//! Generates valid and invalid frames of clients.

use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) use super::client::client_frame;

/// Messages and control frames, some of them in fragments, and sometimes invalid bytes.
pub(crate) fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        20 => message(),
        5 => control(),
        1 => (any::<u8>(), payload()).prop_map(|(first, payload)| client_frame(first, &payload)),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(step, 0..8).prop_map(|steps| steps.concat())
}

/// The sizes of the pieces in which the bytes arrive. After the last size the first follows again.
pub(crate) fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1usize..40, 1..6)]
}

/// Cuts `bytes` into pieces of these sizes.
pub(crate) fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |size| {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => ".{0,40}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..150),
        1 => (250usize..330).prop_map(|length| vec![b'x'; length]),
    ]
}

/// A message. It may consist of fragments that split characters, with pings between them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let pings = prop::option::of(vec(any::<u8>(), 0..10));
    (prop_oneof![4 => Just(1), 1 => Just(2)], payload(), vec(0usize..150, 0..4), pings).prop_map(
        |(opcode, payload, mut cuts, ping)| {
            cuts.retain(|cut| *cut <= payload.len());
            cuts.push(payload.len());
            cuts.sort_unstable();
            let (mut frames, mut from) = (Vec::new(), 0);
            for (index, to) in cuts.iter().enumerate() {
                let is_final = index + 1 == cuts.len();
                let first = if index == 0 { opcode } else { 0 } | u8::from(is_final) << 7;
                frames.extend(client_frame(first, &payload[from..*to]));
                from = *to;
                if let Some(ping) = ping.as_ref().filter(|_| !is_final) {
                    frames.extend(client_frame(0x89, ping));
                }
            }
            frames
        },
    )
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    let close = (prop_oneof![990u16..1020, any::<u16>()], payload()).prop_map(|(code, reason)| {
        let payload = [&code.to_be_bytes()[..], &reason].concat();
        client_frame(0x88, &payload)
    });
    prop_oneof![
        4 => vec(any::<u8>(), 0..130).prop_map(|payload| client_frame(0x89, &payload)),
        4 => vec(any::<u8>(), 0..130).prop_map(|payload| client_frame(0x8a, &payload)),
        1 => close,
        1 => Just(client_frame(0x88, b"")),
    ]
}
