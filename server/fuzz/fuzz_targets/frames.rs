//! Whatever a client's bytes are and however they are cut, they are decoded as tungstenite decodes
//! them, without a panic and in bounded memory. The first byte tells the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::{Decoder, Event, Rules};

#[path = "../../src/conn/frame/model.rs"]
mod model;

/// Small, so that messages that are too large come up often.
const RULES: Rules = Rules { binary: true, largest: 300 };

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let decoded = model::decode(RULES, std::iter::once(bytes));
    let model = model::model(RULES.largest, bytes);
    assert!(model::agree(&decoded, &model), "{decoded:?}, but the model says {model:?}");
    let in_pieces = model::decode(RULES, bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(in_pieces, decoded);
});
