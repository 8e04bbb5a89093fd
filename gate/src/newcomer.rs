//! A client that was let in, on its way to the thread that serves it.

use std::io;
use std::net::SocketAddr;

use shared::workers;
use tokio::net::TcpStream;

use crate::crowd::Handshake;
use crate::session::{self, Seat};

/// How many connections more than another thread one may have. One carries more than 64 connections
/// usually bring, and two that are half asleep cost a fifth more CPU (docs/internals.md).
pub(crate) const AHEAD: usize = 64;

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub(crate) struct Newcomer<S = TcpStream> {
    pub(crate) client: S,
    pub(crate) peer: SocketAddr,
    pub(crate) seat: Seat,
    pub(crate) handshake: Handshake,
}

impl<S> Newcomer<S> {
    fn with<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Newcomer<T>> {
        let Self { client, peer, seat, handshake } = self;
        Ok(Newcomer { client: change(client)?, peer, seat, handshake })
    }
}

impl workers::Newcomer for Newcomer {
    type Adrift = Newcomer<std::net::TcpStream>;

    fn detach(self) -> io::Result<Self::Adrift> {
        self.with(TcpStream::into_std)
    }

    fn attach(adrift: Self::Adrift) -> io::Result<Self> {
        adrift.with(TcpStream::from_std)
    }

    fn serve(self, _thread: usize) -> impl Future<Output = ()> + Send + 'static {
        session::serve(self.client, self.peer, self.seat, self.handshake)
    }
}
