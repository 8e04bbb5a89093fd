//! The events and the errors of the decoder.

/// A whole message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message, assembled of its fragments.
    Text(&'a str),
    /// A binary message, assembled of its fragments; only if
    /// [`Rules::binary`](super::Rules::binary) is set.
    Binary(&'a [u8]),
    /// A ping with its payload, to be sent back.
    Ping(&'a [u8]),
    /// A pong: the peer lives.
    Pong,
    /// The peer closes, with this code if it gave one.
    Close(Option<u16>),
}

/// The peer broke the protocol; the connection is to be closed with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 does not allow it.
    #[error("{0}")]
    Protocol(&'static str),
    /// Only text is taken.
    #[error("binary frames are not accepted; send text")]
    Binary,
    /// Text that is not UTF-8.
    #[error("a text message that is not UTF-8")]
    NotUtf8,
    /// A frame, or the message assembled of fragments, is larger than this ([`Rules::largest`](super::Rules::largest)).
    #[error("a frame or message larger than {0} bytes")]
    TooLarge(usize),
}

impl Violation {
    /// The close code of RFC 6455 section 7.4.1.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLarge(_) => 1009,
        }
    }
}
