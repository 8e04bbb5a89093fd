//! A stand-in for a socket, for tests.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

/// A socket whose buffer has room for so many bytes.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    taken: Vec<u8>,
    room: usize,
    broken: bool,
}

impl Pipe {
    pub(crate) fn with_room(room: usize) -> Arc<Self> {
        let pipe = Self::default();
        pipe.state.lock().room = room;
        Arc::new(pipe)
    }

    pub(crate) fn make_room(&self, room: usize) {
        self.state.lock().room = room;
    }

    pub(crate) fn taken(&self) -> Vec<u8> {
        self.state.lock().taken.clone()
    }

    /// What it has taken after the first `skip` bytes.
    pub(crate) fn taken_after(&self, skip: usize) -> Vec<u8> {
        self.state.lock().taken[skip..].to_vec()
    }

    pub(crate) fn break_off(&self) {
        self.state.lock().broken = true;
    }
}

impl Pipe {
    /// As a socket does.
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
        state.taken.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
}
