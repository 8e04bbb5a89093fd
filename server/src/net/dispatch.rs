//! An accepted connection on its way to the thread that serves it.

use std::io;
use std::sync::Arc;

use shared::shutdown::Shutdown;
use shared::workers::Serve;

use crate::http::{Site, Stream};
use crate::net::admission::ConnPermit;
use crate::net::listeners::AcceptedSocket;
use crate::net::proxy_protocol;

/// How many more connections one thread may have than another. A delivery to listeners on one
/// thread costs a fifth less than to as many on two, which wake each other and contend for the
/// kernel (docs/internals.md). A busy thread hands on connections before that.
pub(crate) const MAX_IMBALANCE: usize = 8_192;

/// A connection that was accepted and has a permit.
#[derive(Debug)]
pub(crate) struct Accepted<I = AcceptedSocket> {
    pub(crate) incoming: I,
    pub(crate) permit: ConnPermit,
    pub(crate) site: Arc<Site>,
    pub(crate) shutdown: Shutdown,
}

impl<S: Stream> Accepted<S> {
    /// Reads from the proxy for whom it connects, and serves that client.
    async fn serve_proxied(self, thread: usize) {
        let Self { incoming: mut stream, permit, site, shutdown } = self;
        match proxy_protocol::read_header(&mut stream, &shutdown).await {
            Some(address) => {
                let lifetime = permit.lifetime;
                site.serve(stream, address, lifetime, permit, thread, shutdown).await;
            }
            None => {
                site.service.counters.without_proxy_header.inc();
            }
        }
    }
}

impl Serve for Accepted {
    async fn serve(self, thread: usize) -> io::Result<()> {
        let Self { incoming, permit, site, shutdown } = self;
        match incoming {
            AcceptedSocket::Direct { socket, from } => {
                let stream = socket.register()?;
                let (address, lifetime) = ((!from.is_loopback()).then_some(from), permit.lifetime);
                site.serve(stream, address, lifetime, permit, thread, shutdown).await;
            }
            AcceptedSocket::Proxied(socket) => {
                let incoming = socket.register()?;
                Accepted { incoming, permit, site, shutdown }.serve_proxied(thread).await;
            }
            AcceptedSocket::Unix(socket) => {
                let incoming = socket.register()?;
                Accepted { incoming, permit, site, shutdown }.serve_proxied(thread).await;
            }
        }
        Ok(())
    }
}
