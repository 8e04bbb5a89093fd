//! Messages that come in several frames (RFC 6455 section 5.4).

use super::event::{Event, Violation};

/// The fragments of an unfinished message so far.
#[derive(Debug)]
pub(super) struct Fragments {
    pub(super) is_binary: bool,
    pub(super) payload: Vec<u8>,
    /// How many bytes of a text message are known to be valid UTF-8.
    checked: usize,
}

impl Fragments {
    pub(super) fn new(is_binary: bool) -> Self {
        Self { is_binary, payload: Vec::new(), checked: 0 }
    }

    /// Appends a fragment. Invalid UTF-8 is refused before the message is complete (RFC 6455
    /// section 8.1).
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.payload.extend_from_slice(piece);
        if self.is_binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            // The next fragment may complete the character.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }
}

pub(super) fn message(is_binary: bool, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match is_binary {
        true => Ok(Event::Binary(payload)),
        false => text(payload).map(Event::Text),
    }
}

pub(super) fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)
}
