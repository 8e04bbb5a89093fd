//! The decoder decodes any bytes, in pieces of any size, as tungstenite does, without a panic and
//! in bounded memory. The first byte is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::{Decoder, Event, Rules};

#[path = "../../src/conn/frame/model.rs"]
mod model;

/// The limit is small, so that many messages exceed it.
const RULES: Rules = Rules { binary: true, largest: 300 };

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let decoded = model::decode(RULES, std::iter::once(bytes));
    let model = model::model(RULES.largest, bytes);
    assert!(model::agree(&decoded, &model), "{decoded:?}, but the model says {model:?}");
    let in_pieces = model::decode(RULES, bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(in_pieces, decoded);
});
