//! Messages that come in several frames (RFC 6455 section 5.4).

use super::{Event, Violation};

/// The fragments so far of an unfinished message.
#[derive(Debug)]
pub(super) struct Fragments {
    pub(super) is_binary: bool,
    pub(super) payload: Vec<u8>,
    /// How much of a text's payload is known to be whole characters.
    checked: usize,
}

impl Fragments {
    pub(super) fn new(is_binary: bool) -> Self {
        Self { is_binary, payload: Vec::new(), checked: 0 }
    }

    /// Text that can no longer become UTF-8 is refused at once (RFC 6455 section 8.1), not only
    /// when the peer has sent the rest of it.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.payload.extend_from_slice(piece);
        if self.is_binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            // A character that the next fragment may complete.
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
