//! A connection as hub and shards know it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::conn::outbox::Outbox;

/// The handle of one client: its number, its shard and its outbox.
#[derive(Debug)]
pub struct Connection {
    /// The number of the connection, unique within the process.
    pub number: u64,
    /// The shard that delivers to the connection.
    pub shard: usize,
    /// The outgoing side.
    pub outbox: Outbox,
    heard: AtomicBool,
}

impl Connection {
    /// `number` is unique within the process; `shard` delivers to the connection.
    pub fn new(number: u64, shard: usize, outbox: Outbox) -> Self {
        Self { number, shard, outbox, heard: AtomicBool::new(true) }
    }

    /// A connection to a peer that takes everything.
    #[cfg(test)]
    pub(crate) fn to_nobody(number: u64) -> Self {
        let socket = crate::conn::outbox::pipe::Pipe::with_room(usize::MAX);
        Self::new(number, 0, Outbox::new(socket, std::sync::Arc::default()))
    }

    /// Notes that the peer has sent a whole message, a ping or a pong. A fragment does not count.
    pub fn note_heard(&self) {
        // Read first, so that the cache line stays shared while the peer sends a lot.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the peer has sent anything whole since the last call.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}
