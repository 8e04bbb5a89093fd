//! Messages on their way to listeners, and several of them as one write.

use std::time::Instant;

use bytes::Bytes;

use crate::entry::Target;
use crate::id::Address;

/// A message on its way to those whom it concerns.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) seq: u64,
    pub(super) target: Target,
    pub(super) except: Option<u64>,
    pub(super) kept: bool,
    pub(super) frame: Bytes,
    pub(super) received: Option<Instant>,
}

impl Delivery {
    pub(super) fn concerns(&self, connection: u64, address: Option<Address>) -> bool {
        let meant = match self.target {
            Target::Everyone => true,
            Target::One(person) => address == Some(person),
        };
        meant && self.except != Some(connection)
    }
}

/// Several frames as one buffer; a single one as it is.
pub(super) fn join(mut frames: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = frames.next() else { return Bytes::new() };
    let Some(second) = frames.next() else { return first };
    let frames: Vec<Bytes> = [first, second].into_iter().chain(frames).collect();
    frames.concat().into()
}
