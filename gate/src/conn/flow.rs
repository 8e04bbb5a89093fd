//! The state of each direction, and how a connection ended.

use tokio::net::TcpStream;

use crate::backend::Stream;
use crate::metrics::Carried;

/// The state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// The source has ended. What is pending, and then the end, are still to be delivered. If
    /// `complete`, a `close_notify` precedes the end; otherwise the client can tell that the stream
    /// was cut off.
    Ending {
        complete: bool,
    },
    /// The end has been delivered.
    Done,
    /// The sink takes nothing any more. The bytes that the source still sends are read and
    /// discarded, because unread bytes would block a source that also has something to receive.
    Broken,
}

impl Flow {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Broken)
    }
}

/// The sockets that are left after the relay. A socket is here only if its input was not read to
/// the end: then its close must linger.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) client: Option<TcpStream>,
    pub(crate) backend: Option<Stream>,
    pub(crate) carried: Carried,
    pub(crate) cause: Cause,
    /// The backend closed the connection without sending a byte, although the client had sent some.
    pub(crate) unanswered: bool,
}

/// What ended a connection first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Client,
    Backend,
    ClientGone,
    BackendGone,
    ClientFault,
    /// The client sent nothing after the backend had ended.
    Silence,
    Stop,
}

impl Cause {
    /// The value of `ended` in the access log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "by the client",
            Self::Backend => "by the backend",
            Self::ClientGone => "client gone",
            Self::BackendGone => "backend gone",
            Self::ClientFault => "client broke TLS",
            Self::Silence => "client silent",
            Self::Stop => "gate stopped",
        }
    }
}
