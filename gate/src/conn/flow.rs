//! How the directions of a connection stand, and what is left of it.

use tokio::net::TcpStream;

use crate::backend::Stream;
use crate::metrics::Carried;

/// What has become of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// Its source has ended; what is pending and then the end itself are still to be delivered.
    /// With `complete`, TLS says so too (`close_notify`); without, the client can tell that the
    /// end is not the backend's word.
    Ending {
        complete: bool,
    },
    /// The end is delivered.
    Done,
    /// Its sink takes nothing any more, so what its source still sends is thrown away: left
    /// unread, it would block a source that has more to say in the other direction.
    Broken,
}

impl Flow {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Broken)
    }
}

/// The sockets after the relay; those whose input was not read to its end want lingering.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) client: Option<TcpStream>,
    pub(crate) backend: Option<Stream>,
    pub(crate) carried: Carried,
    pub(crate) cause: Cause,
    /// The backend ended it without a byte, although the client had sent some.
    pub(crate) unanswered: bool,
}

/// What ended a connection, of all that did the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Client,
    Backend,
    ClientGone,
    BackendGone,
    ClientFault,
    /// Of the client, after the backend's end.
    Silence,
    Stop,
}

impl Cause {
    /// As the access log has it.
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
