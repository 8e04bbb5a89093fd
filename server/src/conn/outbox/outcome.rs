//! The return types of an outbox.

/// The result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The socket took all bytes.
    Sent,
    /// Some of the bytes wait for the socket.
    Queued,
    /// More bytes wait than the limit: the client is closed as a slow consumer.
    Overflowed,
    /// The connection is closing or broken; the bytes are dropped.
    Closed,
}

impl Pushed {
    /// Whether the bytes are written, or queued for the socket.
    pub(crate) fn is_taken(self) -> bool {
        matches!(self, Self::Sent | Self::Queued)
    }
}

/// The close frame of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The close code.
    pub code: u16,
    /// Whether the frame answers a close frame of the peer.
    pub by_peer: bool,
}

/// The next work for the connection's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nothing waits for the socket.
    Nothing,
    /// Bytes wait for the socket to become writable.
    Flush,
    /// A close frame is queued last, or already written: write what is left, then close.
    Close,
    /// The socket failed.
    Broken,
}
