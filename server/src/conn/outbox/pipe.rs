//! A simulated socket for tests.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

/// A socket whose send buffer has a given capacity.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    taken: Vec<u8>,
    /// How many writes took at least one byte.
    writes: usize,
    room: usize,
    broken: bool,
    peer: Option<PipePeer>,
}

/// A peer that sends and reads in pieces.
#[derive(Debug)]
struct PipePeer {
    pieces: VecDeque<Vec<u8>>,
    /// Whether the first piece can be read.
    has_come: bool,
    /// How many bytes the peer reads at once.
    appetite: usize,
}

impl Pipe {
    pub(crate) fn with_room(room: usize) -> Arc<Self> {
        let pipe = Self::default();
        pipe.state.lock().room = room;
        Arc::new(pipe)
    }

    /// A socket whose peer sends these pieces and then ends its side. A piece arrives when the
    /// piece before it was read. The peer reads `appetite` bytes at a time.
    pub(crate) fn with_peer(pieces: VecDeque<Vec<u8>>, appetite: usize) -> Arc<Self> {
        let pipe = Self::default();
        pipe.state.lock().peer = Some(PipePeer { pieces, has_come: false, appetite });
        Arc::new(pipe)
    }

    pub(crate) fn make_room(&self, room: usize) {
        self.state.lock().room = room;
    }

    pub(crate) fn taken(&self) -> Vec<u8> {
        self.state.lock().taken.clone()
    }

    /// The written bytes, without the first `skip` bytes.
    pub(crate) fn taken_after(&self, skip: usize) -> Vec<u8> {
        self.state.lock().taken[skip..].to_vec()
    }

    /// How many bytes were written.
    pub(crate) fn length(&self) -> usize {
        self.state.lock().taken.len()
    }

    /// How many writes took at least one byte.
    pub(crate) fn writes(&self) -> usize {
        self.state.lock().writes
    }

    pub(crate) fn break_off(&self) {
        self.state.lock().broken = true;
    }
}

/// The operations of a socket.
impl Pipe {
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = bytes.len().min(state.room);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.room -= length;
        state.writes += 1;
        state.taken.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// Like a socket whose peer reads later: the first poll of a full socket is pending and makes
    /// the peer read.
    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        if state.room > 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(peer) = &state.peer {
            state.room = peer.appetite;
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Like a socket whose peer sends later: the first poll is pending and makes a piece arrive.
    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        let Some(peer) = &mut state.peer else { return Poll::Pending };
        if std::mem::replace(&mut peer.has_come, true) {
            return Poll::Ready(Ok(()));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let Some(peer) = state.peer.as_mut().filter(|peer| peer.has_come) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let Some(mut piece) = peer.pieces.pop_front() else { return Ok(0) };
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        if length < piece.len() {
            peer.pieces.push_front(piece.split_off(length));
        } else {
            peer.has_come = false;
        }
        Ok(length)
    }
}
