//! One connection, from accept to close.

mod close;
mod flow;
mod https_hint;
mod relay;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustls::HandshakeKind;
use shared::accept::Unregistered;
use shared::deadline::within;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::Error;
use crate::gate::{Gate, Served};
use crate::limits::{ConnGuard, HandshakeGuard};
use crate::metrics::Carried;
use crate::tls::{Secured, handshake, names};
use close::{close, close_without_backend};
use flow::Cause;
use https_hint::send_hint;
use relay::Relay;

/// A connection's share of the limits and counts. Dropping the permit gives the share back.
#[derive(Debug)]
pub(crate) struct ConnPermit {
    gate: Arc<Gate>,
    _guard: ConnGuard,
    _permit: OwnedSemaphorePermit,
}

impl ConnPermit {
    pub(crate) fn new(gate: &Arc<Gate>, guard: ConnGuard, permit: OwnedSemaphorePermit) -> Self {
        gate.metrics.opened();
        Self { gate: Arc::clone(gate), _guard: guard, _permit: permit }
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.gate.metrics.live.dec();
    }
}

/// Serves one client and logs how the connection ended. If the client completed the handshake, the
/// log line has level `info` and target `access`; otherwise the log line has level `debug`.
///
/// # Errors
/// An error of tokio if the runtime of this thread cannot register the socket.
pub(crate) async fn serve(
    client: Unregistered<std::net::TcpStream>,
    peer: SocketAddr,
    permit: ConnPermit,
    handshake: HandshakeGuard,
) -> io::Result<()> {
    let client = client.register()?;
    let begun = Instant::now();
    let ended = forward(&permit.gate, client, peer, handshake).await;
    drop(permit);
    match ended {
        Ok(AccessRecord { tls, carried, ended }) => tracing::info!(
            target: "access",
            %peer,
            ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            to_backend = carried.to_backend,
            to_client = carried.to_client,
            tls = tls.version,
            resumed = tls.resumed,
            ended,
        ),
        Err(error) => tracing::debug!(%peer, lasted = ?begun.elapsed(), "ended: {error}"),
    }
    Ok(())
}

/// The fields of the access log line of a connection.
struct AccessRecord {
    tls: TlsSummary,
    carried: Carried,
    ended: &'static str,
}

/// The TLS fields of the access log line.
#[derive(Clone, Copy)]
struct TlsSummary {
    version: &'static str,
    resumed: bool,
}

async fn forward(
    gate: &Gate,
    client: TcpStream,
    peer: SocketAddr,
    handshake: HandshakeGuard,
) -> Result<AccessRecord, Error> {
    let mut close_slot = pin!(gate.drain.close_slot());
    // The future of the handshake is boxed, and the box is freed after the handshake. The handshake
    // needs far more memory than the relay, and the relay runs far longer.
    let (tls, opened) = Box::pin(open(gate, client, peer, handshake, close_slot.as_mut())).await?;
    let mut relay = match opened {
        Ok(relay) => relay,
        Err(ended) => return Ok(AccessRecord { tls, carried: Carried::default(), ended }),
    };
    let meter = &gate.metrics.bytes;
    let mut polled = false;
    let slot_reached = poll_fn(|cx| {
        // `close_slot` is polled once to register the waker, and again only after the stop signal,
        // because each poll takes a lock that all connections share.
        if polled && !gate.drain.has_begun() {
            return Poll::Pending;
        }
        polled = true;
        close_slot.as_mut().poll(cx)
    });
    tokio::select! {
        biased;
        () = relay.run(meter, gate.half_closed_timeout) => {}
        () = slot_reached => {
            relay.close(Cause::Stop);
            relay.run(meter, gate.half_closed_timeout).await;
        }
    }
    let ended = relay.into_ended();
    if ended.unanswered {
        gate.backend.closed_unanswered(meter.answered());
    }
    let record = AccessRecord { tls, carried: ended.carried, ended: ended.cause.name() };
    // The future of `close` is boxed, so that it takes no memory during the long relay.
    Box::pin(close(ended)).await;
    Ok(record)
}

/// Completes the handshake and then connects to the backend, so that a client without TLS causes no
/// connection to the backend. If the backend cannot be reached, the inner `Err` is the value of
/// `ended` for the access log.
///
/// After an error, `close_slot` may have completed, so it must not be polled again.
async fn open(
    gate: &Gate,
    client: TcpStream,
    peer: SocketAddr,
    mut guard: HandshakeGuard,
    mut close_slot: Pin<&mut impl Future<Output = ()>>,
) -> Result<(TlsSummary, Result<Box<Relay>, &'static str>), Error> {
    let served = gate.served.load_full();
    let secured = tokio::select! {
        biased;
        secured = within("the handshake", gate.handshake_timeout, secure(client, &served)) => {
            secured.map_err(Error::Slow).flatten()
        }
        () = guard.evicted() => Err(Error::Evicted),
        () = &mut close_slot => Err(Error::Stopping),
    };
    drop(guard);
    let (client, secured) = secured.inspect_err(|error| gate.metrics.failed(error))?;
    let tls = secured.session.negotiated();
    gate.metrics.completed(tls);
    let summary = TlsSummary {
        version: names::negotiated_version(tls),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let header = gate.backend.header(peer, &client, tls);
    let connected = tokio::select! {
        biased;
        connected = gate.backend.connect(&header) => connected,
        () = &mut close_slot => Err(Error::Stopping),
    };
    let ended = match connected {
        Ok(backend) => return Ok((summary, Ok(Box::new(Relay::new(client, secured, backend))))),
        Err(Error::Stopping) => Cause::Stop.name(),
        Err(_logged) => {
            gate.metrics.backend_errors.inc();
            "no backend"
        }
    };
    let closing = close_without_backend(client, secured.session);
    let _ = within("closing", gate.handshake_timeout, closing).await;
    Ok((summary, Err(ended)))
}

/// Does the TLS handshake. A client that speaks plain HTTP gets the page with the https address.
async fn secure(mut client: TcpStream, served: &Served) -> Result<(TcpStream, Secured), Error> {
    match handshake(&mut client, &served.config).await {
        Ok(secured) => Ok((client, secured)),
        Err(error) => {
            if matches!(error, Error::NotTls) {
                send_hint(&mut client, served.identity.host.as_deref()).await;
            }
            Err(error)
        }
    }
}
