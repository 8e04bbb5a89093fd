//! A connection that was let in, on its way to the thread that serves it.

use std::io;
use std::sync::Arc;

use shared::shutdown::Shutdown;
use shared::workers;
use tokio::net::{TcpStream, UnixStream};

use crate::door::Place;
use crate::http::{Site, Stream};
use crate::listeners::{Adrift, Arrival};
use crate::proxied;

/// How many connections more than another thread one may have: a delivery to listeners on one thread
/// costs a fifth less than to as many on two, which wake each other and contend for the kernel
/// (docs/internals.md). One that is busy hands on newcomers before that.
pub(crate) const AHEAD: usize = 8_192;

/// A connection that was accepted and has a place.
#[derive(Debug)]
pub(crate) struct Newcomer<A = Arrival> {
    pub(crate) arrival: A,
    pub(crate) place: Place,
    pub(crate) site: Arc<Site>,
    pub(crate) shutdown: Shutdown,
}

impl<A> Newcomer<A> {
    fn with<T>(self, change: impl FnOnce(A) -> io::Result<T>) -> io::Result<Newcomer<T>> {
        let Self { arrival, place, site, shutdown } = self;
        Ok(Newcomer { arrival: change(arrival)?, place, site, shutdown })
    }
}

impl<S: Stream> Newcomer<S> {
    /// Finds out for whom the proxy connects, and serves that client.
    async fn serve_introduced(self, thread: usize) {
        let Self { arrival: mut stream, place, site, shutdown } = self;
        match proxied::introduced(&mut stream, &shutdown).await {
            Some(address) => {
                let stay = place.stay;
                site.serve(stream, address, stay, place, thread, shutdown).await;
            }
            None => {
                site.service.metrics.unintroduced.inc();
            }
        }
    }
}

impl workers::Newcomer for Newcomer {
    type Adrift = Newcomer<Adrift>;

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
        let Self { arrival, place, site, shutdown } = self;
        match arrival {
            Arrival::Plain { stream, from } => {
                let (address, stay) = ((!from.is_loopback()).then_some(from), place.stay);
                site.serve(stream, address, stay, place, thread, shutdown).await;
            }
            Arrival::Proxied(stream) => {
                Newcomer { arrival: stream, place, site, shutdown }.serve_introduced(thread).await;
            }
            Arrival::Unix(stream) => {
                Newcomer { arrival: stream, place, site, shutdown }.serve_introduced(thread).await;
            }
        }
    }
}
