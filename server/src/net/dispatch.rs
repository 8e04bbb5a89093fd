//! A connection that was let in, on its way to the thread that serves it.

use std::io;
use std::sync::Arc;

use shared::shutdown::Shutdown;
use shared::workers;
use tokio::net::{TcpStream, UnixStream};

use crate::http::{Site, Stream};
use crate::net::admission::ConnPermit;
use crate::net::listeners::{Arrival, Unregistered};
use crate::net::proxy_protocol;

/// How many connections more than another thread one may have: a delivery to listeners on one thread
/// costs a fifth less than to as many on two, which wake each other and contend for the kernel
/// (docs/internals.md). One that is busy hands on newcomers before that.
pub(crate) const MAX_IMBALANCE: usize = 8_192;

/// A connection that was accepted and has a permit.
#[derive(Debug)]
pub(crate) struct Accepted<A = Arrival> {
    pub(crate) arrival: A,
    pub(crate) permit: ConnPermit,
    pub(crate) site: Arc<Site>,
    pub(crate) shutdown: Shutdown,
}

impl<A> Accepted<A> {
    fn with<T>(self, change: impl FnOnce(A) -> io::Result<T>) -> io::Result<Accepted<T>> {
        let Self { arrival, permit, site, shutdown } = self;
        Ok(Accepted { arrival: change(arrival)?, permit, site, shutdown })
    }
}

impl<S: Stream> Accepted<S> {
    /// Finds out for whom the proxy connects, and serves that client.
    async fn serve_proxied(self, thread: usize) {
        let Self { arrival: mut stream, permit, site, shutdown } = self;
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

impl workers::Newcomer for Accepted {
    type Adrift = Accepted<Unregistered>;

    fn detach(self) -> io::Result<Self::Adrift> {
        self.with(|arrival| {
            Ok(match arrival {
                Arrival::Plain { stream, from } => {
                    Arrival::Plain { stream: stream.into_std()?, from }
                }
                Arrival::Proxied(stream) => Arrival::Proxied(stream.into_std()?),
                Arrival::Unix(stream) => Arrival::Unix(stream.into_std()?),
            })
        })
    }

    fn attach(adrift: Self::Adrift) -> io::Result<Self> {
        adrift.with(|arrival| {
            Ok(match arrival {
                Arrival::Plain { stream, from } => {
                    Arrival::Plain { stream: TcpStream::from_std(stream)?, from }
                }
                Arrival::Proxied(stream) => Arrival::Proxied(TcpStream::from_std(stream)?),
                Arrival::Unix(stream) => Arrival::Unix(UnixStream::from_std(stream)?),
            })
        })
    }

    /// Finds out who it is first.
    async fn serve(self, thread: usize) {
        let Self { arrival, permit, site, shutdown } = self;
        match arrival {
            Arrival::Plain { stream, from } => {
                let (address, lifetime) = ((!from.is_loopback()).then_some(from), permit.lifetime);
                site.serve(stream, address, lifetime, permit, thread, shutdown).await;
            }
            Arrival::Proxied(stream) => {
                Accepted { arrival: stream, permit, site, shutdown }.serve_proxied(thread).await;
            }
            Arrival::Unix(stream) => {
                Accepted { arrival: stream, permit, site, shutdown }.serve_proxied(thread).await;
            }
        }
    }
}
