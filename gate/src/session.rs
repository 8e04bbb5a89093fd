//! One connection, from accept to end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ServerConnection};
use shared::deadline::within;
use shared::linger::linger;
use socket2::TcpKeepalive;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use crate::Gate;
use crate::crowd::{Guest, Handshake};
use crate::error::Error;
use crate::metrics;
use crate::relay::{Carried, Relay};
use crate::tls::Served;

/// The content type of a TLS record that carries a handshake (RFC 8446, 5.1): what every TLS
/// connection begins with.
const HANDSHAKE: u8 = 0x16;

/// What a connection takes of the gate; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Arc<Gate>,
    _guest: Guest,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    pub(crate) fn new(gate: &Arc<Gate>, guest: Guest, place: OwnedSemaphorePermit) -> Self {
        gate.metrics.live.inc();
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
    tls: Secured,
    carried: Carried,
    ended: &'static str,
}

/// What is told of a handshake afterwards.
#[derive(Clone, Copy)]
struct Secured {
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
    let opened = tokio::select! {
        opened = Box::pin(open(gate, client, peer, handshake)) => opened,
        () = &mut turn => Err(Error::Stopping),
    };
    let (tls, relay) = opened?;
    let Some(mut relay) = relay else {
        return Ok(Told { tls, carried: Carried::default(), ended: "no backend" });
    };
    let meter = &gate.metrics.bytes;
    tokio::select! {
        () = relay.run(meter, gate.half_closed_timeout) => {}
        () = turn => {
            relay.close();
            relay.run(meter, gate.half_closed_timeout).await;
        }
    }
    let ended = relay.end();
    if ended.client.is_some() || ended.backend.is_some() {
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
    Ok(Told { tls, carried: ended.carried, ended: ended.cause.name() })
}

/// Handshake first, so that strangers open no connection to the backend. Without a relay, there
/// is no backend.
async fn open(
    gate: &Gate,
    client: TcpStream,
    peer: SocketAddr,
    mut counted: Handshake,
) -> Result<(Secured, Option<Relay>), Error> {
    let served = gate.served.load_full();
    let secured = tokio::select! {
        secured = within("the handshake", gate.handshake_timeout, handshake(client, &served)) => {
            secured.map_err(Error::Slow).flatten()
        }
        () = counted.overtaken() => Err(Error::Overtaken),
    };
    drop(counted);
    let (client, tls) = secured.inspect_err(|error| gate.metrics.failed(error))?;
    gate.metrics.completed(&tls);
    let secured = Secured {
        version: metrics::version(&tls),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let header = gate.backend.header(peer, &client, &tls);
    match gate.backend.connect(&header).await {
        Ok(backend) => Ok((secured, Some(Relay::new(client, tls, backend)))),
        Err(_told) => {
            gate.metrics.backend_errors.inc();
            let _ = within("closing", gate.handshake_timeout, turn_away(client, tls)).await;
            Ok((secured, None))
        }
    }
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

async fn handshake(
    client: TcpStream,
    served: &Served,
) -> Result<(TcpStream, ServerConnection), Error> {
    let mut first = [0];
    match client.peek(&mut first).await {
        Ok(1..) if first[0] == HANDSHAKE => {}
        Ok(1..) => {
            explain(client, served).await;
            return Err(Error::NotTls);
        }
        Ok(0) | Err(_) => return Err(Error::Left),
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&served.config));
    match acceptor.accept(client).into_fallible().await {
        Ok(stream) => Ok(stream.into_inner()),
        Err((error, client)) => {
            // The alert is written; it shall arrive.
            linger(&client).await;
            Err(Error::Handshake(error))
        }
    }
}

/// Tells a person who typed `http:` where to go. Nothing of the request is parsed.
async fn explain(mut client: TcpStream, served: &Served) {
    let Ok(local) = client.local_addr() else { return };
    let host = served.identity.host().map(str::to_owned).unwrap_or_else(|| match local {
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    });
    let page = page(&format!("https://{host}:{}/", local.port()));
    if client.write_all(page.as_bytes()).await.is_ok() {
        linger(&client).await;
    }
}

fn page(address: &str) -> String {
    // It comes from a certificate: nothing in it may end an attribute or a tag.
    let address: String =
        address.chars().filter(|c| c.is_ascii_alphanumeric() || "-._:/[]".contains(*c)).collect();
    let body = format!(
        "<!DOCTYPE html><title>400 Bad Request</title>\
         <p>This port speaks HTTPS. Use <a href=\"{address}\">{address}</a></p>\n"
    );
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Ends a connection for which there is no backend, in order, so that the client sees a server
/// that closes and not a network that fails.
async fn turn_away(client: TcpStream, mut tls: ServerConnection) {
    tls.send_close_notify();
    while tls.wants_write() && client.writable().await.is_ok() {
        match tls.write_tls(&mut NonBlocking(&client)) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
    linger(&client).await;
}

/// A socket as `std` writes to one.
struct NonBlocking<'a>(&'a TcpStream);

impl std::io::Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_exactly_as_long_as_it_says_and_quotes_nothing() {
        let page = page("https://shop.example\"><script>:9091/");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(body.contains("<a href=\"https://shop.examplescript:9091/\">"));
    }
}
