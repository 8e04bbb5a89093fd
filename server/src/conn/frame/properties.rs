//! Properties of the decoder, tested with random bytes that arrive in random pieces.

use proptest::prelude::*;

use super::model::{agree, decode, model};
use super::samples::{conversation, cut, sizes};
use super::*;
use crate::limits;

/// The limit is small, so that many messages exceed it.
const RULES: Rules = Rules { binary: true, largest: 300 };

fn at_once(rules: Rules, bytes: &[u8]) -> model::Outcome {
    decode(rules, std::iter::once(bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_make_no_difference(bytes in conversation(), sizes in sizes()) {
        prop_assert_eq!(decode(RULES, cut(&bytes, &sizes)), at_once(RULES, &bytes));
    }

    #[test]
    fn tungstenite_says_the_same(bytes in conversation()) {
        let (decoded, model) = (at_once(RULES, &bytes), model(RULES.largest, &bytes));
        prop_assert!(agree(&decoded, &model), "{decoded:?}, but the model says {model:?}");
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (decoded, model) = (at_once(RULES, &bytes), model(RULES.largest, &bytes));
        prop_assert!(agree(&decoded, &model), "{decoded:?}, but the model says {model:?}");
    }

    /// Compares the server's rules with rules that differ only in accepting binary messages.
    #[test]
    fn the_server_takes_text_alone(bytes in conversation(), sizes in sizes()) {
        let decoded = decode(Rules::SERVER, cut(&bytes, &sizes));
        let also_binary = at_once(Rules { binary: true, ..Rules::SERVER }, &bytes);
        match decoded.end {
            Some(1003) => prop_assert!(also_binary.messages.starts_with(&decoded.messages)),
            _ => prop_assert_eq!(decoded, also_binary),
        }
    }
}

/// Decodes the largest message as fragments and as one frame. The pieces have sizes that a socket
/// may return. `decode` checks the memory.
#[test]
fn the_largest_message_in_fragments() {
    let quarter = vec![b'x'; limits::FRAME / 4];
    let fragments = [0x01, 0x00, 0x00, 0x80].map(|first| samples::client_frame(first, &quarter));
    let bytes = [fragments.concat(), samples::client_frame(0x81, &quarter.repeat(4))].concat();
    for size in [1_000, 64 * 1024] {
        let outcome = decode(Rules::SERVER, bytes.chunks(size));
        assert_eq!((outcome.messages.len(), outcome.end), (2, None));
    }
}
