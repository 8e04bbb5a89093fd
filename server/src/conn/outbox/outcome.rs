//! What an outbox answers.

/// What became of pushed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The socket has them.
    Sent,
    /// They wait for the socket.
    Queued,
    /// They were one too many: the client is being closed as a slow consumer.
    Overflowed,
    /// The connection is closing or broken; nothing is written any more.
    Closed,
}

impl Pushed {
    /// Whether the client gets them, as far as this side can tell.
    #[must_use]
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Sent | Self::Queued)
    }
}

/// How a connection is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The code of this side's close frame.
    pub code: u16,
    /// Whether it answers one of the peer.
    pub by_peer: bool,
}

/// What the connection's task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nothing waits.
    Nothing,
    /// Bytes wait for the socket to become writable.
    Flush,
    /// As `Flush`, or nothing waits any more; the last of the bytes is a close frame.
    Close,
    /// The socket failed.
    Broken,
}
