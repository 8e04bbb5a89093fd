//! What the parts behind the socket know of a connection.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::conn::outbox::Outbox;

/// One client, as hub and shards see it: a number, a place, a way out.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    shard: usize,
    outbox: Outbox,
    heard: AtomicBool,
}

impl Connection {
    /// A connection with a number of its own, served by this shard.
    #[must_use]
    pub fn new(number: u64, shard: usize, outbox: Outbox) -> Self {
        Self { number, shard, outbox, heard: AtomicBool::new(true) }
    }

    /// One to a peer that takes everything.
    #[cfg(test)]
    pub(crate) fn to_nobody(number: u64) -> Self {
        let socket = crate::conn::outbox::pipe::Pipe::with_room(usize::MAX);
        Self::new(number, 0, Outbox::new(socket, std::sync::Arc::default()))
    }

    /// Different for every connection of the process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The shard that serves it, from its first registration to its end.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Its way out.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Notes that the peer has said something whole: a message, a ping or a pong. A piece of a message
    /// that others must follow is nothing yet.
    pub fn note_heard(&self) {
        // Read first: the cache line stays shared while the peer is chatty.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Whether anything whole came since this was asked last.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}
