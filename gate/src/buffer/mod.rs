//! Buffers. Each thread has one set of buffers. Each connection stores only the bytes that a socket
//! has not taken yet.

mod pending;
mod scratch;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use pending::Pending;
pub(crate) use scratch::{CHUNK, Output, RECORD, Scratch, with};

/// Reads the bytes that have arrived. tokio's `poll_read` often detects without a second system
/// call that no bytes are left, and counts the read towards the task's cooperative budget.
pub(crate) fn read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
