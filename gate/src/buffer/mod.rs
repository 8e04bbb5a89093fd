//! Buffers: one set for each thread, and for each connection the bytes that a socket has not taken
//! yet.

mod pending;
mod scratch;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use pending::Pending;
pub(crate) use scratch::{CHUNK, Output, RECORD, Scratch, with};

/// Reads the bytes that have arrived. tokio's `poll_read` often needs no second system call to
/// learn that nothing is left, and counts the read towards the task's cooperative budget.
pub(crate) fn read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
