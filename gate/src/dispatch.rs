//! An accepted connection on its way to the thread that serves it.

use std::io;
use std::net::{SocketAddr, TcpStream};

use shared::accept::Unregistered;
use shared::workers::Serve;

use crate::conn::{self, ConnPermit};
use crate::limits::HandshakeGuard;

/// The accepting thread keeps new connections until it has 64 connections more than another thread.
/// So many connections usually use a small part of a thread, and two half-idle threads use a fifth
/// more CPU time than a single busy one (docs/internals.md).
pub(crate) const MAX_IMBALANCE: usize = 64;

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) client: Unregistered<TcpStream>,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: ConnPermit,
    pub(crate) handshake: HandshakeGuard,
}

impl Serve for Accepted {
    fn serve(self, _thread: usize) -> impl Future<Output = io::Result<()>> + Send + 'static {
        conn::serve(self.client, self.peer, self.permit, self.handshake)
    }
}
