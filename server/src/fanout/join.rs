//! Joins frames into one write.

use bytes::Bytes;

/// Joins frames into one buffer. A single frame is not copied.
pub(super) fn join(mut frames: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = frames.next() else { return Bytes::new() };
    let Some(second) = frames.next() else { return first };
    let frames: Vec<Bytes> = [first, second].into_iter().chain(frames).collect();
    frames.concat().into()
}
