//! Bytes that a socket has not taken yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// The unwritten bytes of one read. The size is bounded by the plaintext or ciphertext of one read,
/// because the owner reads nothing while bytes are pending.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Box<[u8]>,
    written: usize,
}

impl Pending {
    /// Appends `bytes` to the unwritten bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes = [&self.bytes[self.written..], bytes].concat().into_boxed_slice();
            self.written = 0;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes as many bytes as `stream` takes now, and frees the memory after the last byte.
    pub(crate) fn poll_write_to(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(stream).poll_write(cx, self.bytes()))?;
        self.advance(count);
        Poll::Ready(Ok(count))
    }

    /// The unwritten bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Removes the first `count` bytes after they were written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            *self = Self::default();
        }
    }
}
