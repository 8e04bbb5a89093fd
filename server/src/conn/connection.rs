//! The handle of a connection, which the hub and the shards use.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::conn::outbox::Outbox;

/// The handle of one client: its number, its shard and its outbox.
#[derive(Debug)]
pub struct Connection {
    /// The number of the connection, unique within the process.
    pub number: u64,
    /// The index of the shard that delivers to the connection.
    pub shard: usize,
    /// The outbox, which all writes to the socket go through.
    pub outbox: Outbox,
    heard: AtomicBool,
}

impl Connection {
    /// Creates a handle. `number` is unique within the process; `shard` is the index of the shard
    /// that delivers to the connection.
    pub fn new(number: u64, shard: usize, outbox: Outbox) -> Self {
        Self { number, shard, outbox, heard: AtomicBool::new(true) }
    }

    /// A connection whose peer reads everything.
    #[cfg(test)]
    pub(crate) fn to_nobody(number: u64) -> Self {
        let socket = crate::conn::outbox::pipe::Pipe::with_room(usize::MAX);
        Self::new(number, 0, Outbox::new(socket, std::sync::Arc::default()))
    }

    /// Notes that the peer has sent a whole message, a ping or a pong. A fragment does not count.
    pub fn note_heard(&self) {
        // The flag is read first, because a write on every message would take the cache line from
        // other cores.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the peer has sent a whole message, a ping or a pong since the last call.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}
