//! One connection, from accept to end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use shared::deadline::within;
use shared::linger::linger;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::Gate;
use crate::channel::Channel;
use crate::crowd::{Guest, Handshake};
use crate::error::Error;
use crate::handshake::handshake;
use crate::metrics;
use crate::relay::{Carried, Cause, Ended, Relay};
use crate::scratch;

/// What a connection takes of the gate; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Arc<Gate>,
    _guest: Guest,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    pub(crate) fn new(gate: &Arc<Gate>, guest: Guest, place: OwnedSemaphorePermit) -> Self {
        gate.metrics.begins();
        Self { gate: Arc::clone(gate), _guest: guest, _place: place }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.metrics.live.dec();
    }
}

/// Serves one client and says in the log how that ended: at `info`, by the target `access`, for
/// those who completed the handshake, and at `debug` for strangers.
pub(crate) async fn serve(client: TcpStream, peer: SocketAddr, seat: Seat, handshake: Handshake) {
    let begun = Instant::now();
    let ended = forward(&seat.gate, client, peer, handshake).await;
    drop(seat);
    match ended {
        Ok(Told { tls, carried, ended }) => tracing::info!(
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
}

/// What is told of a connection afterwards.
struct Told {
    tls: Tls,
    carried: Carried,
    ended: &'static str,
}

/// What is told of a handshake afterwards.
#[derive(Clone, Copy)]
struct Tls {
    version: &'static str,
    resumed: bool,
}

async fn forward(
    gate: &Gate,
    client: TcpStream,
    peer: SocketAddr,
    handshake: Handshake,
) -> Result<Told, Error> {
    let mut turn = pin!(gate.drain.turn());
    // Boxed apart: the handshake needs far more room than the relay, which lives far longer.
    let (tls, opened) = Box::pin(open(gate, client, peer, handshake, turn.as_mut())).await?;
    let mut relay = match opened {
        Ok(relay) => relay,
        Err(ended) => return Ok(Told { tls, carried: Carried::default(), ended }),
    };
    let meter = &gate.metrics.bytes;
    let patience = gate.half_closed_timeout;
    let mut asked = false;
    let its_turn = poll_fn(|cx| {
        // Once for the waker. To ask at every event would take the lock of all connections.
        if asked && !gate.drain.has_begun() {
            return Poll::Pending;
        }
        asked = true;
        turn.as_mut().poll(cx)
    });
    tokio::select! {
        biased;
        () = relay.run(meter, patience) => {}
        () = its_turn => {
            relay.close(Cause::Stop);
            relay.run(meter, patience).await;
        }
    }
    let ended = relay.end();
    if ended.unanswered {
        gate.backend.closed_without_answer(meter.answered());
    }
    let told = Told { tls, carried: ended.carried, ended: ended.cause.name() };
    // Boxed for the same reason: it is short, and the relay long.
    Box::pin(close(ended)).await;
    Ok(told)
}

/// Closes the sockets in such a way that the last words arrive.
async fn close(ended: Ended) {
    tokio::join!(
        async {
            if let Some(client) = ended.client {
                linger(&client).await;
            }
        },
        async {
            if let Some(backend) = ended.backend {
                backend.linger().await;
            }
        }
    );
}

/// Handshake first, so that strangers open no connection to the backend. Without a relay, what
/// ended the connection instead. `turn` has ended only if there is none.
async fn open(
    gate: &Gate,
    client: TcpStream,
    peer: SocketAddr,
    mut counted: Handshake,
    mut turn: Pin<&mut impl Future<Output = ()>>,
) -> Result<(Tls, Result<Box<Relay>, &'static str>), Error> {
    let served = gate.served.load_full();
    let secured = tokio::select! {
        biased;
        secured = within("the handshake", gate.handshake_timeout, handshake(client, &served)) => {
            secured.map_err(Error::Slow).flatten()
        }
        () = counted.overtaken() => Err(Error::Overtaken),
        () = &mut turn => Err(Error::Stopping),
    };
    drop(counted);
    let secured = secured.inspect_err(|error| gate.metrics.failed(error))?;
    let tls = secured.channel.negotiated();
    gate.metrics.completed(tls);
    let told = Tls {
        version: metrics::version(tls),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let header = gate.backend.header(peer, &secured.client, tls);
    let connected = tokio::select! {
        biased;
        connected = gate.backend.connect(&header) => connected,
        () = &mut turn => Err(Error::Stopping),
    };
    let ended = match connected {
        Ok(backend) => return Ok((told, Ok(Box::new(Relay::new(secured, backend))))),
        Err(Error::Stopping) => Cause::Stop.name(),
        Err(_told) => {
            gate.metrics.backend_errors.inc();
            "no backend"
        }
    };
    let closing = turn_away(secured.client, secured.channel);
    let _ = within("closing", gate.handshake_timeout, closing).await;
    Ok((told, Err(ended)))
}

/// Keepalive and a limit on unacknowledged data find peers that are gone, and leave alone those
/// that are silent: a person may read a page for hours. Clients have both from the listening
/// socket.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// Ends a connection for which there is no backend, in order, so that the client sees a server
/// that closes and not a network that fails.
async fn turn_away(mut client: TcpStream, mut channel: Channel) {
    let sent = poll_fn(|cx| {
        scratch::with(|scratch| {
            channel.say_end(&mut scratch.output);
            channel.send(&mut client, cx, &mut scratch.output);
        });
        channel.poll_flush(&mut client, cx)
    });
    if sent.await.is_ok() {
        linger(&client).await;
    }
}
