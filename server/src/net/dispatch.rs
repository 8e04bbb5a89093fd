//! Moves an accepted connection to the thread that serves it.

use std::io;
use std::sync::Arc;

use shared::shutdown::Shutdown;
use shared::workers::Serve;

use crate::http::{Site, Stream};
use crate::net::admission::ConnPermit;
use crate::net::listeners::AcceptedSocket;
use crate::net::proxy_protocol;

/// How many more connections the accepting thread may have than another. A delivery to listeners on
/// one thread costs a fifth less than to the same number on two threads, which wake each other and
/// compete in the kernel (docs/internals.md). A busy thread passes connections on earlier.
pub(crate) const MAX_IMBALANCE: usize = 8_192;

/// A connection that was accepted and has a permit.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) incoming: AcceptedSocket,
    pub(crate) permit: ConnPermit,
    pub(crate) site: Arc<Site>,
    pub(crate) shutdown: Shutdown,
}

/// Reads the client's address in the PROXY header, and serves the client.
async fn serve_proxied(
    mut stream: impl Stream,
    permit: ConnPermit,
    site: Arc<Site>,
    thread: usize,
    shutdown: Shutdown,
) {
    let Some(address) = proxy_protocol::read_header(&mut stream, &shutdown).await else {
        site.service.counters.without_proxy_header.inc();
        return;
    };
    site.serve(stream, address, permit.lifetime, permit, thread, shutdown).await;
}

impl Serve for Accepted {
    async fn serve(self, thread: usize) -> io::Result<()> {
        let Self { incoming, permit, site, shutdown } = self;
        match incoming {
            AcceptedSocket::Direct { socket, from } => {
                let stream = socket.register()?;
                let address = (!from.is_loopback()).then_some(from);
                site.serve(stream, address, permit.lifetime, permit, thread, shutdown).await;
            }
            AcceptedSocket::Proxied(socket) => {
                serve_proxied(socket.register()?, permit, site, thread, shutdown).await;
            }
            AcceptedSocket::Unix(socket) => {
                serve_proxied(socket.register()?, permit, site, thread, shutdown).await;
            }
        }
        Ok(())
    }
}
