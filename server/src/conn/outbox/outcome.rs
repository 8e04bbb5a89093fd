//! What the functions of an outbox return.

/// What became of pushed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The socket has them.
    Sent,
    /// They wait for the socket.
    Queued,
    /// More bytes wait than may: the client is closed as a slow consumer.
    Overflowed,
    /// The connection is closing or broken; nothing is written any more.
    Closed,
}

impl Pushed {
    /// Whether the bytes are written or will be.
    pub(crate) fn is_taken(self) -> bool {
        matches!(self, Self::Sent | Self::Queued)
    }
}

/// The close frame of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Its code.
    pub code: u16,
    /// Whether it answers the peer's close frame.
    pub by_peer: bool,
}

/// What the connection's task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nothing waits.
    Nothing,
    /// Bytes wait for the socket to become writable.
    Flush,
    /// A close frame is queued last, or already written: write what is left, then close.
    Close,
    /// The socket failed.
    Broken,
}
