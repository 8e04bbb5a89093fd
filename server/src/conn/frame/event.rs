//! The events and the errors of the decoder.

/// A whole message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message. Its fragments are joined.
    Text(&'a str),
    /// A binary message. Its fragments are joined. Occurs only if
    /// [`Rules::binary`](super::Rules::binary) is set.
    Binary(&'a [u8]),
    /// A ping. Its payload must be sent back in a pong.
    Ping(&'a [u8]),
    /// A pong, which shows that the peer still answers.
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// The peer broke the protocol. The connection must be closed with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 forbids the frame; the text names the fault.
    #[error("{0}")]
    Protocol(&'static str),
    /// A binary frame, although only text is accepted.
    #[error("binary frames are not accepted; send text")]
    Binary,
    /// Text that is not UTF-8.
    #[error("a text message that is not UTF-8")]
    NotUtf8,
    /// A frame or a joined message has more bytes than this limit,
    /// [`Rules::largest`](super::Rules::largest).
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
