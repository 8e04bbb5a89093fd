//! The state of each direction of a connection, and how the connection ended.

use tokio::net::TcpStream;

use crate::backend::Stream;
use crate::metrics::Carried;

/// The state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// The source has ended. The gate must still deliver the pending bytes and then the end. If
    /// `complete` is true, the gate sends a `close_notify` before the end. Otherwise the client can
    /// tell that the stream was cut off.
    Ending {
        complete: bool,
    },
    /// The end has been delivered.
    Done,
    /// The receiver takes no more bytes. The gate still reads from the source and discards the
    /// bytes: a source that cannot write may also stop reading, which would block the other
    /// direction.
    Broken,
}

impl Flow {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Broken)
    }
}

/// The state of a connection after the relay. A socket is `Some` only if its input was not read to
/// the end. Such a socket must be closed with `linger`.
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
    /// The client sent nothing for too long after the backend had ended its side.
    Silence,
    Stop,
}

impl Cause {
    /// The value of the field `ended` in the access log.
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
