//! An accepted connection on its way to the thread that serves it.

use std::io;
use std::net::SocketAddr;

use shared::workers;
use tokio::net::TcpStream;

use crate::conn::{self, ConnPermit};
use crate::limits::HandshakeGuard;

/// How many connections more than another thread one may have. One carries more than 64 connections
/// usually bring, and two that are half asleep cost a fifth more CPU (docs/internals.md).
pub(crate) const MAX_IMBALANCE: usize = 64;

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub(crate) struct Accepted<S = TcpStream> {
    pub(crate) client: S,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: ConnPermit,
    pub(crate) handshake: HandshakeGuard,
}

impl<S> Accepted<S> {
    fn with<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Accepted<T>> {
        let Self { client, peer, permit, handshake } = self;
        Ok(Accepted { client: change(client)?, peer, permit, handshake })
    }
}

impl workers::Newcomer for Accepted {
    type Adrift = Accepted<std::net::TcpStream>;

    fn detach(self) -> io::Result<Self::Adrift> {
        self.with(TcpStream::into_std)
    }

    fn attach(adrift: Self::Adrift) -> io::Result<Self> {
        adrift.with(TcpStream::from_std)
    }

    fn serve(self, _thread: usize) -> impl Future<Output = ()> + Send + 'static {
        conn::serve(self.client, self.peer, self.permit, self.handshake)
    }
}
